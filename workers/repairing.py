"""Copy a batch again, but write only what must be written: what a check found wanting, or the parked records retried.

Its other records are read and added up as before, and stay untouched at the target: there, somebody may have changed
them since. What it writes is compared right before: a record that came, or changed, since the check (or since it was
parked) is not written over. What remains is the time between that look and our write, and the lag of the look itself.
Repeating it is harmless, as with any copy: what is there by then as it should be is not written again.
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
    """What of a batch is written when it is copied again.

    `differing` are ids at the target, with the short digest of what the check saw there. Ids at the source are
    `retried` and `kept`, parked records that are tried again and, with their reasons, those that stay parked; and
    `written`, what the batch wrote before.
    """

    differing: Mapping[str, int | None]
    retried: frozenset[str]
    kept: Mapping[str, str]
    written: frozenset[str]

    def lacks(self, gone: Sequence[str]) -> bool:
        """Whether the source lacks records by now that were copied from it: then it is no measure of what was."""
        return not self.written.isdisjoint(gone)

    def hold_back(
        self, placed: Mapping[str, Placed], problems: Sequence[ParkedRecord]
    ) -> tuple[dict[str, Placed], list[ParkedRecord]]:
        """Records that stay parked do, whether or not they could be placed by now."""
        going = {record_id: one for record_id, one in placed.items() if record_id not in self.kept}
        staying = [ParkedRecord(record_id, self.kept[record_id]) for record_id in placed if record_id in self.kept]
        return going, [*problems, *staying]

    def choose(
        self, work: Work, target: Target, group: Sequence[Placed]
    ) -> tuple[list[Placed], list[Placed], list[ParkedRecord]]:
        """Of one target's records: those to count, those of them to write, and those that stay parked after all.

        A retried record is never written over another one: since it was parked, somebody may have written it. One that
        differed is written where nothing is, or exactly what the check saw; else it is for the next check to tell.
        """
        asked = [one for one in group if one.source_id in self.retried or one.record.id in self.differing]
        held = work.target.fetch(target.namespace, [one.record.id for one in asked]) if asked else {}
        there = {record_id: record_digest(record) for record_id, record in held.items()}
        newer = {
            one.source_id
            for one in asked
            if one.source_id in self.retried and there.get(one.record.id, one.digest) != one.digest
        }
        counted = [one for one in group if one.source_id not in newer]
        sent = [one for one in asked if one.source_id not in newer and self._may_write(one, there)]
        return counted, sent, [ParkedRecord(record_id, why_held(target)) for record_id in sorted(newer)]

    def _may_write(self, one: Placed, there: Mapping[str, int]) -> bool:
        found = there.get(one.record.id)
        return found is None or manifests.short(found) == self.differing.get(one.record.id)


def why_held(target: Target) -> str:
    return f"{target.namespace} holds another record of this id by now"


def rewrite_of(work: Work) -> Rewrite | None:
    """What is written of a batch that is copied again; None where that is all of it."""
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
