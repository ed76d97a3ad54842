"""What others wrote into a target that is being filled: looked for right before the first write of an id. Read-only."""

from collections.abc import Sequence

from orchestrator.core import manifests
from orchestrator.core.model import Target
from orchestrator.ledger import parked
from vecfleet.digests import record_digest
from workers.placing import Placed, place_all
from workers.work import Work


def as_the_source_is_now(work: Work, target: Target, group: Sequence[Placed]) -> list[Placed]:
    """Under `dual`, records that the target holds otherwise are read again: the application may have written both
    sides since they were read, and what it wrote is not to be replaced by what was there before.
    """
    held = work.target.fetch(target.namespace, [one.record.id for one in group]) if group else {}
    digests = {record_id: record_digest(record) for record_id, record in held.items()}
    other = [one.source_id for one in group if digests.get(one.record.id, one.digest) != one.digest]
    records = work.source.fetch(work.move.source, other) if other else {}
    now, _ = place_all(work.placer, records)
    now = {record_id: one for record_id, one in now.items() if one.target == target.namespace}
    return [
        now[one.source_id] if one.source_id in now and now[one.source_id].owner == one.owner else one for one in group
    ]


def not_as_written(work: Work, target: Target, sent: Sequence[Placed]) -> dict[str, str]:
    """Of a job whose clean-up was asked for, the records whose target is not as this batch left it, with why each is
    not written: an application may write to the new side alone by then, and what it wrote or deleted there is newer.
    """
    if work.job.cleaning_at is None or not sent:
        return {}
    why = f"{target.namespace} does not hold what was written there before the clean-up"
    recorded = work.recorded(target.id)
    held = work.target.fetch(target.namespace, [one.record.id for one in sent])
    with work.database.begin() as connection:  # an earlier pass may have found it deleted there
        set_aside = {one.record_id for one in parked.of_batch(connection, work.copy_id) if one.reason == why}
    found: dict[str, str] = {}
    for one in sent:
        there, was = held.get(one.record.id), recorded.get(one.source_id)
        now = None if there is None else record_digest(there)
        as_left = (None if now is None else manifests.short(now)) == was and one.source_id not in set_aside
        if now != one.digest and not as_left:
            found[one.source_id] = why
    if found:
        work.look_again(f"{len(found)} records of {target.namespace} are not what was written there")
    return found


def held_by_others(work: Work, target: Target, sent: Sequence[Placed]) -> set[str]:
    """Of records that this batch never wrote, those that the target holds otherwise: somebody else wrote them there.

    Looked for where others may write: in targets that were there before the job, and where the plan asks for it; and
    in a later pass for a batch that was worked before. Under `dual` it is the application that writes there what is in
    the source. An attempt that died wrote the same, unless the source changed since: then what stands there is in the
    form that this move gives its records; where it gives them none, an attempt that may have written is believed.
    """
    policies = work.job.plan.policies
    worked_before = work.job.passes > 1 and "written" in (work.lease.found or {})
    if policies.writers == "dual" or not (worked_before or policies.check_every_write or not target.created_by_us):
        return set()
    recorded = work.recorded(target.id)
    never = [one for one in sent if one.source_id not in recorded]
    held = work.target.fetch(target.namespace, [one.record.id for one in never]) if never else {}
    other = [one for one in never if one.record.id in held and record_digest(held[one.record.id]) != one.digest]
    if policies.writers == "delta" and not worked_before:
        died = work.lease.attempts > 1 and not policies.enrich and target.id in work.lease.targets
        other = [one for one in other if not died and not work.placer.makes(held[one.record.id], target.namespace)]
    return {one.source_id for one in other}
