"""Routes: which side each tenant's readers use. The form in which they are kept, sent and read; no I/O here.

{"version": 1, "percent": 25, "salt": "x", "shadow_share": 0.05, "unlisted": "new", "kept": ["old-1"],
 "creators": {"sainath.no.1": true},
 "routes": [{"creator": "sainath.no.1", "twin": "coach", "old": [{"namespace": "5698a809"}],
             "new": {"namespace": "creator_sainath.no.1_twin_coach"}, "side": "old"}]}
"""

import hashlib
from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from vecfleet.errors import BadInput
from vecfleet.names import Tenant
from vecfleet.tenancy.places import Place, Side, is_shared

TABLE_VERSION: Literal[1] = 1


class RoutePlace(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A namespace of an index (None: the client's own). `shared`: other tenants have records there too."""

    namespace: str
    index: str | None = None
    shared: bool = False


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


class RouteTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """All routes. `percent` of the tenants, by a hash of `salt` and their new namespace, are on the new side.

    `creators` are settings for whole creators, for tenants without a route. `unlisted` "new" says that the switch was
    made: a tenant without a route is younger than it, unless its namespace is among `kept`. `shadow_share` of the
    queries are asked of both sides.
    """

    version: Literal[1] = TABLE_VERSION
    routes: tuple[Route, ...] = ()
    percent: float = 0.0
    salt: str = ""
    creators: dict[str, bool] = {}
    unlisted: Literal["new", "legacy"] = "legacy"
    kept: tuple[str, ...] = ()
    shadow_share: float = 0.0


# Made by the importing thread: msgspec crashes where two threads let it meet a class at once.
_DECODER = msgspec.json.Decoder(RouteTable)
_ENCODER = msgspec.json.Encoder()


def read_table(text: bytes) -> RouteTable:
    """Raises BadInput saying which field cannot be used."""
    try:
        return _DECODER.decode(text)
    except msgspec.MsgspecError as error:
        raise BadInput(f"the routes cannot be read: {error}", next_step="docs/tenants.md shows their form") from error


def write_table(table: RouteTable) -> bytes:
    return _ENCODER.encode(table)


def share_of(namespace: str, salt: str) -> float:
    """Where a tenant stands between 0 and 100: the same for as long as the salt is, unrelated between salts."""
    digest = hashlib.sha256(f"{salt}\0{namespace}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 * 100


class Resolved:
    """A table made ready for look-ups: which route a tenant has, and which old namespaces several tenants share."""

    def __init__(self, table: RouteTable) -> None:
        self.table = table
        self._by_tenant = {route.tenant: route for route in table.routes}
        self._shared = _several(
            (place.index, place.namespace) for route in table.routes for place in dict.fromkeys(route.old)
        )

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

    def old(self, route: Route) -> tuple[Place, ...]:
        return tuple(self._place(place) for place in route.old)

    def new(self, route: Route) -> Place:
        return self._place(route.new)

    def _place(self, place: RoutePlace) -> Place:
        shared = place.shared or is_shared(place.namespace) or (place.index, place.namespace) in self._shared
        return Place(place.namespace, place.index, shared)


def _several(named: Iterable[Any]) -> set[Any]:
    seen: set[Any] = set()
    twice: set[Any] = set()
    for one in named:
        (twice if one in seen else seen).add(one)
    return twice
