"""Writes to namespaces that tenants share: what a write would replace, and what a deletion may take."""

from collections.abc import Callable, Sequence
from itertools import chain

from vecfleet.names import Tenant
from vecfleet.records import Record
from vecfleet.stores.base import Index
from vecfleet.stores.serving import Before
from vecfleet.tenancy import finding
from vecfleet.tenancy.places import Place, Side, Where, holds_only, is_own, require_not_others
from vecfleet.tenancy.requests import by_place
from vecfleet.tenancy.unseen import Unseen


def looks(where: Where) -> bool:
    """Say whether a write looks first: at places that tenants share, or if the tenant has several old ones."""
    return bool(_several(where)) or not all(map(holds_only, chain.from_iterable(where.writes)))


def homes_of(where: Where, ids: Sequence[str], index_of: Callable[[Place], Index]) -> dict[str, Place]:
    """Return the old place of each of these records, for a tenant with several: none may come to be in two.

    Raises TenantIsolationError if a record that the write would replace is not the tenant's own. Others may write such
    a record a moment later, or have a moment ago: the store has no conditional write, and reads may lag.
    """
    several = _several(where)
    there: dict[Place, dict[str, Record]] = {}
    for place in {*chain.from_iterable(where.writes), *several}:
        if place in several or not holds_only(place):
            index, there[place] = index_of(place), {}
            for batch_ids in finding.chunks(ids, index.fetch_room):
                there[place] |= index.fetch(place.namespace, batch_ids).records
    homes: dict[str, Place] = {}
    for place in several:
        for id, record in there[place].items():
            if holds_only(place) or is_own(record.metadata, where.tenant):
                homes.setdefault(id, place)
    sides: tuple[Side, ...] = ("old", "new") if where.dual else (where.side,)
    for side in sides:
        for place, place_ids in by_place(side, where, homes, ids, str):
            held = there.get(place, {})
            require_not_others(place, where.tenant, {id: held[id] for id in place_ids if id in held})
    return homes


def _several(where: Where) -> tuple[Place, ...]:
    return where.old if len(where.old) > 1 and (where.dual or where.side == "old") else ()


def delete(index: Index, place: Place, tenant: Tenant, ids: Sequence[str], unseen: Unseen, before: Before) -> int:
    """Delete the tenant's own of these records. Returns how many were there.

    Among others' records only seen ones are deleted, and reads may lag: unseen ones are looked for once reads are
    fresh.
    """
    count = 0
    for batch_ids in finding.chunks(ids, index.fetch_room):
        held = index.fetch(place.namespace, batch_ids).records.values()
        own = [record.id for record in held if holds_only(place) or is_own(record.metadata, tenant)]
        before()
        index.delete(place.namespace, batch_ids if holds_only(place) else own)
        if not holds_only(place):
            unseen.keep(tenant, sorted({*batch_ids} - {record.id for record in held}))
        count += len(own)
    return count
