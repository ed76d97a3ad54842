"""Pinecone's documents API: one document index. Each call is one attempt; waiting and retrying is the caller's.

The SDK would make a Python object of each value of an answer at once; here a record's are made and packed before the
next one's.
"""

import struct
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import orjson
from pinecone import Index

from vecfleet.errors import TimedOut, TooLarge, WrongKind
from vecfleet.names import canonical
from vecfleet.records import Record
from vecfleet.settings import FETCH_BYTES
from vecfleet.stores import document_text, rules
from vecfleet.stores.base import Fetched, IdPage, IndexInfo, Limits, Match, Matches, Usage, Written
from vecfleet.stores.document_text import ID
from vecfleet.stores.documents import DENSE_TYPE, SPARSE_TYPE, Layout
from vecfleet.stores.pinecone.aliases import NamespaceAliases
from vecfleet.stores.pinecone.clients import PerProcess
from vecfleet.stores.pinecone.errors import AbsentNamespace, of_status, require_ok, translated
from vecfleet.stores.pinecone.namespaces import NamespacedIndex
from vecfleet.stores.room import FetchRoom

SCORE = "_score"
_FETCH_IDS = 1_000
_VALUE_BYTES = 20  # of a value's text in an answer: a float64, and a comma


class _Usage(msgspec.Struct):
    read_units: float | None = None
    egress_bytes: float | None = None


class _Listed(msgspec.Struct):
    id: str = msgspec.field(name=ID)


class _Following(msgspec.Struct):
    next: str | None = None


class _Page(msgspec.Struct):
    documents: list[_Listed]
    usage: _Usage | None = None
    pagination: _Following | None = None


class _Documents(msgspec.Struct):
    documents: dict[str, dict[str, msgspec.Raw]]
    usage: _Usage | None = None


class _Match(msgspec.Struct):
    id: str = msgspec.field(name=ID)
    score: float = msgspec.field(name=SCORE)


class _Matches(msgspec.Struct):
    matches: list[_Match]
    usage: _Usage | None = None


# Made once, by the importing thread: msgspec (0.22) crashes if two threads let it meet a class at once.
_PAGE, _DOCUMENTS, _MATCHES = map(msgspec.json.Decoder, (_Page, _Documents, _Matches))


class DocumentIndex(NamespacedIndex):
    """One open document index. Clients are made per process, so an instance may be carried across a fork."""

    def __init__(
        self,
        info: IndexInfo,
        layout: Layout,
        client: PerProcess[Index],
        http: PerProcess[httpx.Client],
        aliases: NamespaceAliases,
        fetch_bytes: int = FETCH_BYTES,
    ) -> None:
        super().__init__(info, client, aliases)
        self.limits = Limits(fetch_ids=_FETCH_IDS, metadata_bytes=layout.metadata_bytes)
        self._layout = layout
        self._http = http
        self._room = FetchRoom(_FETCH_IDS, fetch_bytes, _VALUE_BYTES * (info.dimension or 0))

    @property
    def fetch_room(self) -> int:
        return self._room.ids

    def list_ids(
        self, namespace: str, token: str | None = None, limit: int | None = None, prefix: str | None = None
    ) -> IdPage:
        asked = {"limit": self.limits.list_ids if limit is None else limit, "prefix": prefix, "pagination_token": token}
        body = {name: value for name, value in asked.items() if value is not None}
        doing = f"list the ids of {namespace!r}"
        try:
            answer = self._post(namespace, "list", orjson.dumps(body), doing)
        except AbsentNamespace:
            return IdPage([], None, Usage(requests=1))
        page: _Page = _read(_PAGE, answer, doing)
        following = page.pagination.next if page.pagination is not None else None
        return IdPage([document.id for document in page.documents], following or None, _usage(answer, page.usage, 1.0))

    def fetch(self, namespace: str, ids: Sequence[str]) -> Fetched:
        """Fetch in as many requests as the limit on ids requires. An id that no record can have is not there."""
        ids = list(filter(rules.may_be_name, ids))
        records: dict[str, Record] = {}
        usage = Usage()
        for start in range(0, len(ids), self.limits.fetch_ids):
            part = self._fetch(namespace, ids[start : start + self.limits.fetch_ids])
            records |= part.records
            usage += part.usage
        return Fetched(records, usage)

    def _fetch(self, namespace: str, ids: Sequence[str]) -> Fetched:
        doing = f"fetch {len(ids):,} documents of {namespace!r}"
        try:
            answer = self._post(namespace, "fetch", orjson.dumps({"ids": list(ids)}), doing)
        except AbsentNamespace:
            return Fetched({}, Usage(requests=1))
        except (TimedOut, TooLarge):
            self._room.was_too_much()
            raise
        found: _Documents = _read(_DOCUMENTS, answer, doing)
        try:
            records = {id: document_text.read(self._layout, id, fields) for id, fields in found.documents.items()}
        except (ValueError, TypeError, KeyError, OverflowError, struct.error) as error:
            raise of_status(500, "its answer holds a document that cannot be read", doing) from error
        self._room.answered(len(records), len(answer.content))
        self._billed(list(records.values()))
        return Fetched(records, _usage(answer, found.usage, rules.fetch_units(len(records))))

    def upsert(self, namespace: str, records: Sequence[Record]) -> Written:
        if not records:
            return Written(0)
        doing = f"upsert into {namespace!r}"
        self._check_count(doing, len(records), self.limits.upsert_records)
        body = b'{"documents":[' + b",".join(map(self._document, records)) + b"]}"
        if len(body) > self.limits.upsert_bytes:
            most = self.limits.upsert_bytes
            raise TooLarge(f"will not {doing}: {len(body):,} bytes are over the {most:,} of a request")
        answer = self._post(namespace, "upsert", body, doing)
        size = self._billed(records)
        usage = Usage(requests=1, write_units=rules.write_units(size))
        return Written(len(records), _sequence(answer, "x-pinecone-request-lsn"), usage)

    def delete(self, namespace: str, ids: Sequence[str]) -> Usage:
        """Delete the ids. The write units are estimated by the mean size of the records seen: the service tells
        neither.
        """
        if not ids:
            return Usage()
        doing = f"delete {len(ids):,} documents from {namespace!r}"
        self._check_count(doing, len(ids), self.limits.delete_ids)
        try:
            self._post(namespace, "delete", orjson.dumps({"ids": list(ids)}), doing)
        except AbsentNamespace:
            return Usage(requests=1)
        return self._deletion(len(ids))

    def query(self, namespace: str, like: Record, top_k: int) -> Matches:
        """Return the nearest by dense or by sparse values. Raises WrongKind for both: no search scores by both."""
        sparse = like.sparse if like.sparse is not None and len(like.sparse) else None
        if sparse is not None and like.values:
            raise WrongKind(
                "a document index is searched by dense or by sparse values, not by both at once",
                next_step="ask with one of them",
            )
        clause: dict[str, Any] = {
            "type": DENSE_TYPE,
            "field": self._layout.dense,
            "values": document_text.values(like.values),
        }
        if sparse is not None:
            weights = document_text.weights(sparse)
            clause = {"type": SPARSE_TYPE, "field": self._layout.sparse, "sparse_values": weights}
        doing = f"search {namespace!r}"
        try:
            answer = self._post(namespace, "search", orjson.dumps({"score_by": [clause], "top_k": top_k}), doing)
        except AbsentNamespace:
            return Matches([], Usage(requests=1))
        found: _Matches = _read(_MATCHES, answer, doing)
        matches = [Match(match.id, match.score) for match in found.matches]
        usage = _usage(answer, found.usage, rules.MIN_QUERY_UNITS)
        return Matches(matches, usage, _sequence(answer, "x-pinecone-max-indexed-lsn"))

    def request_bytes(self, record: Record) -> int:
        return len(self._document(record)) + len(",")

    def normalise(self, record: Record) -> Record:
        return rules.normalise(record)

    def _document(self, record: Record) -> bytes:
        return document_text.write(self._layout, record)

    def _post(self, namespace: str, operation: str, body: bytes, doing: str) -> httpx.Response:
        path = f"/namespaces/{quote(canonical(namespace), safe='')}/documents/{operation}"
        with translated(doing):
            answer = self._http.get().post(path, content=body, headers={"Content-Type": "application/json"})
        require_ok(answer, doing)
        return answer


def _read(decoder: "msgspec.json.Decoder[Any]", answer: httpx.Response, doing: str) -> Any:
    try:
        return decoder.decode(answer.content)
    except msgspec.DecodeError as error:
        raise of_status(500, "its answer cannot be read", doing) from error


def _usage(answer: httpx.Response, told: _Usage | None, estimated_units: float) -> Usage:
    units, egress = (told.read_units, told.egress_bytes) if told is not None else (None, None)
    return Usage(
        1, read_units=estimated_units if units is None else units, egress_bytes=int(egress or len(answer.content))
    )


def _sequence(answer: httpx.Response, header: str) -> int | None:
    told = answer.headers.get(header, "")
    return int(told) if told.isdecimal() else None
