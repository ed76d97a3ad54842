"""Jobs at the stages of their life, for the tests of what may happen there."""

import time
from concurrent.futures import Future
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from job_table import JobTable, plan_of, planned

from orchestrator.core.model import Target
from orchestrator.core.states import JobState
from orchestrator.ledger import moves
from orchestrator.ledger.database import Database
from orchestrator.services import acts

PATIENCE_S = 120.0  # takes milliseconds; a loaded machine may need this
AUTO = {"cut_over": "auto", "clean_up": "auto", "soak_seconds": 3_600}


def a_job(database: Database, *sources: str, **policies: object) -> JobTable:
    table = JobTable(database)
    table.apply(plan_of(*(planned(source, f"t-{source}") for source in sources or ("s",)), **policies))
    return table


def verified(database: Database, *sources: str, **policies: object) -> JobTable:
    table = a_job(database, *sources, **policies)
    table.verified()
    return table


def copied(database: Database, **policies: object) -> JobTable:
    """Copied, with the checks of its one target on their way."""
    table = a_job(database, **policies)
    table.listed({"s": [["a", "b"], ["c"]]})
    for lease in table.take():
        table.copy(lease, "t-s")
    table.advance(2)
    assert table.job.state is JobState.COPIED
    return table


def target_of(table: JobTable) -> Target:
    (target,) = table.targets.values()
    return target


def soaked(table: JobTable) -> None:
    """The soak time is over."""
    table.put(cut_over_at=sa.func.clock_timestamp() - timedelta(days=3))


def proven_again(table: JobTable) -> None:
    acts.verify(table.database, table.job_id, "ana")
    table.advance()
    for lease in table.take():
        table.check(lease)
    table.advance(3)


def late_write(table: JobTable) -> None:
    """A worker that had lost its lease finds that it may have written after all."""
    with table.begin() as connection:
        moves.raise_sequence(connection, [target.id for target in table.targets.values()])


def cleaning(database: Database, *sources: str, by_ids: bool = False) -> JobTable:
    table = verified(database, *sources, cut_over="none")
    acts.clean_up(table.database, table.job_id, "ana", by_ids=by_ids)
    return table


def rolling_back(database: Database, changed: str | None = None) -> JobTable:
    table = verified(database)
    with table.begin() as connection:
        connection.execute(sa.text("UPDATE target SET created_by_us = true"))
    acts.roll_back(table.database, table.job_id, "ana", changed)
    return table


def somebody_waits(table: JobTable, unless: Future[Any] | None = None) -> None:
    """Wait until another session waits for a lock in this database, `unless` what it does is done without one."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    deadline = time.monotonic() + PATIENCE_S
    with table.database.once() as watcher:
        while not (unless is not None and unless.done()) and not watcher.execute(sa.text(waiting)).scalar_one():
            assert time.monotonic() < deadline, "nobody waits for a lock"
            time.sleep(0.005)
