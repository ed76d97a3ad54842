"""The places of a tenant's records, and what may be read there: pure functions of (tenant, place).

A namespace that more than one tenant shares is only ever read with the tenant's own filter. The caller's filter can
narrow that and never widen it. The answers are looked at once more, record by record.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from math import inf
from typing import Any, Literal, NamedTuple

from vecfleet import names
from vecfleet.enriching import Conflict, additions, enriched
from vecfleet.errors import Refused
from vecfleet.names import Tenant
from vecfleet.owners import Owner
from vecfleet.records import Metadata, Record
from vecfleet.stores.serving import Filter, Hit

Side = Literal["old", "new"]

_NAMED = 5  # ids named if there are more


class TenantIsolationError(Refused):
    """Access denied: it belongs to another tenant, or its owner is not known."""


class RecordModel(NamedTuple):
    """The embedding model of a place's records, as plans name it, and the dimension that it is asked for."""

    name: str
    dimension: int | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A namespace of an index (None: the client's own). `shared`: records of more than one tenant are there.

    `owned` says that this tenant is known to be the only one there: by the name of the namespace, or by its route.
    `built` says that the namespace was built from this tenant's own ids: nothing there needs a filter or a second look.
    `model` None: the application knows by which model its records are embedded. `names`: metadata keys with the names
    of their fields in documents, where these are others: whoever reads and writes here knows the keys alone.
    """

    namespace: str
    index: str | None = None
    shared: bool = False
    owned: bool = True
    built: bool = False
    model: RecordModel | None = None
    names: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Where:
    """The places of one tenant's readers and writers now, and why. The first place of `reads` is where writes go.

    `other` are the places of the other side, for shadow reads and for the fallback; empty once they are cleaned up.
    `dual`: a write here is written there, too. A write may rest on this `until` then, by the routes' clock. `frozen`
    says why nothing may be written here now; it is filled in for writers alone.
    """

    tenant: Tenant
    side: Side
    reads: tuple[Place, ...]
    why: str
    other: tuple[Place, ...] = ()
    shadow_share: float = 0.0
    job: int | None = None
    dual: bool = False
    until: float = inf
    frozen: str | None = None

    @property
    def write(self) -> Place:
        return self.reads[0]

    @property
    def old(self) -> tuple[Place, ...]:
        return self.reads if self.side == "old" else self.other

    @property
    def new(self) -> tuple[Place, ...]:
        return self.reads if self.side == "new" else self.other

    @property
    def writes(self) -> tuple[tuple[Place, ...], ...]:
        """The places of each side that is written to, the side of the readers first."""
        return (self.reads, self.other) if self.dual else (self.reads,)

    @property
    def shares(self) -> bool:
        """Say whether others have records where this tenant's are read and written."""
        return not all(map(holds_only, self.reads))


def new_place(tenant: Tenant, index: str | None = None) -> Place:
    """Return the tenant's own namespace. Raises BadName for ids that cannot have one."""
    return Place(names.build(tenant.creator, tenant.twin), index, built=True)


def is_shared(namespace: str) -> bool:
    """Say whether this namespace is shared, whatever a route says of it."""
    return names.canonical(namespace) in (names.DEFAULT, names.PUBLIC)


def holds_only(place: Place) -> bool:
    """Say whether this place is one tenant's alone, so that nothing of it needs a filter or a second look."""
    return not (place.shared or is_shared(place.namespace))


def on_new_side(metadata: Metadata, tenant: Tenant, old: Place) -> Metadata:
    """Return the form that a record of this old place has on the new side: a migration makes the same."""
    added = additions(names.canonical(old.namespace), Owner(tenant.creator, tenant.twin))
    result = enriched(metadata, added, "overwrite")
    assert not isinstance(result, Conflict), "an overwriting enrichment has no conflicts"
    return result


def require_own(place: Place, tenant: Tenant) -> None:
    """Check, here alone, that a place is this tenant's alone, or shared, where each record names its owner.

    Raises TenantIsolationError before anything is read there, written or deleted.
    """
    if place.built or not holds_only(place):
        return
    named = names.parse(place.namespace)
    if (named is not None and named != tenant) or not place.owned:
        raise TenantIsolationError(
            f"Access denied: whose the namespace {place.namespace!r} is, is not known",
            next_step="list the twin in the routes, or tell the Rollout its `legacy_owner`",
        )


def admitted(where: Where) -> Where:
    """Check a client's every way to a namespace. Raises TenantIsolationError if a place is not the tenant's."""
    for place in (*where.reads, *where.other):
        require_own(place, where.tenant)
    return where


def require_marked(where: Where, metadata: Mapping[str, Any]) -> None:
    """Raise TenantIsolationError if a record would pass for a twin's, though its creator as a whole writes it."""
    tenants_share = not all(map(holds_only, chain.from_iterable(where.writes)))
    if tenants_share and not is_own(metadata, where.tenant):
        raise TenantIsolationError(
            "Access denied: a record of the creator as a whole names a twin, in a namespace that tenants share",
            next_step="give `twin_id` to the call, or take it out of the metadata",
        )


def require_not_others(place: Place, tenant: Tenant, records: Mapping[str, Record]) -> None:
    """Raise TenantIsolationError if a write of these ids would replace a record that is not the tenant's own."""
    if holds_only(place):
        return
    others = sorted(id for id, record in records.items() if not is_own(record.metadata, tenant))
    if others:
        named = ", ".join(map(repr, others[:_NAMED])) + (", …" if len(others) > _NAMED else "")
        raise TenantIsolationError(
            f"Access denied: in the namespace {place.namespace!r}, which tenants share, "
            f"{len(others):,} of these ids are another's records, or nobody's: {named}",
            next_step="nothing was written: give these records ids of their own",
        )


def allowed_filter(place: Place, tenant: Tenant, asked: Filter | None) -> Filter | None:
    """Return the filter to read this place with. Raises TenantIsolationError if no filter makes it safe."""
    require_own(place, tenant)
    if holds_only(place):
        return asked
    own = _own_filter(tenant)
    return {"$and": [own, asked]} if asked else own


def screened(place: Place, tenant: Tenant, hits: Iterable[Hit]) -> list[Hit]:
    """Return the tenant's own of a shared place's answers; of any other place, all."""
    if holds_only(place):
        return list(hits)
    return [hit for hit in hits if is_own(hit.metadata, tenant)]


def is_own(metadata: Mapping[str, Any] | None, tenant: Tenant) -> bool:
    """Say whether a record in a shared namespace names this very tenant as its owner."""
    said = metadata or {}
    return said.get("creator_id") == tenant.creator and said.get("twin_id") == tenant.twin


def _own_filter(tenant: Tenant) -> dict[str, Any]:
    twin: Any = {"$eq": tenant.twin} if tenant.twin is not None else {"$exists": False}
    return {"creator_id": {"$eq": tenant.creator}, "twin_id": twin}
