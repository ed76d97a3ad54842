"""An undo never races a copy: a lease that slipped in beside a cancellation is waited for."""

import pytest
from job_table import JobTable, plan_of, planned

from orchestrator.core.states import JobState
from orchestrator.ledger.database import Database
from orchestrator.services import acts
from vecfleet.errors import Refused


@pytest.fixture
def table(database_url: str) -> JobTable:
    table = JobTable(Database(database_url))
    table.apply(plan_of(planned("s", "creator_a_twin_s", 2)))
    return table


def test_a_roll_back_waits_for_a_lease_that_slipped_in_beside_the_cancellation(table: JobTable) -> None:
    # Given a job that was cancelled while a worker still holds one of its copies
    table.listed({"s": [["a", "b"]]})
    (copy,) = table.take()
    table.put(state=JobState.CANCELLED)

    # When it is to be rolled back, then it is refused until the lease is over
    with pytest.raises(Refused, match="still in flight"):
        acts.roll_back(table.database, table.job_id, "ana", None)
    assert table.job.state is JobState.CANCELLED
    table.expire(copy)
    acts.roll_back(table.database, table.job_id, "ana", None)
    assert table.job.state is JobState.ROLLING_BACK
