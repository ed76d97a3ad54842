"""Handle a write or a deletion that a worker may have made after it had lost its lease."""

from collections.abc import Sequence

from orchestrator.core.freshness import both_sides_fresh_from
from orchestrator.core.model import Lease
from orchestrator.core.states import JobState
from orchestrator.core.wording import counted
from orchestrator.ledger import audit, batches, jobs, moves, rollback
from orchestrator.ledger.database import Database
from orchestrator.services import refusals
from orchestrator.services.acts import claim_again
from vecfleet.errors import Refused


def note_late_write(database: Database, lease: Lease, target_ids: Sequence[int]) -> None:
    """Record that a worker without a lease may have written to these targets, and void their verdicts.

    Before readers move this is enough, because the targets are checked again. After a rollback the write is undone too.
    If a target is authoritative by now, or the job is finished, the job's reason tells of the write: afterwards nobody
    can tell it from an application's. The worker itself calls this, because it alone knows of the write.

    If it dies before the first commit, the write stays until the next check. If it dies between the two commits, the
    write is on record but not undone. Raises Refused if another job has the namespaces, or leads tenants there.
    """
    with database.begin() as connection:
        job = jobs.get(connection, lease.job_id, lock=True)  # before the targets, as the dispatcher locks them
        moves.raise_sequence(connection, target_ids)
        audit.note(connection, "fleet", "late write", job.id, batch=lease.id, targets=list(target_ids))
        if job.state in (JobState.CUT_OVER, JobState.CLEANING, JobState.CLEANED, JobState.FINISHED):
            where = counted(len(target_ids), "target", "targets")
            since = "it was finished" if job.state is JobState.FINISHED else "readers had moved there"
            jobs.add_reason(
                connection,
                job.id,
                f"a worker that had lost its lease may have written older records of batch {lease.id} to {where} "
                f"after {since}: compare them with the application's records",
            )
    if JobState.ROLLING_BACK in (job.state, job.resume_to) or job.state is JobState.ROLLED_BACK:
        _take_back(database, lease, target_ids)


def note_late_deletion(database: Database, lease: Lease) -> None:
    """Record that a worker without a lease may have deleted from its source, after others had stopped waiting for it.

    The job's reason tells of the deletion, and live jobs that write to a namespace of that name check it again. The
    worker itself calls this, because it alone knows of the deletion. If it dies before the commit, nothing is recorded,
    as if it never woke up.
    """
    assert lease.move is not None, "only batches of a move delete from a source"
    source = lease.move.source
    with database.begin() as connection:
        job = jobs.get(connection, lease.job_id, lock=True)
        moves.raise_sequence(connection, moves.written_to(connection, job.source.host, source))
        audit.note(connection, "fleet", "late deletion", job.id, batch=lease.id, namespace=source)
        if job.state is not JobState.CLEANING:  # else the batch runs again and looks itself
            jobs.add_reason(
                connection,
                job.id,
                f"a worker that had lost its lease may have deleted records of {source} late (batch {lease.id}): "
                "compare the records written there since",
            )


def _take_back(database: Database, lease: Lease, target_ids: Sequence[int]) -> None:
    with database.begin() as connection:
        job = jobs.get(connection, lease.job_id, lock=True)
        if not batches.exists(connection, lease.copy_id or lease.id):
            raise Refused(
                f"job {job.id} was purged: its written records are no longer on record",
                code="job-purged",
                next_step=f"look at what is there: `vecfleet audit {job.plan.target.typed}`",
            )
        not_before = both_sides_fresh_from(refusals.now(connection), job.waits)
        rollback.take_back(connection, lease, target_ids, not_before)
        if job.state is JobState.ROLLED_BACK:
            claim_again(connection, job)
            jobs.advance(connection, job.id, job.state, JobState.ROLLING_BACK, reason="a late write is taken back")
        audit.note(connection, "fleet", "take back", job.id, batch=lease.id, targets=list(target_ids))
