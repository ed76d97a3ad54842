"""Decide that parked records stay behind in their source, or take the decision back until clean-up.

Each act is a guard, a change of the counters and an audit row in one transaction under the job's row lock.
"""

from collections import Counter

import sqlalchemy as sa

from orchestrator.core.guards import against_leaving_behind
from orchestrator.core.model import Job
from orchestrator.core.states import JobState
from orchestrator.core.wording import counted
from orchestrator.ledger import audit, jobs, moves, parked
from orchestrator.ledger.database import Database
from orchestrator.services import refusals
from vecfleet.errors import Refused

# A job that stopped in one of these states may wait for a decision about records.
_DECIDES = (JobState.RUNNING, JobState.COPIED)


class MuchLeftBehind(Refused):
    """More records would stay behind than a person leaves in passing: a person must type the name of their `index`.

    `count`: the number of records that this act would leave behind, and that the person confirms.
    """

    def __init__(self, job: Job, count: int, objections: tuple[str, ...]) -> None:
        self.index, self.count = job.plan.source.typed, count
        super().__init__(
            "; ".join(objections),
            next_step=f"`vecfleet park accept {job.id}` asks for the name of the index",
            objections=objections,
        )


def accept_records(database: Database, job_id: int, who: str, record_ids: list[str] | None, confirmed: int = 0) -> int:
    """Let these parked records (None: all) stay behind in their source. Return their number.

    `confirmed`: the number that a person confirmed. Raises MuchLeftBehind if more than that, and more than a few, stay.
    """
    with database.begin() as connection:
        job = jobs.get(connection, job_id, lock=True)
        count = _confirmed_count(connection, job, parked.accept(connection, job_id, who, record_ids), confirmed)
        if count == 0:
            raise Refused(
                f"job {job_id} has no such undecided parked records",
                code="not-parked",
                next_step=f"`vecfleet park list {job_id}`",
            )
        _go_on(connection, job)
        audit.note(connection, who, "park accept", job_id, records=count)
        return count


def accept_batches(database: Database, job_id: int, who: str, batch_ids: list[int] | None, confirmed: int = 0) -> int:
    """Let the records of these parked copy batches (None: all) stay behind in their source. Return their number.

    `confirmed`: the number that a person confirmed. Raises MuchLeftBehind if more than that, and more than a few, stay.
    """
    with database.begin() as connection:
        job = jobs.get(connection, job_id, lock=True)
        refusals.accept_batches(connection, job, batch_ids)
        count = _confirmed_count(connection, job, parked.accept_batches(connection, job_id, who, batch_ids), confirmed)
        _go_on(connection, job)
        audit.note(connection, who, "park accept", job_id, records=count, batches=batch_ids or "all")
        return count


def undo(database: Database, job_id: int, who: str, record_ids: list[str] | None) -> int:
    """Make records that were left behind (None: all of them) undecided again. Return their number.

    A verified job is no longer done: it asks for a decision, and `retry` may copy the records. Safe to repeat.
    """
    with database.begin() as connection:
        job = jobs.get(connection, job_id, lock=True)
        refusals.undo_left_behind(connection, job)
        count = parked.undo(connection, job_id, record_ids).total()
        if count == 0:
            raise Refused(
                f"no such record of job {job_id} was left behind by a person",
                code="not-left-behind",
                next_step=f"`vecfleet park list {job_id}`",
            )
        if job.state in (JobState.VERIFIED, JobState.CUT_OVER):
            reason = f"{who} took back that {counted(count, 'record stays', 'records stay')} behind"
            jobs.advance(connection, job_id, job.state, JobState.COPIED, reason=reason)
        audit.note(connection, who, "park undo", job_id, records=count)
        return count


def _go_on(connection: sa.Connection, job: Job) -> None:
    """Let a job that waited for this decision go on. The dispatcher's next look finds anything else it waits for.

    Without this, a person who watches the job right after the decision would still see it at rest.
    """
    if job.state is JobState.NEEDS_ATTENTION and job.resume_to in _DECIDES:
        jobs.advance(connection, job.id, job.state, job.resume_to)


def _confirmed_count(connection: sa.Connection, job: Job, count_by_move: Counter[int], confirmed: int) -> int:
    """Return how many records were left behind. Raise MuchLeftBehind, which undoes the decision, if they are many."""
    count = count_by_move.total()
    if count > confirmed:
        left = [moves.get(connection, move_id) for move_id in sorted(count_by_move)]
        objections = against_leaving_behind(left)
        if objections:
            raise MuchLeftBehind(job, count, tuple(objections))
    return count
