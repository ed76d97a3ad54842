"""What a write of the client for threads does where a route has two sides, or where tenants share a namespace."""

from collections.abc import Callable, Sequence

from vecfleet.errors import StoreError, Unreachable
from vecfleet.names import Tenant
from vecfleet.stores.base import Index
from vecfleet.stores.serving import Before
from vecfleet.tenancy import finding, journal
from vecfleet.tenancy.journal import Journal
from vecfleet.tenancy.places import Place, Side, Where, holds_only, is_own
from vecfleet.tenancy.unseen import Unseen


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
