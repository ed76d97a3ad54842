"""Find records that others wrote into a target being filled, right before the first write of an id. Read-only."""

from collections.abc import Sequence

from orchestrator.core import manifests
from orchestrator.core.model import Target
from orchestrator.ledger import parked
from vecfleet.digests import record_digest
from workers.placing import Placed
from workers.vectors import makes, place
from workers.work import Work


def as_the_source_is_now(work: Work, target: Target, group: Sequence[Placed]) -> list[Placed]:
    """Read the records that differ at the target again, for `dual`; return the group as the source has it now.

    The application may have written to both sides since this batch read the source. An older record must not replace
    the application's.
    """
    held = work.target.fetch(target.namespace, [placement.record.id for placement in group]) if group else {}
    digests = {record_id: record_digest(record) for record_id, record in held.items()}
    other = [
        placement.source_id
        for placement in group
        if digests.get(placement.record.id, placement.digest) != placement.digest
    ]
    records = work.source.fetch(work.move.source, other) if other else {}
    now, _ = place(work, records)
    now = {record_id: placement for record_id, placement in now.items() if placement.target == target.namespace}
    return [
        now[placement.source_id]
        if placement.source_id in now and now[placement.source_id].owner == placement.owner
        else placement
        for placement in group
    ]


def not_as_written(work: Work, target: Target, sent: Sequence[Placed]) -> dict[str, str]:
    """Return the records to leave alone because the target is not as this batch left it: source id → reason.

    Looks only once the job's clean-up was asked for. From then on an application may write to the new side alone, and
    its writes and deletions there are newer.
    """
    if work.job.cleaning_at is None or not sent:
        return {}
    why = f"{target.namespace} does not hold what was written there before the clean-up"
    recorded = work.recorded(target.id)
    held = work.target.fetch(target.namespace, [placement.record.id for placement in sent])
    with work.database.begin() as connection:  # an earlier pass may have found the record deleted at the target
        set_aside = {record.record_id for record in parked.of_batch(connection, work.copy_id) if record.reason == why}
    newer_there: dict[str, str] = {}
    for placement in sent:
        there, was = held.get(placement.record.id), recorded.get(placement.source_id)
        now = None if there is None else record_digest(there)
        as_left = (None if now is None else manifests.short(now)) == was and placement.source_id not in set_aside
        if now != placement.digest and not as_left:
            newer_there[placement.source_id] = why
    if newer_there:
        work.look_again(f"{len(newer_there)} records of {target.namespace} are not what was written there")
    return newer_there


def held_by_others(work: Work, target: Target, sent: Sequence[Placed]) -> set[str]:
    """Return source ids that this batch never wrote and that differ at the target: somebody else wrote them there.

    Looks only if others may write: the target is older than the job, the plan asks for it, or a later pass works this
    batch again. Never looks under `dual`, because there the application itself writes both sides.

    A crashed attempt may have written the record. If the source changed since, the record differs too, but it carries
    the metadata that this move adds. If the move adds none, we assume that the crashed attempt wrote the record.
    """
    policies = work.job.plan.policies
    worked_before = work.job.passes > 1 and "written" in (work.lease.found or {})
    if policies.writers == "dual" or not (worked_before or policies.check_every_write or not target.created_by_us):
        return set()
    recorded = work.recorded(target.id)
    unwritten = [placement for placement in sent if placement.source_id not in recorded]
    held = work.target.fetch(target.namespace, [placement.record.id for placement in unwritten]) if unwritten else {}
    other = [
        placement
        for placement in unwritten
        if placement.record.id in held and record_digest(held[placement.record.id]) != placement.digest
    ]
    if policies.writers == "delta" and not worked_before:
        died = work.lease.attempts > 1 and not work.placer.leads_back and target.id in work.lease.targets
        other = [
            placement
            for placement in other
            if not died and not makes(work, held[placement.record.id], target.namespace)
        ]
    return {placement.source_id for placement in other}
