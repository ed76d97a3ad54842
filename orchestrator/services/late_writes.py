"""Handle a write or a deletion that a worker may have made after it had lost its lease."""

from collections.abc import Callable, Collection, Sequence

import sqlalchemy as sa

from orchestrator.core.freshness import both_sides_fresh_from
from orchestrator.core.late_calls import deleted_late, written_late
from orchestrator.core.model import Job, Lease
from orchestrator.core.states import JOB_ENDED, JobState
from orchestrator.ledger import audit, batches, jobs, late_calls, moves, rollback, route_table
from orchestrator.ledger.database import Database
from orchestrator.services import refusals
from orchestrator.services.acts import claim_again
from vecfleet.connections import full_name
from vecfleet.errors import Refused

Sentence = Callable[[int | None], str]
"""The sentence about a late call, by the live job that is told it; None: that job is over."""


def note_late_write(database: Database, lease: Lease, target_ids: Sequence[int]) -> None:
    """Record that a worker without a lease may have written to these targets, and void the verdicts that rest on them.

    Verdicts of other jobs on or from these namespaces are void too. Before readers move this is enough, because targets
    are checked again. After a rollback the write is undone too. Where an application may have written the newer record,
    nobody can tell the two apart: the jobs by which it writes there say so in their reasons. The worker itself calls
    this, because it alone knows of the write.

    If it dies before the first commit, the write stays until the next check. If it dies between the two commits, the
    write is on record but not undone. Raises Refused if another job has the namespaces, or leads tenants there.
    """
    with database.begin() as connection:
        written = [it for it in moves.targets_of_job(connection, lease.job_id) if it.id in target_ids]
        namespaces = [target.namespace for target in written]
        job, others, is_led = _concerned(connection, lease, written_there=True, namespaces=namespaces)
        moves.raise_sequence(connection, target_ids)
        audit.note(connection, "fleet", "late write", job.id, batch=lease.id, targets=list(target_ids))
        is_authority = any(target.is_authoritative for target in written)
        reads = is_authority and (is_led or job.state not in JOB_ENDED)  # else its readers are elsewhere by now
        is_last = not others and (is_authority or job.state in (JobState.FINISHED, JobState.CLEANED))
        told = others | ({job.id} if reads or is_last else set())
        _tell(connection, told, lambda of: written_late(lease.id, job.id, namespaces, of))
    if JobState.ROLLING_BACK in (job.state, job.resume_to) or job.state is JobState.ROLLED_BACK:
        _take_back(database, lease, target_ids)


def note_late_deletion(database: Database, lease: Lease) -> None:
    """Record that a worker without a lease may have deleted from its source, after others had stopped waiting for it.

    The job's reason tells of the deletion, and so do those of other jobs that use the namespace; their verdicts are
    void. The worker itself calls this, because it alone knows of the deletion. If it dies before the commit, nothing is
    recorded, as if it never woke up.
    """
    assert lease.move is not None, "only batches of a move delete from a source"
    source = lease.move.source
    with database.begin() as connection:
        job, others, _ = _concerned(connection, lease, written_there=False, namespaces=[source])
        audit.note(connection, "fleet", "late deletion", job.id, batch=lease.id, namespace=source)
        own = set() if job.state is JobState.CLEANING else {job.id}  # else the batch runs again and looks itself
        _tell(connection, others | own, lambda of: deleted_late(lease.id, job.id, source, of))


def _concerned(
    connection: sa.Connection, lease: Lease, *, written_there: bool, namespaces: Collection[str]
) -> tuple[Job, set[int], bool]:
    """Void the verdicts of other live jobs that rest on these namespaces.

    Return the job of the lease, the other jobs for which an application's newest records are there, and whether routes
    of the job itself lead there. Those others read a namespace as their source or have moved readers there, or their
    routes lead tenants there, also of jobs that are over. Jobs are locked before targets, as the dispatcher locks them,
    and in the order of their numbers.
    """
    job = jobs.get(connection, lease.job_id)
    side, place = (job.target, job.plan.target) if written_there else (job.source, job.plan.source)
    resting = late_calls.resting_on(connection, side.host, namespaces, but=job.id)
    for job_id in sorted({job.id, *(row.job_id for row in resting)}):
        jobs.lock(connection, job_id)
    moves.raise_sequence(connection, [row.target_id for row in resting if row.target_id is not None])
    routes = route_table.leading_to(connection, side.host, full_name(place.store, side.name), namespaces)
    led = {route.job for route in routes if route.job is not None}
    others = led | {row.job_id for row in resting if row.is_source or row.authority == "target"}
    return jobs.get(connection, job.id), others - {job.id}, job.id in led


def _tell(connection: sa.Connection, job_ids: Collection[int], sentence: Sentence) -> None:
    live = set(jobs.live(connection)) if job_ids else set()
    for job_id in sorted(job_ids):
        jobs.add_reason(connection, job_id, sentence(job_id if job_id in live else None))


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
