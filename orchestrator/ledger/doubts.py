"""Doubt: commits of the job table are lost, so that every live job stops, and proves anew what it is to delete."""

from typing import Any

import sqlalchemy as sa

from orchestrator.core.states import BATCH_IN_FLIGHT, JOB_ENDED, JOB_PAUSABLE, BatchState, JobState
from orchestrator.ledger import audit, batches, checks, cleanup, jobs, moves
from orchestrator.ledger import tables as t

_NOW = sa.func.clock_timestamp()
_J, _B = t.job.c, t.batch.c
# Numbers that were given in what is lost are not given again: processes keep what they know of a job by its number.
_SKIPPED = (("job", 100), ("batch", 1_000_000))
# Nor are generations of batches: who took one in what is lost would pass the fence of whoever takes the same one now.
_SKIPPED_GENERATIONS = 1_000


def doubt(connection: sa.Connection, why: str, lease_s: float) -> list[int]:
    """Pause every live job, take back what is in flight, void its verdicts; returns the jobs.

    A worker whose lease is lost with them may go on for `lease_s`: so long, and a lag longer, nothing is begun.

    In one transaction: dies before its commit: the next look of a dispatcher does it all. The count of looks and the
    server are approved in the same transaction, so that it is done once.
    """
    live = connection.execute(
        sa.select(_J.id, _J.state, _J.resume_to, _J.reason)
        .where(_J.state.not_in(JOB_ENDED))
        .order_by(_J.id)
        .with_for_update(key_share=True)
    ).all()
    _skip_numbers(connection)
    _take_back(connection, [row.id for row in live])
    for row in live:
        _doubt(connection, row, why, lease_s)
        audit.note(connection, "fleet", "doubt", row.id, reason=why)
    return [row.id for row in live]


def _skip_numbers(connection: sa.Connection) -> None:
    for table, numbers in _SKIPPED:
        sequence = sa.func.pg_get_serial_sequence(table, "id")
        connection.execute(sa.select(sa.func.setval(sequence, sa.func.nextval(sequence) + numbers)))


def _take_back(connection: sa.Connection, job_ids: list[int]) -> None:
    """No worker records, or begins to delete, on a lease from before: the fence is shut for all of them.

    Also for leases that nothing here tells of, of batches that were due, or done and opened again, in what is lost.
    """
    connection.execute(
        sa.update(t.batch)
        .where(_B.job_id.in_(job_ids))
        .values(
            state=sa.case((_B.state.in_(sorted(BATCH_IN_FLIGHT)), BatchState.READY), else_=_B.state),
            generation=_B.generation + _SKIPPED_GENERATIONS,
            lease_owner=None,
            lease_until=None,
        )
    )


def _doubt(connection: sa.Connection, job: Any, why: str, lease_s: float) -> None:
    state = JobState(job.state)
    if state is JobState.PLANNED:  # a job that is to be paused must have begun
        moves.start_listing(connection, job.id)
        jobs.advance(connection, job.id, state, JobState.RUNNING)
        state = JobState.RUNNING
    elif state in (JobState.VERIFIED, JobState.CUT_OVER):
        jobs.advance(connection, job.id, state, JobState.COPIED)
        state = JobState.COPIED
    if state in JOB_PAUSABLE:
        jobs.advance(connection, job.id, state, JobState.PAUSING, reason=why, resume_to=state)
    else:
        jobs.add_reason(connection, job.id, why)
    if JobState.CLEANING in (state, job.resume_to):
        cleanup.prove_again(connection, job.id)  # what is deleted is read on both sides right before
    else:
        checks.restart(connection, [target.id for target in moves.targets_of_job(connection, job.id)])
    # The soak, and the time in which writers may still be at the old side, count from now on.
    began_again = sa.case((_J.cut_over_at.is_not(None), _NOW))
    policies = _J.plan["policies"]
    passes = sa.func.coalesce(sa.cast(policies["max_passes"].astext, sa.Integer), 0)
    jobs.change(
        connection,
        job.id,
        doubted_at=_NOW,
        lands_by=_NOW + batches.interval(lease_s + sa.func.greatest(_J.source_lag_s, _J.target_lag_s)),
        cut_over_at=began_again,
        quiet_passes=0,
        passes_allowed=sa.func.greatest(_J.passes_allowed, _J.passes + passes),
    )
