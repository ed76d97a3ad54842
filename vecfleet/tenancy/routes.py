"""Routes name the side that each tenant's readers use. This is their stored and sent form; no I/O here.

{"version": 1, "percent": 25, "salt": "x", "shadow_share": 0.05, "unlisted": "new", "kept": ["old-1"],
 "creators": {"sainath.no.1": true}, "frozen": [{"namespace": "5698a809", "index": "brain", "job": 7}],
 "routes": [{"creator": "sainath.no.1", "twin": "coach", "old": [{"namespace": "5698a809"}],
             "new": {"namespace": "creator_sainath.no.1_twin_coach"}, "side": "old"}]}
"""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

import msgspec
from msgspec.structs import replace as replace_struct

from vecfleet import names
from vecfleet.errors import BadInput
from vecfleet.names import Tenant
from vecfleet.tenancy.places import Place, RecordModel, Side, is_shared

TABLE_VERSION: Literal[1] = 1


class RoutePlace(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A namespace of an index (None: the client's own). `shared`: other tenants have records there too.

    `model` and `dimension`: by which its records are embedded (None: as the application knows). `names`: in documents,
    metadata key → the name of its field, where that is another.
    """

    namespace: str
    index: str | None = None
    shared: bool = False
    model: str | None = None
    dimension: int | None = None
    names: dict[str, str] = {}


class Route(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One tenant's two sides. `side` None: by the table's percentage. `cleaned`: the old side is deleted, or may be.

    `dual`: writers write to both, until then.
    """

    creator: str
    new: RoutePlace
    old: tuple[RoutePlace, ...] = ()
    twin: str | None = None
    side: Side | None = None
    cleaned: bool = False
    dual: bool = False
    job: int | None = None

    @property
    def tenant(self) -> Tenant:
        return Tenant(self.creator, self.twin)


class Frozen(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A namespace of an index (None: the client's own) to which nothing may be written while the job lives."""

    namespace: str
    index: str | None = None
    job: int | None = None


class RouteTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """All routes. `percent` of the tenants, by a hash of `salt` and their new namespace, are on the new side.

    `creators` are settings for whole creators, for tenants without a route. `unlisted` "new" says that the switch was
    made: a tenant without a route is younger than it, unless its namespace is among `kept`. `shadow_share` of the
    queries are asked of both sides. `frozen` are sources whose writers a plan stops, with a route or without.
    """

    version: Literal[1] = TABLE_VERSION
    routes: tuple[Route, ...] = ()
    percent: float = 0.0
    salt: str = ""
    creators: dict[str, bool] = {}
    unlisted: Literal["new", "legacy"] = "legacy"
    kept: tuple[str, ...] = ()
    shadow_share: float = 0.0
    frozen: tuple[Frozen, ...] = ()


# Made by the importing thread: msgspec crashes if two threads let it meet a class at once.
_DECODER = msgspec.json.Decoder(RouteTable)
_ENCODER = msgspec.json.Encoder()


def read_table(text: bytes) -> RouteTable:
    """Return the table. Raises BadInput saying which field cannot be used."""
    try:
        return _DECODER.decode(text)
    except msgspec.MsgspecError as error:
        raise BadInput(f"the routes cannot be read: {error}", next_step="docs/tenants.md shows their form") from error


def write_table(table: RouteTable) -> bytes:
    return _ENCODER.encode(table)


def bare(table: RouteTable) -> RouteTable:
    """Return the table for clients from before places had models and names, which refuse a table with them."""
    routes = [
        replace_struct(
            route,
            old=tuple(RoutePlace(place.namespace, place.index, place.shared) for place in route.old),
            new=RoutePlace(route.new.namespace, route.new.index, route.new.shared),
        )
        for route in table.routes
    ]
    return replace_struct(table, routes=tuple(routes))


def share_of(namespace: str, salt: str) -> float:
    """Return a tenant's number between 0 and 100: the same as long as the salt is, unrelated between salts."""
    digest = hashlib.sha256(f"{salt}\0{namespace}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 * 100


class Resolved:
    """A table made ready for look-ups: a tenant's route, and the old namespaces that several tenants share."""

    def __init__(self, table: RouteTable) -> None:
        self.table = table
        self._by_tenant = {route.tenant: route for route in table.routes}
        self._marked: set[tuple[str, str | None]] = set()
        self._tenants: dict[tuple[str, str | None], set[Tenant]] = {}
        for route in table.routes:
            for place in (*route.old, route.new):
                key = (names.canonical(place.namespace), place.index)
                tenants = self._tenants.setdefault(key, set())
                if len(tenants) < 2:  # two are enough: 12,000 tenants may share a namespace
                    tenants.add(route.tenant)
                if place.shared:
                    self._marked.add(key)
        self._frozen = {(names.canonical(stop.namespace), stop.index): stop for stop in table.frozen}

    def frozen(self, places: Iterable[Place], own_index: str | None) -> str | None:
        """Say why nothing may be written to these places now; None if it may."""
        for place in places:
            for key in _spellings(RoutePlace(place.namespace, place.index), own_index):
                if key in self._frozen:
                    job = self._frozen[key].job
                    by = "by its routes" if job is None else f"while job {job} moves or copies it"
                    return f"the namespace {place.namespace!r} is frozen {by}"
        return None

    def route(self, tenant: Tenant) -> Route | None:
        return self._by_tenant.get(tenant)

    def of_creator(self, creator: str) -> list[Route]:
        return [route for route in self.table.routes if route.creator == creator]

    def side(self, route: Route) -> Side:
        if route.cleaned:
            return "new"
        if route.side is not None:
            return route.side
        return "new" if share_of(route.new.namespace, self.table.salt) < self.table.percent else "old"

    def old(self, route: Route, own_index: str | None = None) -> tuple[Place, ...]:
        """Return the old places. `own_index`, the client's, is for places without one. Not given: no named one."""
        return tuple(self._place(place, own_index) for place in route.old)

    def new(self, route: Route, own_index: str | None = None) -> Place:
        return self._place(route.new, own_index)

    def legacy(self, namespace: str, tenant: Tenant, owned: bool, own_index: str | None) -> Place:
        """Return a namespace of the client's own index, without a route for this tenant, as others' routes know it."""
        named = RoutePlace(namespace)
        others = self._tenants_in(named, own_index) - {tenant}
        return replace(self._place(named, own_index), owned=owned and not others)

    def shares(self, place: RoutePlace, own_index: str | None) -> bool:
        """Say whether a route knows records of several tenants there."""
        return self._place(place, own_index).shared

    def _place(self, place: RoutePlace, own_index: str | None) -> Place:
        marked = any(key in self._marked for key in _spellings(place, own_index))
        shared = marked or is_shared(place.namespace) or len(self._tenants_in(place, own_index)) > 1
        model = RecordModel(place.model, place.dimension) if place.model is not None else None
        return Place(place.namespace, place.index, shared, model=model, names=tuple(sorted(place.names.items())))

    def _tenants_in(self, place: RoutePlace, own_index: str | None) -> set[Tenant]:
        """Return the tenants with this place in a route: all of them if they are none or one, else some."""
        return {tenant for key in _spellings(place, own_index) for tenant in self._tenants.get(key, ())}


def _spellings(place: RoutePlace, own_index: str | None) -> set[tuple[str, str | None]]:
    """Return the spellings of a namespace: one of the client's own index may be named with it or without."""
    namespace, index = names.canonical(place.namespace), place.index or own_index
    return {(namespace, index), (namespace, None if index == own_index else index)}
