"""Find a tenant's records: whole namespaces, and single records among those of others. Read-only.

Names are parsed, never compared by prefix. A namespace whose name is no tenant's is read record by record, and each
record is routed as a migration routes it. A filter would miss records without metadata of their own.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from vecfleet import names
from vecfleet.digests import Tally, record_digest
from vecfleet.errors import WrongKind
from vecfleet.names import Tenant
from vecfleet.owners import LOOKUP_KEY, Owner, Ownership, owner_of
from vecfleet.patience import patiently
from vecfleet.records import Record
from vecfleet.stores.base import Index, Kind, NamespaceInfo

AT_ONCE = 16  # calls under way: 1,000 namespaces in seconds, well under the documented 100 requests a second each

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Known:
    """Knowledge of a tenant in one index, beside names and metadata.

    `legacy` are namespaces that were given to this tenant whole, `others` those given to another one. `ownership` are
    the answers of look-ups, `lookup_keys` the metadata keys by which records name their sources. `legacy_owner` tells
    the creator of a namespace that is named by a twin's id.
    """

    legacy: frozenset[str] = frozenset()
    others: frozenset[str] = frozenset()
    ownership: Ownership = field(default_factory=Ownership)
    lookup_keys: tuple[str, ...] = (LOOKUP_KEY,)
    legacy_owner: Callable[[str], str | None] | None = None

    def is_legacy_of(self, name: str, tenant: Tenant) -> bool:
        """Say whether this namespace holds this tenant's records and nobody else's."""
        if name in self.legacy or name in self.others:
            return name in self.legacy
        owner = self.ownership.twins.get(name)
        if owner is not None:
            return _is(owner, tenant)
        told = self._told(name)
        return told == tenant.creator and tenant.twin in (None, name)

    def is_anothers(self, name: str, tenant: Tenant) -> bool:
        """Say whether this namespace is known to hold nothing of this tenant."""
        if name in self.legacy or name in self.others:
            return name in self.others
        told = self._told(name)
        return told is not None and told != tenant.creator

    def _told(self, name: str) -> str | None:
        return self.legacy_owner(name) if self.legacy_owner is not None else None


KnownAt = Callable[[str], Known]
"""Knowledge of a tenant by index name: a namespace may be one tenant's in one index and another's in a second."""


def known_nowhere(index: str) -> Known:
    """Return no knowledge, so that only names and metadata count."""
    return Known()


@dataclass(frozen=True, slots=True)
class TenantPlace:
    """The tenant's records in one namespace. `whole`: nobody else has records there, so the namespace goes too.

    `digest` is the digest of the set of ids. `records`: each id with its content's digest, if others have records
    there.
    """

    index: str
    name: str
    whole: bool
    count: int
    digest: int
    sample: tuple[str, ...] = ()
    records: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Places:
    """The places of a tenant in an index. `read`: how many records of shared namespaces were looked at."""

    found: tuple[TenantPlace, ...]
    read: int


def namespaces_of(index: Index, creator: str, twin: str | None = None) -> list[NamespaceInfo]:
    """Return the creator's namespaces, or the twin's, by the index's own list. Raises BadName for ids without one."""
    names.build(creator, twin)
    return [info for info in index.namespaces() if names.belongs_to(info.name, creator, twin)]


def twins_of(index: Index, creator: str) -> list[str]:
    """Return the creator's twins that have a namespace, sorted."""
    tenants = (names.parse(info.name) for info in namespaces_of(index, creator))
    return sorted({tenant.twin for tenant in tenants if tenant is not None and tenant.twin is not None})


def find(index: Index, tenant: Tenant, known: Known) -> Places:
    """Return every place of the tenant in this index. Raises WrongKind for an index that cannot list its ids."""
    there = [info.name for info in patiently(lambda: list(index.namespaces()))]
    whole = [
        name
        for name in there
        if names.belongs_to(name, tenant.creator, tenant.twin)
        or (_is_legacy(name) and known.is_legacy_of(name, tenant))
    ]
    taken = set(whole)
    shared = [
        name
        for name in there
        if name not in taken and _may_hold(name, tenant) and not (_is_legacy(name) and known.is_anothers(name, tenant))
    ]
    alone = in_parallel(lambda name: entire(index, name), whole)
    among = in_parallel(lambda name: _among(index, name, tenant, known), shared)
    return Places((*alone, *(place for place, _ in among if place.count)), sum(read for _, read in among))


def everything(index: Index) -> list[TenantPlace]:
    """Return every namespace of an index, as if it were one tenant's."""
    there = [info.name for info in patiently(lambda: list(index.namespaces()))]
    return [
        place
        for place in in_parallel(lambda name: entire(index, name), there)
        if place.count or place.name != names.DEFAULT
    ]


def _is_legacy(name: str) -> bool:
    """Say whether only ownership tells a namespace's tenant. The default and the public one are always shared."""
    return names.parse(name) is None and name not in (names.DEFAULT, names.PUBLIC)


def _may_hold(name: str, tenant: Tenant) -> bool:
    """Say whether the tenant may have records there: it is nobody's by name or, for a twin, the creator-wide one."""
    named = names.parse(name)
    return named is None or (tenant.twin is not None and named == Tenant(tenant.creator))


def _is(owner: Owner, tenant: Tenant) -> bool:
    return owner.creator == tenant.creator and tenant.twin in (None, owner.twin)


def entire(index: Index, namespace: str) -> TenantPlace:
    """Return a namespace as one place, by listing its ids."""
    tally, sample = Tally(), list[str]()
    for page in pages(index, namespace):
        tally += Tally.of_ids(page)
        sample = sample or page[:10]
    return TenantPlace(index.info.name, namespace, True, tally.count, tally.digest, tuple(sample))


def _among(index: Index, namespace: str, tenant: Tenant, known: Known) -> tuple[TenantPlace, int]:
    own: dict[str, int] = {}
    read = 0
    for record in records(index, namespace):
        read += 1
        if is_own(record, namespace, tenant, known):
            own[record.id] = record_digest(record)
    tally = Tally.of_ids(own)
    return TenantPlace(index.info.name, namespace, False, tally.count, tally.digest, tuple(own)[:10], own), read


def is_own(record: Record, namespace: str, tenant: Tenant, known: Known) -> bool:
    """Say whether a record among others is this tenant's, by any key by which a plan might look up its owner.

    A record without a known owner belongs to the tenant that a plan gave the whole namespace, even the default one.
    """
    answers = [owner_of(record, known.ownership, key) for key in known.lookup_keys]
    told = [answer[0] for answer in answers if answer is not None]
    return any(_is(owner, tenant) for owner in told) if told else namespace in known.legacy


def records(index: Index, namespace: str) -> Iterator[Record]:
    """Yield every record of a namespace."""
    for page in pages(index, namespace):
        for batch_ids in chunks(page, index.fetch_room):
            yield from patiently(lambda batch_ids=batch_ids: index.fetch(namespace, batch_ids)).records.values()  # type: ignore[misc]


def pages(index: Index, namespace: str) -> Iterator[list[str]]:
    token: str | None = None
    while True:
        page = patiently(lambda token=token: index.list_ids(namespace, token))  # type: ignore[misc]
        if page.ids:
            yield page.ids
        token = page.next_token
        if token is None:
            return


def still_there(index: Index, found: TenantPlace, *, query: bool = True) -> str | None:
    """Say how this place still returns deleted records, by fetches or by queries; None if it does not."""
    ids = list(found.records) or list(found.sample)
    for batch_ids in chunks(ids, index.fetch_room):
        if patiently(lambda batch_ids=batch_ids: index.fetch(found.name, batch_ids)).records:  # type: ignore[misc]
            return "its records are still fetched"
    if not query or not ids or index.info.kind not in (Kind.DENSE, Kind.INTEGRATED) or not index.info.dimension:
        return None
    # Any query vector will do: a record that is there is among the matches.
    like = Record("", b"\0\0\x80\x3f" * index.info.dimension)
    try:
        matches = patiently(lambda: index.query(found.name, like, top_k=10)).matches
    except WrongKind:  # a folder of files answers no queries
        return None
    gone = set(ids)
    return "its records still answer queries" if any(found.whole or match.id in gone for match in matches) else None


def in_parallel(work: Callable[[T], R], items: Collection[T]) -> list[R]:
    if not items:
        return []
    with ThreadPoolExecutor(min(AT_ONCE, len(items)), thread_name_prefix="erase") as pool:
        return list(pool.map(work, items))


def chunks(items: Iterable[str], size: int) -> Iterator[Sequence[str]]:
    every = list(items)
    return (every[start : start + size] for start in range(0, len(every), size))
