"""Choose the records of a group that are written to their target: in a first pass, in a later one, or in a repair.

No record is chosen to replace one that somebody else wrote, or one that is newer than the source's. Read-only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.core import manifests
from orchestrator.core.model import ParkedRecord, Target
from orchestrator.ledger import differences
from vecfleet.digests import record_digest
from workers.doubting import unlike_written
from workers.foreign import as_the_source_is_now, held_by_others, not_as_written
from workers.placing import Placed
from workers.repairing import Rewrite, why_held
from workers.work import Work


@dataclass(frozen=True, slots=True)
class Chosen:
    """Records of one target: `counted` are in its tally, `sent` are those of them to write, `parked` are not copied."""

    counted: list[Placed]
    sent: list[Placed]
    parked: list[ParkedRecord]

    def without(self, reasons: Mapping[str, str]) -> "Chosen":
        """Park these records, by their ids at the source, each for its reason."""
        return Chosen(
            [placement for placement in self.counted if placement.source_id not in reasons],
            [placement for placement in self.sent if placement.source_id not in reasons],
            [*self.parked, *(ParkedRecord(record_id, why) for record_id, why in sorted(reasons.items()))],
        )


def choose(work: Work, target: Target, group: Sequence[Placed], rewrite: Rewrite | None) -> Chosen:
    """Choose the records to write to a target that readers have not moved to."""
    chosen = _copied(work, target, group) if rewrite is None else _repaired(work, target, group, rewrite)
    newer = dict.fromkeys(unlike_written(work, target, chosen.sent), why_held(target))
    return chosen.without(newer | not_as_written(work, target, chosen.sent))


def _copied(work: Work, target: Target, group: Sequence[Placed]) -> Chosen:
    """Choose all records in the first pass; in a later one those that changed. Park those that others hold."""
    if work.job.plan.policies.writers == "dual":
        group = as_the_source_is_now(work, target, group)
    sent = _unlike_recorded(work, target, group)
    foreign = held_by_others(work, target, sent)
    return Chosen(list(group), list(sent), []).without(dict.fromkeys(foreign, why_held(target)))


def _repaired(work: Work, target: Target, group: Sequence[Placed], rewrite: Rewrite) -> Chosen:
    """Choose records that a check found missing or different or that a person retries; later, changed ones too."""
    counted, sent, newer = rewrite.choose(work, target, group)
    if work.job.passes > 1:
        chosen = {placement.record.id for placement in sent} | rewrite.differing.keys()
        changed = _unlike_recorded(work, target, counted)
        sent += [placement for placement in changed if placement.record.id not in chosen]
    return Chosen(counted, sent, newer)


def left_alone(work: Work, target: Target, group: Sequence[Placed]) -> Chosen:
    """Choose nothing, because readers have moved to this target. Park new records that differ from those it holds."""
    unwritten = _unequal(work, target, _unlike(work.recorded(target.id), group))
    why = f"readers have moved to {target.namespace}: nothing is written to it any more"
    return Chosen(list(group), [], []).without({placement.source_id: why for placement in unwritten})


def _unlike_recorded(work: Work, target: Target, group: Sequence[Placed]) -> Sequence[Placed]:
    """Return the records to write: all in the first pass; later those that changed since this batch wrote them.

    Under `dual` the application writes to the target too: a record that is equal there already is not written. A record
    that a check found missing or different counts as changed. What the service made equal is not written either.
    """
    policies = work.job.plan.policies
    dual = policies.writers == "dual"
    if work.job.passes == 1 and not dual:
        return _unequal(work, target, group) if policies.prefilled else group
    recorded = work.recorded(target.id)
    if not dual:
        return _unlike(recorded, group)
    with work.database.begin() as connection:
        wanting = differences.to_repair(connection, work.copy_id)
    as_written = {
        source_id: digest for source_id, digest in recorded.items() if work.placer.target_id(source_id) not in wanting
    }
    return _unequal(work, target, _unlike(as_written, group))


def _unequal(work: Work, target: Target, group: Sequence[Placed]) -> list[Placed]:
    """Return the records that are missing at the target or differ there."""
    held = work.target.fetch(target.namespace, [placement.record.id for placement in group]) if group else {}
    digests = {record_id: record_digest(record) for record_id, record in held.items()}
    return [placement for placement in group if digests.get(placement.record.id) != placement.digest]


def _unlike(recorded: Mapping[str, int], group: Sequence[Placed]) -> list[Placed]:
    return [placement for placement in group if recorded.get(placement.source_id) != manifests.short(placement.digest)]
