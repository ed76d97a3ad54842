"""Doubt: commits of the job table are lost, so every live job stops and proves again the records it will delete."""

from typing import Any

import sqlalchemy as sa

from orchestrator.core.states import BATCH_IN_FLIGHT, JOB_ENDED, JOB_PAUSABLE, BatchState, JobState
from orchestrator.ledger import audit, batches, checks, cleanup, jobs, moves, transitions
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import NOW, among

_J, _B = t.job.c, t.batch.c
# Numbers from lost commits are not used again: processes remember jobs by their numbers.
_SKIPPED = (("job", 100), ("batch", 1_000_000))
# The same holds for generations: a worker with a lease from lost commits would pass the fence of a new one.
_SKIPPED_GENERATIONS = 1_000


def doubt(connection: sa.Connection, why: str, lease_s: float) -> list[int]:
    """Pause every live job, take back its batches in flight, and void its verdicts. Return the jobs.

    A worker whose lease is in lost commits may go on for `lease_s`: nothing begins for that time plus a lag.

    All this is one transaction. If the dispatcher dies before the commit, its next look does all of it. The same
    transaction approves the count of looks and the server, so a doubt is recorded once.
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
    """Shut the fence for all earlier leases: no worker with such a lease records anything or begins a deletion.

    This covers leases in lost commits too, whatever the state of their batches is here.
    """
    of_jobs, in_flight = among(_B.job_id, job_ids), _B.state.in_(sorted(BATCH_IN_FLIGHT))
    connection.execute(transitions.batch_to(BatchState.READY).where(of_jobs, in_flight))
    connection.execute(sa.update(t.batch).where(of_jobs).values(generation=_B.generation + _SKIPPED_GENERATIONS))


def _doubt(connection: sa.Connection, job: Any, why: str, lease_s: float) -> None:
    state = JobState(job.state)
    if state is JobState.PLANNED:  # only a job that has begun can be paused
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
        cleanup.prove_again(connection, job.id)  # records are read on both sides right before their deletion
    else:
        checks.restart(connection, [target.id for target in moves.targets_of_job(connection, job.id)])
    # The soak time, and the time in which writers may still use the old side, start again now.
    began_again = sa.case((_J.cut_over_at.is_not(None), NOW))
    # The lost commits may have ended the job, and with it the freeze of its sources: clients may hold such routes.
    landed_s = sa.func.greatest(lease_s, _J.routes_stale_s)
    policies = _J.plan["policies"]
    passes = sa.func.coalesce(sa.cast(policies["max_passes"].astext, sa.Integer), 0)
    jobs.change(
        connection,
        job.id,
        doubted_at=NOW,
        lands_by=NOW + batches.interval(landed_s + sa.func.greatest(_J.source_lag_s, _J.target_lag_s)),
        cut_over_at=began_again,
        verified_at=None,
        quiet_passes=0,
        passes_allowed=sa.func.greatest(_J.passes_allowed, _J.passes + passes),
    )
