"""Closer checks for a job in doubt: commits of the job table were lost, and perhaps a cut-over with them.

Read-only, so safe to repeat. `orchestrator.ledger.doubts` puts jobs in doubt; a person ends the doubt.
"""

from collections.abc import Sequence

from orchestrator.core import manifests
from orchestrator.core.model import Target
from vecfleet.digests import record_digest
from workers.placing import Placed
from workers.work import NotProven, Work


def unlike_written(work: Work, target: Target, sent: Sequence[Placed]) -> frozenset[str]:
    """Return the source ids of records that the target holds neither equal nor as this batch wrote them.

    Looks only if the job is in doubt. A lost commit may have moved readers to the target: then its records are the
    newest.
    """
    if work.job.doubted_at is None or not sent:
        return frozenset()
    recorded = work.recorded(target.id)
    held = work.target.fetch(target.namespace, [placement.record.id for placement in sent])
    there = {record_id: record_digest(record) for record_id, record in held.items()}
    return frozenset(
        placement.source_id
        for placement in sent
        if there.get(placement.record.id, placement.digest) != placement.digest
        and manifests.short(there[placement.record.id]) != recorded.get(placement.source_id)
    )


def require_at_targets(work: Work, gone: set[str]) -> None:
    """Raise NotProven unless each record that the source lacks is at its target as it was copied.

    Such records count as deleted by this job: the job table lost the intent. At a target that readers were moved to, a
    record may have changed.
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
