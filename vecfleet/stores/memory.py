"""A store in memory with Pinecone's limits, refusals, billing and answers, for tests and rehearsals."""

import threading
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vecfleet.errors import BadRequest, Conflict, Missing, TooLarge, WrongKind
from vecfleet.names import DEFAULT, canonical
from vecfleet.records import Record
from vecfleet.stores import paging, rules
from vecfleet.stores.base import (
    Fetched,
    IdPage,
    IndexInfo,
    Kind,
    Limits,
    Match,
    Matches,
    NamespaceInfo,
    Usage,
    Written,
)
from vecfleet.stores.documents import Layout

MAX_TOP_K = 10_000


class MemoryStore:
    """Indexes by name. `open` returns the one index that every caller shares."""

    name = "memory"

    def __init__(self) -> None:
        self._indexes: dict[str, MemoryIndex] = {}
        self._lock = threading.Lock()

    def create(self, info: IndexInfo, limits: Limits | None = None) -> "MemoryIndex":
        """Make an index of Pinecone's limits, except that reads show each write at once.

        Raises Conflict if the name is taken.
        """
        with self._lock:
            if info.name in self._indexes:
                raise Conflict(f"the index {info.name!r} exists already")
            index = self._indexes[info.name] = MemoryIndex(info, limits or Limits(reads_lag=False))
        return index

    def indexes(self) -> list[IndexInfo]:
        return [self._indexes[name].info for name in sorted(self._indexes)]

    def describe(self, index: str) -> IndexInfo:
        return self._index(index).info

    def create_like(self, name: str, source: IndexInfo, cloud: str | None, region: str | None) -> IndexInfo:
        if source.kind is Kind.DOCUMENT:
            raise WrongKind(f"the index {source.name!r} holds documents")
        like = replace(source, name=name, host="", cloud=cloud or source.cloud, region=region or source.region)
        return self.create(like).info

    def open(self, info: IndexInfo) -> "MemoryIndex":
        return self._index(info.name)

    def _index(self, name: str) -> "MemoryIndex":
        try:
            return self._indexes[name]
        except KeyError:
            raise Missing(f"there is no index {name!r}; there are: {', '.join(sorted(self._indexes))}") from None


@dataclass(slots=True)
class _Namespace:
    schema: Mapping[str, Any] | None = None
    records: dict[str, Record] = field(default_factory=dict)
    writes: int = 0
    _sorted: list[str] | None = None

    def ids(self) -> list[str]:
        if self._sorted is None:
            self._sorted = sorted(self.records)  # ids are ASCII: by character is by byte
        return self._sorted

    def changed(self) -> int:
        self._sorted = None
        self.writes += 1
        return self.writes


class MemoryIndex:
    """One index: its namespaces, behind one lock."""

    def __init__(self, info: IndexInfo, limits: Limits) -> None:
        self.info = info
        self.limits = limits
        self._namespaces: dict[str, _Namespace] = {}
        self._lock = threading.RLock()

    @property
    def fetch_room(self) -> int:
        return self.limits.fetch_ids

    def namespaces(self) -> Iterator[NamespaceInfo]:
        with self._lock:
            infos = [self._describe(name) for name in sorted(self._namespaces)]
        yield from infos

    def namespace(self, name: str) -> NamespaceInfo | None:
        with self._lock:
            return self._describe(canonical(name)) if canonical(name) in self._namespaces else None

    def create_namespace(self, name: str, schema: Mapping[str, Any] | None) -> bool:
        rules.check_name("a namespace name", name)
        with self._lock:
            if name == DEFAULT or name in self._namespaces:
                return False
            self._namespaces[name] = _Namespace(schema)
            return True

    def delete_namespace(self, name: str) -> Usage:
        with self._lock:
            gone = self._namespaces.pop(canonical(name), None)
        return Usage(requests=1, write_units=rules.MIN_WRITE_UNITS if gone is not None else 0.0)

    def list_ids(
        self, namespace: str, token: str | None = None, limit: int | None = None, prefix: str | None = None
    ) -> IdPage:
        limit = self.limits.list_ids if limit is None else limit
        if not 1 <= limit <= self.limits.list_ids:
            raise BadRequest(f"a page holds 1 to {self.limits.list_ids} ids, not {limit}")
        if self.info.kind is Kind.POD:
            raise WrongKind("a pod index cannot list its ids")
        after = paging.last_id(token) if token is not None else ""
        with self._lock:
            space = self._namespaces.get(canonical(namespace))
            ids = space.ids() if space is not None else []
            start = bisect_right(ids, after)
            matching = (id for id in ids[start:] if prefix is None or id.startswith(prefix))
            page = [id for id, _ in zip(matching, range(limit + 1), strict=False)]
        more = len(page) > limit
        following = paging.token_after(page[limit - 1]) if more else None
        return IdPage(page[:limit], following, Usage(requests=1, read_units=1.0))

    def fetch(self, namespace: str, ids: Sequence[str]) -> Fetched:
        if not ids:
            return Fetched({})
        with self._lock:
            space = self._namespaces.get(canonical(namespace))
            held = space.records if space is not None else {}
            records = {id: held[id] for id in ids if id in held}
        requests = -(-len(ids) // self.limits.fetch_ids)
        units = max(float(requests), len(records) / rules.FETCHES_PER_READ_UNIT)
        egress = sum(map(rules.billed_bytes, records.values()))
        return Fetched(records, Usage(requests, read_units=units, egress_bytes=egress))

    def upsert(self, namespace: str, records: Sequence[Record]) -> Written:
        if not records:
            return Written(0)
        rules.check_name("a namespace name", canonical(namespace))
        if len(records) > self.limits.upsert_records:
            raise TooLarge(f"an upsert takes {self.limits.upsert_records:,} records, not {len(records):,}")
        size = sum(map(self.request_bytes, records))
        if size > self.limits.upsert_bytes:
            raise TooLarge(f"an upsert takes {self.limits.upsert_bytes:,} bytes, not {size:,}")
        for record in records:
            self._check(record)
        with self._lock:
            space = self._namespaces.setdefault(canonical(namespace), _Namespace())
            replaced = sum(
                rules.billed_bytes(space.records[record.id]) for record in records if record.id in space.records
            )
            space.records.update((record.id, self.normalise(record)) for record in records)
            sequence = space.changed()
        return Written(
            len(records), sequence, Usage(requests=1, write_units=rules.write_units(size) + replaced / 1_000)
        )

    def delete(self, namespace: str, ids: Sequence[str]) -> Usage:
        if not ids:
            return Usage()
        if len(ids) > self.limits.delete_ids:
            raise TooLarge(f"a delete takes {self.limits.delete_ids:,} ids, not {len(ids):,}")
        with self._lock:
            space = self._namespaces.get(canonical(namespace))
            if space is None:
                return Usage(requests=1)
            gone = [record for id in ids if (record := space.records.pop(id, None)) is not None]
            space.changed()
        return Usage(requests=1, write_units=rules.write_units(sum(map(rules.billed_bytes, gone))))

    def query(self, namespace: str, like: Record, top_k: int) -> Matches:
        if not 1 <= top_k <= MAX_TOP_K:
            raise BadRequest(f"a query answers with 1 to {MAX_TOP_K:,} matches, not {top_k:,}")
        with self._lock:
            space = self._namespaces.get(canonical(namespace))
            held = list(space.records.values()) if space is not None else []
            lsn = space.writes if space is not None else None
        matches = [Match(record.id, _score(like, record, self.info.metric)) for record in held]
        nearest_first = 1 if self.info.metric == "euclidean" else -1
        matches.sort(key=lambda match: (nearest_first * match.score, match.id))
        return Matches(matches[:top_k], Usage(requests=1, read_units=0.25), lsn)

    def request_bytes(self, record: Record) -> int:
        return rules.billed_bytes(record)

    def normalise(self, record: Record) -> Record:
        return rules.normalise(record)

    def _check(self, record: Record) -> None:
        """Raise BadRequest for a record that does not fit the index."""
        layout = Layout.of(self.info)
        if layout is None:
            rules.check_record(record, self.info, self.limits)
            return
        why = layout.objection(record)
        if why is not None:
            raise BadRequest(f"the record {record.id!r} cannot be stored as a document: {why}")

    def _describe(self, name: str) -> NamespaceInfo:
        space = self._namespaces[name]
        return NamespaceInfo(name, len(space.records), space.schema)


def _score(like: Record, other: Record, metric: str | None) -> float:
    a, b = np.frombuffer(like.values, "<f4"), np.frombuffer(other.values, "<f4")
    if a.size != b.size:
        raise BadRequest(f"the query has {a.size} values; the record {other.id!r} has {b.size}")
    if metric == "euclidean":
        return float(np.square(a - b).sum())
    score = float(a @ b) + _sparse_product(like, other)
    if metric == "cosine":
        return score / (float(np.linalg.norm(a)) * float(np.linalg.norm(b)) or 1.0)
    return score


def _sparse_product(like: Record, other: Record) -> float:
    if like.sparse is None or other.sparse is None:
        return 0.0
    _, left, right = np.intersect1d(
        np.frombuffer(like.sparse.indices, "<u4"), np.frombuffer(other.sparse.indices, "<u4"), return_indices=True
    )
    return float(np.frombuffer(like.sparse.values, "<f4")[left] @ np.frombuffer(other.sparse.values, "<f4")[right])
