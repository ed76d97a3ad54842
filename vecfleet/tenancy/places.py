"""Where a tenant's records are, and what may be read there: pure functions of (tenant, place).

A namespace that more than one tenant shares is only ever read with the tenant's own filter, which what the caller asks
for can narrow and never widen; and what comes back is looked at once more, record by record.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vecfleet import names
from vecfleet.errors import Refused
from vecfleet.names import Tenant
from vecfleet.stores.serving import Filter, Hit

Side = Literal["old", "new"]


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
    """

    tenant: Tenant
    side: Side
    reads: tuple[Place, ...]
    why: str
    other: tuple[Place, ...] = ()
    shadow_share: float = 0.0
    job: int | None = None
    writable: bool = True

    @property
    def write(self) -> Place:
        return self.reads[0]


def new_place(tenant: Tenant, index: str | None = None) -> Place:
    """The tenant's own namespace. Raises BadName for ids that cannot have one."""
    return Place(names.build(tenant.creator, tenant.twin), index, built=True)


def is_shared(namespace: str) -> bool:
    """Whether this namespace is shared whatever a route says of it."""
    return names.canonical(namespace) in (names.DEFAULT, names.PUBLIC)


def allowed_filter(place: Place, tenant: Tenant, asked: Filter | None) -> Filter | None:
    """The filter to read this place with. Raises TenantIsolationError where no filter makes it safe."""
    if place.shared or is_shared(place.namespace):
        own = _own_filter(tenant)
        return {"$and": [own, asked]} if asked else own
    named = names.parse(place.namespace)
    if (named is not None and named != tenant) or not place.owned:
        raise TenantIsolationError(
            f"Access denied: whose the namespace {place.namespace!r} is, is not known",
            next_step="list the twin in the routes, or tell the Rollout its `legacy_owner`",
        )
    return asked


def screened(place: Place, tenant: Tenant, hits: Iterable[Hit]) -> list[Hit]:
    """The tenant's own of what a shared place answered; of any other place, all."""
    if not (place.shared or is_shared(place.namespace)):
        return list(hits)
    return [hit for hit in hits if is_own(hit.metadata, tenant)]


def is_own(metadata: Mapping[str, Any] | None, tenant: Tenant) -> bool:
    """Whether a record in a shared namespace names this very tenant as its owner."""
    said = metadata or {}
    return said.get("creator_id") == tenant.creator and said.get("twin_id") == tenant.twin


def _own_filter(tenant: Tenant) -> dict[str, Any]:
    twin: Any = {"$eq": tenant.twin} if tenant.twin is not None else {"$exists": False}
    return {"creator_id": {"$eq": tenant.creator}, "twin_id": twin}
