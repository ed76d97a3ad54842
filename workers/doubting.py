"""What a job in doubt looks at more closely: commits of the job table were lost, and with them perhaps a cut-over.

Reads only, so repeating it is harmless. `orchestrator.ledger.continuity` puts jobs in doubt, a person ends it.
"""

from collections.abc import Sequence

from orchestrator.core import manifests
from orchestrator.core.model import Target
from vecfleet.digests import record_digest
from workers.placing import Placed
from workers.work import NotProven, Work


def unlike_written(work: Work, target: Target, sent: Sequence[Placed]) -> frozenset[str]:
    """Of a job in doubt, those that the target holds, neither equal nor as this batch wrote them: ids at the source.

    That readers were moved there may be in what the job table lost, and these are then what is newest.
    """
    if work.job.doubted_at is None or not sent:
        return frozenset()
    recorded = work.recorded(target.id)
    held = work.target.fetch(target.namespace, [one.record.id for one in sent])
    there = {record_id: record_digest(record) for record_id, record in held.items()}
    return frozenset(
        one.source_id
        for one in sent
        if there.get(one.record.id, one.digest) != one.digest
        and manifests.short(there[one.record.id]) != recorded.get(one.source_id)
    )


def require_at_targets(work: Work, gone: set[str]) -> None:
    """Records that the source lacks count as deleted by this job, whose intent the job table lost: each is at its
    target, as it was copied; or changed, where readers were moved. Raises NotProven otherwise.
    """
    left = set(gone)
    for target in work.copy_targets:
        recorded = work.recorded(target.id)
        ids = {work.placer.target_id(record_id): record_id for record_id in gone & recorded.keys()}
        held = work.target.fetch(target.namespace, sorted(ids)) if ids else {}
        left -= {
            ids[record_id]
            for record_id, record in held.items()
            if target.is_authoritative or manifests.short(record_digest(record)) == recorded[ids[record_id]]
        }
    if left:
        raise NotProven(
            f"{len(left)} records of {work.move.source} vanished since they were copied, and are not at their target "
            "as they were"
        )
