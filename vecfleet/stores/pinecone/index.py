"""Pinecone's data plane: one index. Each call is one attempt; waiting and retrying is the caller's.

Ids are listed, and records read and written, over the bytes lane if there is one. All else, and records that the lane
cannot read, go through the SDK over REST.
"""

from collections.abc import Sequence

from pinecone import Index
from pinecone.models.response_info import ResponseInfo

from vecfleet import logs
from vecfleet.errors import TimedOut, TooLarge, WrongKind
from vecfleet.names import DEFAULT, canonical
from vecfleet.records import FLOAT32_BYTES, Record
from vecfleet.settings import FETCH_BYTES
from vecfleet.stores import rules
from vecfleet.stores.base import Fetched, IdPage, IndexInfo, Kind, Limits, Match, Matches, Usage, Written
from vecfleet.stores.pinecone import bytes_lane
from vecfleet.stores.pinecone import records as wire
from vecfleet.stores.pinecone.aliases import NamespaceAliases
from vecfleet.stores.pinecone.bytes_lane import BytesLane
from vecfleet.stores.pinecone.clients import PerProcess
from vecfleet.stores.pinecone.errors import AbsentNamespace, UnreadableRecord, translated
from vecfleet.stores.pinecone.namespaces import NamespacedIndex
from vecfleet.stores.room import FetchRoom

log = logs.get_logger("vecfleet.pinecone")

# The service's limit. A fetch over REST asks for fewer: its ids stand in the URL.
LANE_FETCH_IDS = 1_000


class PineconeIndex(NamespacedIndex):
    """One open index of vectors. Clients are made per process, so an instance may be carried across a fork."""

    def __init__(
        self,
        info: IndexInfo,
        client: PerProcess[Index],
        lane: BytesLane | None = None,
        aliases: NamespaceAliases | None = None,
        fetch_bytes: int = FETCH_BYTES,
    ) -> None:
        super().__init__(info, client, aliases)
        self.limits = Limits() if lane is None else Limits(fetch_ids=LANE_FETCH_IDS)
        self._lane = lane
        self._room = FetchRoom(self.limits.fetch_ids, fetch_bytes, FLOAT32_BYTES * (info.dimension or 0))

    @property
    def fetch_room(self) -> int:
        return self._room.ids if self._lane is not None else self.limits.fetch_ids

    def list_ids(
        self, namespace: str, token: str | None = None, limit: int | None = None, prefix: str | None = None
    ) -> IdPage:
        if self.info.kind is Kind.POD:
            raise WrongKind(
                f"the pod index {self.info.name!r} cannot list its ids", next_step="name an id source: `--ids FILE`"
            )
        limit = self.limits.list_ids if limit is None else limit
        try:
            if self._lane is not None:
                return _page(self._lane.list_ids(wire_name(namespace), prefix, limit, token))
            with translated(f"list the ids of {namespace!r}"):
                page = self._client.get().list_paginated(
                    namespace=wire_name(namespace), prefix=prefix, limit=limit, pagination_token=token
                )
        except AbsentNamespace:
            return IdPage([], None, Usage(requests=1))
        ids = [item.id for item in page.vectors if item.id is not None]
        units = page.usage.read_units if page.usage is not None else None
        egress = _egress(page.response_info) or sum(map(len, ids))
        following = page.pagination.next if page.pagination is not None else None
        return IdPage(ids, following or None, Usage(1, read_units=1.0 if units is None else units, egress_bytes=egress))

    def fetch(self, namespace: str, ids: Sequence[str]) -> Fetched:
        """Fetch in as many requests as the limit on ids requires, and over REST the length of a URL.

        The service refuses a whole request for one id that no record can have. Such an id is not there.
        """
        ids = list(filter(rules.may_be_name, ids))
        if self._lane is None:
            return self._fetch_text(namespace, ids)
        records: dict[str, Record] = {}
        usage = Usage()
        for start in range(0, len(ids), self.limits.fetch_ids):
            part = self._fetch_bytes(self._lane, namespace, ids[start : start + self.limits.fetch_ids])
            records |= part.records
            usage += part.usage
        return Fetched(records, usage)

    def _fetch_bytes(self, lane: BytesLane, namespace: str, ids: Sequence[str]) -> Fetched:
        try:
            answer = lane.fetch(wire_name(namespace), ids)
        except AbsentNamespace:
            return Fetched({}, Usage(requests=1))
        except (TimedOut, TooLarge):
            self._room.was_too_much()
            raise
        self._room.answered(len(answer.records), answer.answer_bytes)
        self._seen_records += len(answer.records)
        self._seen_bytes += answer.answer_bytes
        units = rules.fetch_units(len(answer.records)) if answer.read_units is None else answer.read_units
        fetched = Fetched(answer.records, Usage(1, read_units=units, egress_bytes=answer.answer_bytes))
        if not answer.unreadable:
            return fetched
        log.info("read through the SDK instead", records=len(answer.unreadable), why="not plain packed values")
        others = self._fetch_text(namespace, answer.unreadable)
        return Fetched(answer.records | others.records, fetched.usage + others.usage)

    def _fetch_text(self, namespace: str, ids: Sequence[str]) -> Fetched:
        records: dict[str, Record] = {}
        usage = Usage()
        for part_ids in wire.query_sized(ids, self.limits.fetch_ids):
            part = self._fetch(namespace, part_ids)
            records |= part.records
            usage += part.usage
        return Fetched(records, usage)

    def upsert(self, namespace: str, records: Sequence[Record]) -> Written:
        if not records:
            return Written(0)
        doing = f"upsert into {namespace!r}"
        self._check_count(doing, len(records), self.limits.upsert_records)
        for record in records:  # one record's fault; a later error about dimensions is the index's
            rules.check_dimension(record, self.info)
        if self._lane is not None:
            return self._upsert_bytes(self._lane, namespace, records)
        self._check_size(doing, wire.body_bytes(records))
        vectors = [wire.to_vector(record) for record in records]
        with translated(doing):
            answer = self._client.get().upsert(vectors=vectors, namespace=wire_name(namespace))
        info = answer.response_info
        return Written(
            answer.upserted_count,
            info.lsn_committed if info is not None else None,
            Usage(requests=1, write_units=rules.write_units(self._billed(records))),
        )

    def _upsert_bytes(self, lane: BytesLane, namespace: str, records: Sequence[Record]) -> Written:
        rules.check_numbers(records)
        size = self._billed(records)  # before it is sent: values without JSON are refused
        count = lane.upsert(wire_name(namespace), records, self.limits.upsert_bytes)
        return Written(count, usage=Usage(requests=1, write_units=rules.write_units(size)))

    def delete(self, namespace: str, ids: Sequence[str]) -> Usage:
        """Delete the ids. The write units are estimated by the mean size of the records seen: the service tells
        neither.
        """
        if not ids:
            return Usage()
        doing = f"delete {len(ids):,} records from {namespace!r}"
        self._check_count(doing, len(ids), self.limits.delete_ids)
        try:
            with translated(doing):
                self._client.get().delete(ids=ids, namespace=wire_name(namespace))
        except AbsentNamespace:
            return Usage(requests=1)
        return self._deletion(len(ids))

    def query(self, namespace: str, like: Record, top_k: int) -> Matches:
        sparse = wire.to_sparse(like.sparse) if like.sparse is not None and len(like.sparse) else None
        try:
            with translated(f"query {namespace!r}"):
                answer = self._client.get().query(
                    namespace=wire_name(namespace), top_k=top_k, vector=wire.values_text(like), sparse_vector=sparse
                )
        except AbsentNamespace:
            return Matches([], Usage(requests=1))
        units = answer.usage.read_units if answer.usage is not None else None
        info = answer.response_info
        usage = Usage(
            1,
            read_units=rules.MIN_QUERY_UNITS if units is None else units,
            egress_bytes=_egress(info) or sum(len(match.id) for match in answer.matches),
        )
        matches = [Match(match.id, match.score) for match in answer.matches]
        return Matches(matches, usage, info.lsn_reconciled if info is not None else None)

    def request_bytes(self, record: Record) -> int:
        return wire.request_bytes(record) if self._lane is None else bytes_lane.request_bytes(record)

    def normalise(self, record: Record) -> Record:
        return rules.normalise(record)

    def _fetch(self, namespace: str, ids: list[str]) -> Fetched:
        try:
            with translated(f"fetch {len(ids):,} records of {namespace!r}"):
                answer = self._client.get().fetch(ids=ids, namespace=wire_name(namespace))
        except AbsentNamespace:
            return Fetched({}, Usage(requests=1))
        except UnreadableRecord:
            return self._fetch_around(namespace, ids)
        records = {id: wire.to_record(vector) for id, vector in answer.vectors.items()}
        size = self._billed(list(records.values()))
        units = answer.usage.read_units if answer.usage is not None else None
        return Fetched(
            records,
            Usage(
                requests=1,
                read_units=rules.fetch_units(len(records)) if units is None else units,
                egress_bytes=_egress(answer.response_info) or size,
            ),
        )

    def _fetch_around(self, namespace: str, ids: list[str]) -> Fetched:
        """Read a page in which one record has neither values nor sparse values: the SDK refuses the whole page.

        Halves are read until the record stands alone; it is given back empty, which no store takes.
        """
        if len(ids) == 1:
            return Fetched({ids[0]: Record(ids[0], b"")}, Usage(requests=1, read_units=1.0))
        middle = len(ids) // 2
        left, right = self._fetch(namespace, ids[:middle]), self._fetch(namespace, ids[middle:])
        return Fetched(left.records | right.records, left.usage + right.usage + Usage(requests=1, read_units=1.0))

    def _check_size(self, doing: str, size: int) -> None:
        if size > self.limits.upsert_bytes:
            raise TooLarge(f"will not {doing}: {size:,} bytes are over the {self.limits.upsert_bytes:,} of a request")


def _page(listed: bytes_lane.Listed) -> IdPage:
    units = 1.0 if listed.read_units is None else listed.read_units
    return IdPage(listed.ids, listed.next_token, Usage(1, read_units=units, egress_bytes=listed.answer_bytes))


def wire_name(namespace: str) -> str:
    """Return the name on the wire: the default namespace is empty, which every version of the API takes for vectors."""
    return "" if canonical(namespace) == DEFAULT else namespace


def _egress(info: ResponseInfo | None) -> int:
    """Return the bytes of an answer's body, or 0 if its headers do not say."""
    length = info.raw_headers.get("content-length", "") if info is not None else ""
    return int(length) if length.isdecimal() else 0
