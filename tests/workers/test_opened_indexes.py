"""An open index of a worker process lives as long as the process; the index it stands for may not."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import sqlalchemy as sa
from job_table import INDEX, JobTable, plan_of, planned
from pydantic import SecretStr

from orchestrator.bootstrap import Fleet
from tests.ledger.stages import somebody_waits
from vecfleet.settings import Settings
from workers.process import WorkerProcess

PATIENCE_S = 30.0


@pytest.fixture
def process(database_url: str, redis_url: str) -> WorkerProcess:
    settings = Settings(
        database_url=SecretStr(database_url),
        redis_url=SecretStr(redis_url),
        pinecone_api_key=SecretStr("any"),
        _env_file=None,  # type: ignore[call-arg]
    )
    return WorkerProcess(Fleet(settings))


def test_an_index_made_anew_under_its_old_address_is_opened_anew(process: WorkerProcess) -> None:
    # Given an index that a worker has open
    first = process.index("pinecone", INDEX)
    assert process.index("pinecone", replace(INDEX)) is first
    # When it is deleted and made again with another dimension
    again = replace(INDEX, dimension=8)
    # Then a job on it does not get the description of the old one, by which all its records would be parked
    assert process.index("pinecone", again).info.dimension == 8


def test_a_thread_that_waits_for_the_job_table_stops_no_other(process: WorkerProcess) -> None:
    # Given a thread that reads whose records are whose, and a table that does not answer it yet
    table = JobTable(process.database)
    table.apply(plan_of(planned("s", "t")))
    process.index("pinecone", replace(INDEX, host="another"))  # the SDK is loaded by now
    with ThreadPoolExecutor() as threads, process.database.begin() as holding:
        holding.execute(sa.text("LOCK TABLE ownership IN ACCESS EXCLUSIVE MODE"))
        waiting = threads.submit(process.router, table.job)
        somebody_waits(table)

        # When another thread of the same worker begins a batch
        opened = threads.submit(process.index, "pinecone", INDEX)

        # Then it goes on at once
        try:
            assert opened.result(PATIENCE_S).info == INDEX
        finally:
            holding.rollback()
        assert waiting.result(PATIENCE_S) is process.router(table.job)
