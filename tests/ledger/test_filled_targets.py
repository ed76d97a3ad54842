"""Of two jobs at once that would begin with the same work of the store, exactly one does."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from job_table import JobTable, plan_of, planned

from migrations.plan import Plan
from orchestrator.core.states import JobState
from orchestrator.ledger import jobs, whole_indexes
from orchestrator.ledger.database import Database
from vecfleet.errors import Refused

ROUNDS = 10


def begin_with(database: Database, plan: Plan, filled_by: str, together: Barrier | None = None) -> int | None:
    """Begin a job with what the store made, as `apply` does in its transaction; None if another job has it."""
    with database.begin() as connection:
        if together is not None:
            together.wait(timeout=30)
        try:
            job_id = JobTable.insert(connection, plan)
            whole_indexes.take_filled(connection, job_id, plan, filled_by)
        except Refused as refused:
            assert refused.code == "filling-used"
            connection.rollback()
            return None
    return job_id


def test_of_two_jobs_at_once_exactly_one_begins_with_what_the_store_made(database: Database) -> None:
    for number in range(ROUNDS):
        # Given two plans that share no namespace, so that no claim of the one keeps the other off
        plans = [plan_of(planned(f"{side}-{number}", f"to-{side}-{number}")).sealed() for side in ("a", "b")]
        together = Barrier(len(plans))
        # When both are applied at once to what one conversion made
        with ThreadPoolExecutor(len(plans)) as pool:
            begun = list(pool.map(lambda plan: begin_with(database, plan, f"conversion-{number}", together), plans))  # noqa: B023
        # Then one job began, and it alone is there
        won = [job_id for job_id in begun if job_id is not None]
        assert len(won) == 1
        with database.begin() as connection:
            assert jobs.every(connection)[-1].id == won[0]
            assert len(jobs.every(connection)) == number + 1


def test_what_an_ended_job_began_with_is_used_up(database: Database) -> None:
    table = JobTable(database)
    first = begin_with(database, plan_of(planned("s", "t")).sealed(), "conversion-1")
    assert first is not None
    table.job_id = first
    table.put(state=JobState.CANCELLED)
    with database.begin() as connection, pytest.raises(Refused, match=f"job {first} began with what the service made"):
        whole_indexes.require_filled_anew(connection, plan_of(planned("s", "t")), "conversion-1")
    assert begin_with(database, plan_of(planned("s", "u")).sealed(), "conversion-2") is not None
