from collections.abc import Iterator

import pytest
from job_table import JobTable, plan_of, planned

from orchestrator.ledger.database import Database


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url, pool_size=4)
    yield database
    database.dispose()


@pytest.fixture
def table(database: Database) -> JobTable:
    """A job table with a job of one move: `s` → `t`."""
    table = JobTable(database)
    table.apply(plan_of(planned("s", "t")))
    return table
