"""Copy a batch again, but write only records that a check found missing or different, or parked records to be retried.

The batch's other records are read and tallied as before and stay untouched at the target, because somebody may have
changed them since. Right before the write, each record is compared with the one at the target. If that one appeared or
changed since the check, or since the record was parked, it is not replaced. A change can still slip in between that
look and our write, or while the look lags. Safe to repeat: a record that is already right is not written again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.core import manifests
from orchestrator.core.model import ParkedRecord, Target
from orchestrator.ledger import differences, parked
from vecfleet.digests import record_digest
from workers.placing import Placed
from workers.work import Work


@dataclass(frozen=True, slots=True)
class Rewrite:
    """The part of a batch that is written when it is copied again.

    `differing` maps ids at the target to the short digest that the check saw there (None: it saw no record). All other
    ids are ids at the source. `retried` are parked records to be tried again; `kept` are those that stay parked, with
    their reasons. `written` are the records that the batch wrote before.
    """

    differing: Mapping[str, int | None]
    retried: frozenset[str]
    kept: Mapping[str, str]
    written: frozenset[str]

    def lacks(self, gone: Sequence[str]) -> bool:
        """Say whether the source now lacks copied records: then the batch cannot be tallied from the source again."""
        return not self.written.isdisjoint(gone)

    def hold_back(
        self, placed: Mapping[str, Placed], problems: Sequence[ParkedRecord]
    ) -> tuple[dict[str, Placed], list[ParkedRecord]]:
        """Keep parked records parked, even if they could be placed by now."""
        going = {record_id: placement for record_id, placement in placed.items() if record_id not in self.kept}
        staying = [ParkedRecord(record_id, self.kept[record_id]) for record_id in placed if record_id in self.kept]
        return going, [*problems, *staying]

    def choose(
        self, work: Work, target: Target, group: Sequence[Placed]
    ) -> tuple[list[Placed], list[Placed], list[ParkedRecord]]:
        """Return one target's records to count, those of them to write, and those that stay parked after all.

        A retried record never replaces another one, which somebody may have written since it was parked. We repair a
        record only if the target lacks it or still holds exactly what the check saw. The next check sees the others.
        """
        asked = [
            placement
            for placement in group
            if placement.source_id in self.retried or placement.record.id in self.differing
        ]
        held = work.target.fetch(target.namespace, [placement.record.id for placement in asked]) if asked else {}
        there = {record_id: record_digest(record) for record_id, record in held.items()}
        newer = {
            placement.source_id
            for placement in asked
            if placement.source_id in self.retried
            and there.get(placement.record.id, placement.digest) != placement.digest
        }
        counted = [placement for placement in group if placement.source_id not in newer]
        sent = [
            placement for placement in asked if placement.source_id not in newer and self._may_write(placement, there)
        ]
        return counted, sent, [ParkedRecord(record_id, why_held(target)) for record_id in sorted(newer)]

    def _may_write(self, placement: Placed, there: Mapping[str, int]) -> bool:
        digest = there.get(placement.record.id)
        return digest is None or manifests.short(digest) == self.differing.get(placement.record.id)


def why_held(target: Target) -> str:
    return f"{target.namespace} holds another record of this id by now"


def rewrite_of(work: Work) -> Rewrite | None:
    """Return the part of a batch that is written when the batch is copied again; None if all of it is written."""
    if work.lease.rewrite is None:
        return None
    with work.database.begin() as connection:
        set_aside = parked.of_batch(connection, work.copy_id)
        differing = differences.to_repair(connection, work.copy_id) if work.lease.rewrite == "differing" else {}
    retried = (
        {record.record_id for record in set_aside if record.accepted_at is None}
        if work.lease.rewrite == "parked"
        else set()
    )
    kept = {record.record_id: record.reason for record in set_aside if record.record_id not in retried}
    written = {record_id for tally in work.tallies for record_id in manifests.select(work.ids, tally.members)}
    return Rewrite(differing, frozenset(retried), kept, frozenset(written))
