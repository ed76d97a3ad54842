"""What a write of the client for threads does where a route has two sides, or where tenants share a namespace."""

from collections.abc import Callable, Sequence
from itertools import chain

from vecfleet.errors import StoreError, Unreachable
from vecfleet.names import Tenant
from vecfleet.records import Record
from vecfleet.stores.base import Index
from vecfleet.stores.serving import Before
from vecfleet.tenancy import finding, journal
from vecfleet.tenancy.journal import Journal
from vecfleet.tenancy.places import Place, Side, Where, holds_only, is_own, require_not_others
from vecfleet.tenancy.requests import by_place
from vecfleet.tenancy.unseen import Unseen


def looks(where: Where) -> bool:
    """Whether a write looks first: at places that tenants share, or where the tenant has several old ones."""
    return bool(_several(where)) or not all(map(holds_only, chain.from_iterable(where.writes)))


def homes_of(where: Where, ids: Sequence[str], index_of: Callable[[Place], Index]) -> dict[str, Place]:
    """Of a tenant with several old places: in which of them these records are; none may come to be in two.

    Raises TenantIsolationError where a record that the write would replace is not the tenant's own. Others may write
    such a record a moment later, or have a moment ago: the store has no conditional write, and reads may lag.
    """
    several = _several(where)
    there: dict[Place, dict[str, Record]] = {}
    for place in {*chain.from_iterable(where.writes), *several}:
        if place in several or not holds_only(place):
            index, there[place] = index_of(place), {}
            for some in finding.chunks(ids, index.limits.fetch_ids):
                there[place] |= index.fetch(place.namespace, some).records
    homes: dict[str, Place] = {}
    for place in several:
        for id, one in there[place].items():
            if holds_only(place) or is_own(one.metadata, where.tenant):
                homes.setdefault(id, place)
    sides: tuple[Side, ...] = ("old", "new") if where.dual else (where.side,)
    for side in sides:
        for place, some in by_place(side, where, homes, ids, str):
            found = there.get(place, {})
            require_not_others(place, where.tenant, {id: found[id] for id in some if id in found})
    return homes


def _several(where: Where) -> tuple[Place, ...]:
    return where.old if len(where.old) > 1 and (where.dual or where.side == "old") else ()


def put_to_both(
    book: Journal, where: Where, ids: Sequence[str], put: Callable[[Side, Sequence[Place]], int], before: Before
) -> int:
    """Write to the side of the readers, then to the other one; what that lacks then is owed to it.

    Who dies in between leaves it on record. Safe to repeat: a write made twice is the same write.
    """
    noted, first, both = book.note(where, ids), False, False
    try:
        taken = put(where.side, where.reads)
        before()
        first = True
        try:
            put(noted.side, where.other)
            both = True
        except (StoreError, Unreachable) as error:
            journal.tell_owed(noted, error)
    finally:
        book.settle(noted, both, taken=first)
    return taken


def delete(index: Index, place: Place, tenant: Tenant, ids: Sequence[str], unseen: Unseen, before: Before) -> int:
    """Delete the tenant's own of these records. Returns how many were there.

    Among others' only what is seen is deleted, and reads may lag: what is not seen is looked for once they are fresh.
    """
    count = 0
    for some in finding.chunks(ids, index.limits.fetch_ids):
        found = index.fetch(place.namespace, some).records.values()
        own = [one.id for one in found if holds_only(place) or is_own(one.metadata, tenant)]
        before()
        index.delete(place.namespace, some if holds_only(place) else own)
        if not holds_only(place):
            unseen.keep(tenant, sorted({*some} - {one.id for one in found}))
        count += len(own)
    return count
