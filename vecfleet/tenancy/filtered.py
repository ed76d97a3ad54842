"""Delete the records of one tenant that a metadata filter matches: look, count, then delete by id what still matches.

No store is asked to delete by a filter. Such a deletion sees and counts nothing, follows no owner of a record in a
namespace that tenants share, and matches fields in the namespace's schema only. The records are listed and read, which
costs a read of the whole namespace. Only their ids are kept.

What a read does not show yet is neither counted nor deleted. Each record is read again right before the request that
deletes it: one that was changed since the look, and matches no more, stays. One that is changed within the time of
these two requests goes: the store has no conditional deletion.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vecfleet.errors import BadInput, Refused
from vecfleet.filters import Matches
from vecfleet.names import Tenant
from vecfleet.records import Record
from vecfleet.stores.base import Index
from vecfleet.stores.serving import Before
from vecfleet.tenancy import finding
from vecfleet.tenancy.places import Place, holds_only, is_own

AT_MOST = 1_000
AT_ONCE = 1_000  # ids noted in the journal together
_SAMPLE = 10


@dataclass(frozen=True, slots=True)
class Filtered:
    """The number of records that matched in these namespaces, and of those that were deleted; a few of their ids.

    Fewer are deleted than matched if some changed or went meanwhile, or if it was a dry run.
    """

    matched: int
    deleted: int
    sample: tuple[str, ...]
    namespaces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """The matching records of these places: their number, and the ids of no more than may be deleted or are shown."""

    count: int
    ids: list[str]
    places: Sequence[Place]

    def after(self, deleted: int) -> Filtered:
        namespaces = tuple(place.namespace for place in self.places)
        return Filtered(self.count, deleted, tuple(self.ids[:_SAMPLE]), namespaces)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The records that are meant: one tenant's own, of those that a filter matches."""

    tenant: Tenant
    matches: Matches

    def holds(self, place: Place, record: Record) -> bool:
        return (holds_only(place) or is_own(record.metadata, self.tenant)) and self.matches(record.metadata)


def require_cap(at_most: int) -> None:
    """Raise BadInput for a cap that is none."""
    if isinstance(at_most, bool) or not isinstance(at_most, int) or at_most < 1:
        raise BadInput("the most records to delete is a number from 1 on", next_step="leave it out: then 1,000")


def require_few(matched: int, at_most: int) -> None:
    """Raise Refused, before anything is deleted, if more records match than may be deleted."""
    if matched > at_most:
        raise Refused(
            f"{matched:,} records match this filter, and at most {at_most:,} may be deleted: nothing was deleted",
            code="too-many-match",
            next_step=f"narrow the filter, or allow that many: `at_most={matched}`; in a command `--at-most {matched}`",
        )


def look(places: Sequence[Place], index_of: Callable[[Place], Index], wanted: Wanted, at_most: int) -> Found:
    """Read these places whole, and return what matches there. Keeps ids only, and no more than `at_most` needs."""
    count, ids = 0, dict[str, None]()
    for place in places:
        for record in finding.records(index_of(place), place.namespace):
            if wanted.holds(place, record):
                count += 1
                if len(ids) < max(at_most, _SAMPLE):
                    ids[record.id] = None
    return Found(count, sorted(ids), places)


def delete(index: Index, place: Place, wanted: Wanted, ids: Sequence[str], before: Before) -> list[str]:
    """Read these records again and delete those that still match, in bounded requests. Return their ids.

    Dies in between: some are deleted, and the same again deletes the others.
    """
    deleted: list[str] = []
    for batch_ids in finding.chunks(ids, index.fetch_room):
        held = index.fetch(place.namespace, batch_ids).records.values()
        going = [record.id for record in held if wanted.holds(place, record)]
        if going:
            before()
            index.delete(place.namespace, going)
        deleted += going
    return deleted
