"""The side of each tenant: by its route, then its creator's setting, then the environment's flag, else the old one.

Routes that cannot be read are not taken for "legacy": they might say that the old side is deleted. Reads then use the
new side. No write rests on routes that are too old or were never read, whatever a setting or the flag says: a route
comes before them, and may say otherwise.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import chain
from math import inf

from vecfleet import names
from vecfleet.clock import now
from vecfleet.errors import RoutesTooOld
from vecfleet.names import Tenant
from vecfleet.settings import Settings
from vecfleet.stores.pinecone.clients import PerProcess
from vecfleet.tenancy.finding import Known, KnownAt
from vecfleet.tenancy.places import Place, Where, is_shared, new_place
from vecfleet.tenancy.providers import CachedRoutes, provider_of
from vecfleet.tenancy.routes import Resolved, Route, RoutePlace

LegacyOwner = Callable[[str], str | None]


def use_delphi_namespaces() -> bool:
    """Return the flag of seed 000: USE_DELPHI_NAMESPACES."""
    return Settings.load().use_delphi_namespaces


def use_serverless() -> bool:
    """Return the flag of seed 003: USE_PINECONE_SERVERLESS."""
    return Settings.load().use_pinecone_serverless


class Rollout:
    """Resolves tenants to places. `routes` None: there is no provider. `creators`: settings by creator.

    `legacy_owner` tells the owner of a legacy namespace (by twin id), for twins without a route. Without it, or if it
    names another creator, such a namespace is not read. `legacy_namespace` names it (default: the twin id itself).
    `fallback`: a reader whose new side fails for a moment is answered from the old one, while that is there.
    """

    def __init__(
        self,
        routes: CachedRoutes | None = None,
        *,
        creators: Mapping[str, bool] | None = None,
        flag: bool | None = None,
        legacy_owner: LegacyOwner | None = None,
        legacy_namespace: Callable[[str, str | None], str] | None = None,
        fallback: bool = True,
    ) -> None:
        self.routes = routes
        self.fallback = fallback
        self._creators = dict(creators or {})
        self._flag = use_delphi_namespaces() if flag is None else flag
        self._legacy_owner = legacy_owner
        self._legacy_namespace = legacy_namespace or _legacy_namespace

    @classmethod
    def of(cls, settings: Settings) -> "Rollout | None":
        """Return the environment's roll-out; None without a provider: then every tenant has its own namespace."""
        provider = provider_of(settings)
        if provider is None:
            return None
        routes = CachedRoutes(provider, settings.routes_cache_seconds, settings.routes_stale_seconds)
        return cls(routes, flag=settings.use_delphi_namespaces)

    @property
    def clock(self) -> Callable[[], float]:
        """The clock of `Where.until`."""
        return now if self.routes is None else self.routes.clock

    def where(
        self, creator_id: str, twin_id: str | None = None, *, to_write: bool = False, own_index: str | None = None
    ) -> Where:
        """Return this tenant's places, and until when a write may rest on them.

        Raises BadName for ids without a namespace. `own_index` is the client's: a place that names none is there.
        `to_write`: routes that are too old for a write are read again first; if that fails, they count as never read.
        """
        tenant = Tenant(creator_id, twin_id)
        if self.routes is None:
            return self._where(tenant, None, own_index)
        told = self.routes.current(to_write=to_write)
        if told is None:
            return replace(self._where(tenant, None, own_index), until=-inf)
        where = self._where(tenant, told.resolved, own_index)
        frozen = told.resolved.frozen(chain.from_iterable(where.writes), own_index) if to_write else None
        return replace(where, until=told.at + self.routes.stale_s, frozen=frozen)

    def _where(self, tenant: Tenant, known: Resolved | None, own_index: str | None) -> Where:
        own = new_place(tenant)
        route = known.route(tenant) if known is not None else None
        if known is not None and route is not None:
            return _routed(tenant, known, route, own_index)
        setting = self._setting(tenant.creator, known)
        if setting is not None:
            why = f"the setting of creator {tenant.creator!r}"
            return Where(tenant, "new", (own,), why) if setting else self._legacy(tenant, known, own_index, why)
        if self._flag:
            return Where(tenant, "new", (own,), "USE_DELPHI_NAMESPACES is on")
        if self.routes is not None and known is None:
            return Where(tenant, "new", (own,), "the routes cannot be read, and the old side may be deleted")
        if known is not None and known.table.unlisted == "new" and not self._kept(tenant, known):
            return Where(tenant, "new", (own,), "it is younger than the switch")
        return self._legacy(tenant, known, own_index, "no route, setting or flag says otherwise")

    def use_creator_namespaces(self, creator_id: str, twin_id: str | None = None) -> bool:
        """Answer option A of seed 001. Without a twin: whether all of the creator's routes are on the new side."""
        known = self._known()
        routes = known.of_creator(creator_id) if known is not None and twin_id is None else []
        if known is not None and routes:
            return all(known.side(route) == "new" for route in routes)
        return self.where(creator_id, twin_id).side == "new"

    def twins(self, creator_id: str) -> list[str]:
        """Return the creator's twins that have a route."""
        known = self._known()
        return [route.twin for route in known.of_creator(creator_id) if route.twin] if known is not None else []

    def known_of(self, tenant: Tenant, own_index: str) -> tuple[KnownAt, set[str]] | None:
        """Return what the routes know of a tenant's places, and the indexes they name; None if they cannot be read.

        Old routes may give a namespace to this tenant that is another's by now: they must be as young as for a write. A
        place whose route names no index is in the client's own.
        """
        known = self._known(to_write=True)
        if self.routes is not None and known is None:
            return None
        table = known.table.routes if known is not None else ()
        places = [place for route in table if _is_of(route, tenant) for place in (*route.old, route.new)]

        def at(index: str) -> Known:
            """Look up in each round of an erasure, minutes apart: by routes that are young then."""
            known = self._known(to_write=True)
            if self.routes is not None and known is None:
                raise RoutesTooOld(next_step="check VECFLEET_ROUTES, then erase again: the fence stands")
            mine, theirs = set[str](), set[str]()
            for route in known.table.routes if known is not None else ():
                assert known is not None
                for place in known.old(route, own_index):
                    if not place.shared and (place.index or own_index) == index:
                        (mine if _is_of(route, tenant) else theirs).add(names.canonical(place.namespace))
            return Known(frozenset(mine), frozenset(theirs), legacy_owner=self._owner_by(known, index, own_index))

        return at, {place.index for place in places if place.index}

    def _owner_by(self, known: Resolved | None, index: str, own_index: str) -> LegacyOwner | None:
        """Return the owner of whole legacy namespaces in an index; nobody for one that the routes know as shared."""
        owner = self._legacy_owner
        if owner is None or known is None:
            return owner
        return lambda name: None if known.shares(RoutePlace(name, index), own_index) else owner(name)

    def _known(self, *, to_write: bool = False) -> Resolved | None:
        told = self.routes.current(to_write=to_write) if self.routes is not None else None
        return told.resolved if told is not None else None

    def _setting(self, creator: str, known: Resolved | None) -> bool | None:
        if creator in self._creators:
            return self._creators[creator]
        return known.table.creators.get(creator) if known is not None else None

    def _kept(self, tenant: Tenant, known: Resolved) -> bool:
        return self._legacy_namespace(tenant.creator, tenant.twin) in known.table.kept

    def _legacy(self, tenant: Tenant, known: Resolved | None, own_index: str | None, why: str) -> Where:
        namespace = self._legacy_namespace(tenant.creator, tenant.twin)
        owner = self._legacy_owner(tenant.twin) if self._legacy_owner is not None and tenant.twin else None
        owned = owner == tenant.creator
        if known is not None:
            return Where(tenant, "old", (known.legacy(namespace, tenant, owned, own_index),), why)
        return Where(tenant, "old", (Place(namespace, None, is_shared(namespace), owned=owned),), why)


_shared = PerProcess(lambda: Rollout.of(Settings.load()))


def shared_rollout() -> Rollout | None:
    """Return the one roll-out of this process, as the environment has it; None if it names no provider."""
    return _shared.get()


def use_creator_namespaces(creator_id: str, twin_id: str | None = None) -> bool:
    """Answer option A of seed 001 from the environment: routes, then USE_DELPHI_NAMESPACES."""
    return (shared_rollout() or Rollout()).use_creator_namespaces(creator_id, twin_id)


def _routed(tenant: Tenant, known: Resolved, route: Route, own_index: str | None) -> Where:
    new, old = known.new(route, own_index), known.old(route, own_index)
    if known.side(route) == "new" or not old:
        other = () if route.cleaned else old
        dual = route.dual and bool(other)
        return Where(tenant, "new", (new,), "its route", other, known.table.shadow_share, route.job, dual=dual)
    return Where(tenant, "old", old, "its route", (new,), known.table.shadow_share, route.job, dual=route.dual)


def _is_of(route: Route, tenant: Tenant) -> bool:
    """Say whether a route is the tenant's, or a twin's of a whole creator."""
    return route.creator == tenant.creator and tenant.twin in (None, route.twin)


def _legacy_namespace(creator: str, twin: str | None) -> str:
    """Return the namespace from before: a twin's is called by its id; without a twin it is the default one."""
    return twin or ""
