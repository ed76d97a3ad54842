"""While a fleet is brought to a new version, old workers meet jobs that they cannot read."""

from typing import Any

import pytest
import sqlalchemy as sa
from in_one_process import One

from orchestrator.core.model import Wakeup
from orchestrator.core.retrying import MAX_ATTEMPTS
from orchestrator.core.states import BatchState, JobState, MoveState
from orchestrator.ledger import tables as t
from workers import runner


@pytest.fixture
def wakeup(one: One) -> Wakeup:
    """For the listing of the one job's one namespace."""
    one.table.start()
    [wakeup] = one.table.dispatch()
    return wakeup


def newer(one: One) -> dict[str, Any]:
    """A newer version made this job: its plan says what this one does not know. Returns what it was."""
    with one.table.begin() as connection:
        job = connection.execute(
            sa.select(t.job.c.plan, t.job.c.plan_digest).where(t.job.c.id == one.table.job_id)
        ).one()
    one.table.put(plan=job.plan | {"telepathy": True}, plan_digest="of a newer version")
    return dict(job._mapping)


def test_a_batch_of_a_job_that_a_worker_cannot_read_goes_back_at_once_and_says_why(one: One, wakeup: Wakeup) -> None:
    # Given a job that a newer version made, and a worker of this one
    known = newer(one)

    # When it is woken for a batch of it
    runner.run(one.process, wakeup.batch_id, wakeup.generation)

    # Then the batch waits for a worker that can, not for the end of a lease, and its reason is on record
    row = one.table.row(wakeup.batch_id)
    assert (row.state, row.lease_owner, row.attempts) == (BatchState.READY, None, 0)
    assert row.error_class == "BadPlan" and "cannot read the plan of job" in row.error_text

    # And one that can works it
    one.table.put(**known)
    one.table.set_batch(wakeup.batch_id, run_after=None)
    one.until(JobState.VERIFIED)


def test_an_old_worker_parks_nothing_however_often_a_batch_comes_to_it(one: One, wakeup: Wakeup) -> None:
    """Its threads are always free, so that it draws more than its part of the wake-ups."""
    known = newer(one)
    one.table.set_batch(wakeup.batch_id, attempts=MAX_ATTEMPTS - 1)
    runner.run(one.process, wakeup.batch_id, wakeup.generation)
    row = one.table.row(wakeup.batch_id)
    assert (row.state, row.attempts) == (BatchState.READY, MAX_ATTEMPTS - 1)
    one.table.put(**known)
    assert one.table.move.state is not MoveState.PARKED
