"""The interface of a vector store: two small protocols and the values they speak in.

Every call returns its `Usage`, so that the actual cost can be compared with the estimate. Every failure is one of the
`StoreError`s of `vecfleet.errors`. No call retries: the caller decides, once, on waiting and retrying. Namespaces are
given and returned in canonical form (`names.canonical`: the default one is `__default__`).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from vecfleet.records import Record


class Kind(StrEnum):
    """The content of an index, as far as copying it is concerned."""

    DENSE = "dense"
    SPARSE = "sparse"
    HYBRID = "hybrid"
    INTEGRATED = "integrated"  # legacy create_for_model: copies verbatim through the vector API, no re-embedding
    DOCUMENT = "document"  # documents that re-embed on write, cannot be read back, or hold no vectors: refused
    POD = "pod"  # cannot list ids: needs an id source


@dataclass(frozen=True, slots=True)
class Usage:
    """The cost of a call: requests sent, read units, write units, bytes the service bills as egress."""

    requests: int = 0
    read_units: float = 0.0
    write_units: float = 0.0
    egress_bytes: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.requests + other.requests,
            self.read_units + other.read_units,
            self.write_units + other.write_units,
            self.egress_bytes + other.egress_bytes,
        )


@dataclass(frozen=True, slots=True)
class ReadNodes:
    """Read capacity that an index has to itself: a node of `type` for each replica of each shard, paid by the hour."""

    type: str  # b1 or t1
    shards: int
    replicas: int

    @property
    def count(self) -> int:
        return self.shards * self.replicas


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """An index as its store describes it. `schema` is the store's own description, enough to create its like.

    `read_capacity`: its own; None: it is read on demand. `deletion_protection`: it refuses to be deleted whole.
    `names`: the names that metadata keys have in it, where they are others. Its store knows none; a plan says them.
    """

    name: str
    kind: Kind
    dimension: int | None
    metric: str | None
    host: str
    ready: bool = True
    cloud: str | None = None
    region: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    schema: Mapping[str, Any] = field(default_factory=dict)
    deletion_protection: bool = False
    read_capacity: ReadNodes | None = None
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def project(self) -> str | None:
        """Return the id of its project, which the host name of an index of Pinecone holds; None for any other host."""
        match = re.match(rf"(?:https?://)?{re.escape(self.name)}-([a-z0-9]+)\.svc\.", self.host)
        return match[1] if match is not None else None


@dataclass(frozen=True, slots=True)
class NamespaceInfo:
    """A namespace. `count` lags behind the truth: it is a hint, never evidence. `schema`: its filterable fields."""

    name: str
    count: int
    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class IdPage:
    """A page of ids in byte order. `next_token` is None on the last page."""

    ids: list[str]
    next_token: str | None
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class Fetched:
    """The fetched records, by id. An id that was asked for and is missing was not there: the service says nothing."""

    records: dict[str, Record]
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class Written:
    """An acknowledged upsert of `count` records. `lsn`: the namespace's write sequence number, if told."""

    count: int
    lsn: int | None = None
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class Deleted:
    """A deletion of records as they were proven. `changed`: the ids of records that differ by now, and stay."""

    changed: list[str] = field(default_factory=list)
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class Match:
    """One answer of a query, best first."""

    id: str
    score: float


@dataclass(frozen=True, slots=True)
class Matches:
    """The matches of a query, best first. `lsn`: the last write of the namespace that it has seen, if told."""

    matches: list[Match]
    usage: Usage = Usage()
    lsn: int | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """The request limits of a store. Bytes are 10⁶-based; a list page and a fetch are counted in ids.

    `reads_lag`: a write may be listed and fetched only a while later.
    `ascii_ids`: an id of other characters is refused.
    """

    upsert_bytes: int = 2_000_000
    upsert_records: int = 1_000
    fetch_ids: int = 100
    list_ids: int = 100
    delete_ids: int = 1_000
    metadata_bytes: int = 40_000
    id_chars: int = 512
    reads_lag: bool = True
    ascii_ids: bool = True


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy of a whole index that its store keeps. The counts are the store's own.

    It is over with a status that is known to mean that; one that nobody knows goes on.
    """

    id: str
    index: str
    status: str
    name: str | None
    records: int | None
    namespaces: int | None
    created_at: str | None

    @property
    def complete(self) -> bool:
        return self.status == "Ready"

    @property
    def failed(self) -> bool:
        return self.status in ("Failed", "InitializationFailed")

    @property
    def so_far(self) -> str:
        """Say how far the store is."""
        known = self.complete or self.failed or self.status == "Initializing"
        return self.status if known else f"it goes on{_unknown(self.status)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Filling:
    """A conversion or an import, which a store does by itself, perhaps for hours. The figures are the store's own.

    It is over with a status that is known to mean that; one that nobody knows goes on.
    """

    id: str
    status: str
    percent: float
    records: int
    created_at: datetime

    @property
    def doing(self) -> str:
        """Say it as a sentence whose subject is the store."""
        raise NotImplementedError

    @property
    def complete(self) -> bool:
        return self.status == "Completed"

    @property
    def failed(self) -> bool:
        return self.status in ("Failed", "Cancelled", "Canceled")

    @property
    def is_known(self) -> bool:
        """Say whether its status is one of those that this version knows."""
        return self.complete or self.failed or self.status in ("Pending", "InProgress")

    @property
    def so_far(self) -> str:
        """Say how far the store is."""
        return f"{self.percent:.0f} %, {self.records:,} records{'' if self.is_known else _unknown(self.status)}"


def _unknown(status: str) -> str:
    return f"; its status {status!r} is not known here: see in the store's console whether it goes on"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion(Filling):
    """A conversion of one index into another by their store."""

    source: str
    target: str
    skipped: int

    @property
    def doing(self) -> str:
        return f"converts {self.source} into {self.target}"


@dataclass(frozen=True, slots=True)
class BulkFiles:
    """Files in a bucket that a store reads by itself. `integration`: the store's right to read them; None: public."""

    uri: str
    integration: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkImport(Filling):
    """An import of such files into an index by its store."""

    uri: str
    index: str
    error: str | None

    @property
    def key(self) -> str:
        """Return what tells it from every other import: ids are those of one index."""
        return f"{self.index} {self.id} {self.created_at.isoformat()}"

    @property
    def doing(self) -> str:
        return f"imports {self.uri} into {self.index}"


class Index(Protocol):
    """One open index: its data plane. Safe to share between the threads of a process, never across a fork."""

    @property
    def info(self) -> IndexInfo: ...
    @property
    def limits(self) -> Limits: ...
    @property
    def fetch_room(self) -> int:
        """Return how many ids a fetch may ask for now, so that its answer stays within a few megabytes."""

    def namespaces(self) -> Iterator[NamespaceInfo]:
        """Yield every namespace, sorted by name, read page by page."""

    def namespace(self, name: str) -> NamespaceInfo | None:
        """Return one namespace, or None if there is none of that name."""

    def create_namespace(self, name: str, schema: Mapping[str, Any] | None) -> bool:
        """Create it with its filterable fields; False if it exists already (its schema is then left as it is).

        Raises NameIsAlias if an alias has this name: it leads to another namespace.
        """

    def delete_namespace(self, name: str) -> Usage:
        """Delete it with all its records. Do nothing if it does not exist."""

    def list_ids(
        self, namespace: str, token: str | None = None, limit: int | None = None, prefix: str | None = None
    ) -> IdPage:
        """Return a page of the ids (those that start with `prefix`). An absent namespace is an empty page.

        Raises `BadRequest` for a token that the store no longer takes.
        """

    def fetch(self, namespace: str, ids: Sequence[str]) -> Fetched: ...

    def upsert(self, namespace: str, records: Sequence[Record]) -> Written:
        """Write all records in one request, or raise: TooLarge and BadRequest wrote nothing."""

    def delete(self, namespace: str, ids: Sequence[str]) -> Usage:
        """Delete these ids. An absent id or namespace is no error."""

    def query(self, namespace: str, like: Record, top_k: int) -> Matches:
        """Return the records nearest to `like` by its values (and sparse values). WrongKind if a store answers none."""

    def request_bytes(self, record: Record) -> int:
        """Return how many bytes this record takes in an upsert request of this store, at most."""

    def normalise(self, record: Record) -> Record:
        """Return the record as this store gives it back once stored (nulls dropped, numbers as float64, …)."""


@runtime_checkable
class Aliased(Protocol):
    """An index whose namespaces may have second names, which readers use and which prevent their deletion."""

    def aliases(self) -> dict[str, str]:
        """Return alias → the namespace that it leads to."""

    def alias(self, name: str) -> str | None:
        """Return the namespace that the alias leads to; None if no alias has this name. One request."""

    def point_alias(self, name: str, to: str | None) -> None:
        """Point the alias at the namespace, creating it if needed; or (None) remove it."""


@runtime_checkable
class Conditional(Protocol):
    """An index that compares and deletes in one transaction: what was written after the proof is never deleted."""

    def version(self, namespace: str) -> int | None:
        """Return a number that any insert, update and deletion changes; None for an absent namespace."""

    def delete_namespace_if(self, name: str, version: int | None) -> Usage:
        """Delete it with all its records if this is still its version; else raise Changed and delete nothing.

        Nothing happens if it does not exist.
        """

    def delete_if(self, namespace: str, digests: Mapping[str, int]) -> Deleted:
        """Delete by id the records that still have these digests (`record_digest`). The others stay, and are named."""


@runtime_checkable
class Versioned(Protocol):
    """An index that tells without reading records whether some of them changed. Its answer lags behind no write."""

    def versions(self, namespace: str, ids: Sequence[str] | None) -> str:
        """Return a text that any insert, update and deletion of these ids changes, once it is committed. None: of all.

        A record that is read after it is at least of that version. Raises NeedsOperator if reads may lag.
        """


class Store(Protocol):
    """A store's control plane: its indexes."""

    @property
    def name(self) -> str: ...

    def indexes(self) -> list[IndexInfo]: ...

    def describe(self, index: str) -> IndexInfo:
        """Return the description of an index. Raises Missing, naming those that exist, if there is no such index."""

    def create_like(self, name: str, source: IndexInfo, cloud: str | None, region: str | None) -> IndexInfo:
        """Create an index with the source's schema (so that sparse values stay writable) and tags; wait until ready.

        Pinecone gives it the source's deletion protection and read capacity, too.
        """

    def open(self, info: IndexInfo) -> Index: ...
