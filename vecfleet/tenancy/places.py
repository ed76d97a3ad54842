"""Where a tenant's records are, and what may be read there: pure functions of (tenant, place).

A namespace that more than one tenant shares is only ever read with the tenant's own filter, which what the caller asks
for can narrow and never widen; and what comes back is looked at once more, record by record.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from math import inf
from typing import Any, Literal

from vecfleet import names
from vecfleet.enriching import Conflict, additions, enriched
from vecfleet.errors import Refused
from vecfleet.names import Tenant
from vecfleet.owners import Owner
from vecfleet.records import Metadata, Record
from vecfleet.stores.serving import Filter, Hit

Side = Literal["old", "new"]

_NAMED = 5  # ids named where more are meant


class TenantIsolationError(Refused):
    """Access denied: it belongs to another tenant, or its owner is not known."""


@dataclass(frozen=True, slots=True)
class Place:
    """A namespace of an index (None: the client's own). `shared`: records of more than one tenant are there.

    `owned` says that this tenant is known to be the only one there: by the name of the namespace, or by its route.
    `built` says that the namespace was built from this tenant's own ids: nothing there needs a filter or a second look.
    """

    namespace: str
    index: str | None = None
    shared: bool = False
    owned: bool = True
    built: bool = False


@dataclass(frozen=True, slots=True)
class Where:
    """Where one tenant's readers and writers go now, and why. The first place of `reads` is where writes go.

    `other` are the places of the other side, for shadow reads and for the fallback; empty once they are cleaned up.
    `dual`: what is written here is written there, too. A write may rest on this `until` then, by the routes' clock.
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
        """Whether others have records where this tenant's are read and written."""
        return not all(map(holds_only, self.reads))


def new_place(tenant: Tenant, index: str | None = None) -> Place:
    """The tenant's own namespace. Raises BadName for ids that cannot have one."""
    return Place(names.build(tenant.creator, tenant.twin), index, built=True)


def is_shared(namespace: str) -> bool:
    """Whether this namespace is shared whatever a route says of it."""
    return names.canonical(namespace) in (names.DEFAULT, names.PUBLIC)


def holds_only(place: Place) -> bool:
    """Whether all that is in this place is one tenant's, so that nothing of it needs a filter or a second look."""
    return not (place.shared or is_shared(place.namespace))


def on_new_side(metadata: Metadata, tenant: Tenant, old: Place) -> Metadata:
    """What the new side holds of a record of this old place: what a migration makes of it."""
    added = additions(names.canonical(old.namespace), Owner(tenant.creator, tenant.twin))
    found = enriched(metadata, added, "overwrite")
    assert not isinstance(found, Conflict), "an overwriting enrichment has no conflicts"
    return found


def require_own(place: Place, tenant: Tenant) -> None:
    """The one check of whose a place is: this tenant's alone, or shared, where each record says it.

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
    """Every way of a client to a namespace. Raises TenantIsolationError where one of its places is not the tenant's."""
    for place in (*where.reads, *where.other):
        require_own(place, where.tenant)
    return where


def require_marked(where: Where, metadata: Mapping[str, Any]) -> None:
    """Raises TenantIsolationError where a record would pass for a twin's, though its creator as a whole writes it."""
    tenants_share = not all(map(holds_only, chain.from_iterable(where.writes)))
    if tenants_share and not is_own(metadata, where.tenant):
        raise TenantIsolationError(
            "Access denied: a record of the creator as a whole names a twin, in a namespace that tenants share",
            next_step="give `twin_id` to the call, or take it out of the metadata",
        )


def require_not_others(place: Place, tenant: Tenant, records: Mapping[str, Record]) -> None:
    """Raises TenantIsolationError where a write of these ids would replace a record that is not the tenant's own."""
    if holds_only(place):
        return
    others = sorted(id for id, one in records.items() if not is_own(one.metadata, tenant))
    if others:
        named = ", ".join(map(repr, others[:_NAMED])) + (", …" if len(others) > _NAMED else "")
        raise TenantIsolationError(
            f"Access denied: in the namespace {place.namespace!r}, which tenants share, "
            f"{len(others):,} of these ids are another's records, or nobody's: {named}",
            next_step="nothing was written: give these records ids of their own",
        )


def allowed_filter(place: Place, tenant: Tenant, asked: Filter | None) -> Filter | None:
    """The filter to read this place with. Raises TenantIsolationError where no filter makes it safe."""
    require_own(place, tenant)
    if holds_only(place):
        return asked
    own = _own_filter(tenant)
    return {"$and": [own, asked]} if asked else own


def screened(place: Place, tenant: Tenant, hits: Iterable[Hit]) -> list[Hit]:
    """The tenant's own of what a shared place answered; of any other place, all."""
    if holds_only(place):
        return list(hits)
    return [hit for hit in hits if is_own(hit.metadata, tenant)]


def is_own(metadata: Mapping[str, Any] | None, tenant: Tenant) -> bool:
    """Whether a record in a shared namespace names this very tenant as its owner."""
    said = metadata or {}
    return said.get("creator_id") == tenant.creator and said.get("twin_id") == tenant.twin


def _own_filter(tenant: Tenant) -> dict[str, Any]:
    twin: Any = {"$eq": tenant.twin} if tenant.twin is not None else {"$exists": False}
    return {"creator_id": {"$eq": tenant.creator}, "twin_id": twin}
