"""Records that two jobs brought from namespaces of one name in two indexes cannot be told apart on the way back."""

from dataclasses import replace

import pytest
import sqlalchemy as sa
from job_table import INDEX, JobTable, plan_of, planned

from orchestrator.core.model import index_to_json
from orchestrator.core.states import JobState
from orchestrator.ledger import jobs
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import Database


def merged(database: Database, source: str, host: str) -> JobTable:
    """A job that took `s` to `t` and ended, after another that took `source` of the index at `host` there."""
    other = JobTable(database)
    other.apply(plan_of(planned(source, "t")))
    other.verified()
    other.put(state=JobState.CLEANED, source=index_to_json(replace(INDEX, host=host)))
    with database.begin() as connection:
        connection.execute(sa.delete(t.claim))
    own = JobTable(database)
    own.apply(plan_of(planned("s", "t"), collisions="skip"))
    own.verified()
    return own


@pytest.mark.parametrize(
    ("source", "host", "told"),
    [
        ("s", "another.local", [(1, "s")]),
        ("other", "another.local", []),  # its records say that they came from `other`
        ("other", "brain.local", []),
    ],
)
def test_a_namesake_of_another_index_at_the_same_target_is_told(
    database: Database, source: str, host: str, told: list[tuple[int, str]]
) -> None:
    table = merged(database, source, host)
    with table.by_hand() as connection:
        assert jobs.namesakes(connection, jobs.get(connection, table.job_id)) == told
        connection.execute(sa.update(t.job).where(t.job.c.id == 1).values(state=JobState.ROLLED_BACK))
        assert jobs.namesakes(connection, jobs.get(connection, table.job_id)) == []
