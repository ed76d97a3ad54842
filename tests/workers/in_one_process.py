"""A fleet in one process: the job table is real, the index is in memory, and tests deliver the wake-ups."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from job_table import AT_ONCE, INDEX, JobTable, plan_of
from pydantic import SecretStr

from migrations.plan import PlannedMove
from orchestrator.bootstrap import Fleet
from orchestrator.core.freshness import Waits
from orchestrator.core.states import BatchKind, BatchState, JobState
from orchestrator.ledger.database import Database
from orchestrator.queue import TASKS
from orchestrator.services import acts
from vecfleet.records import Record
from vecfleet.settings import Settings
from vecfleet.stores.base import Index, IndexInfo, Limits, Store
from vecfleet.stores.memory import MemoryStore
from vecfleet.stores.pgvector import PgvectorStore
from workers import runner
from workers.process import WorkerProcess

TARGET = "creator_ana_twin_s"
COUNT = 23
PATIENCE_S = 120.0  # a job takes a second or two; a batch that failed waits as long, and a loaded machine may need this
POLL_S, LONGEST_POLL_S = 0.01, 0.08  # each look decides for the whole job: whoever looks often keeps a processor busy
DEADLINE_S = 1.0  # nothing leaves this process; what failed and may take effect all the same is waited out


@dataclass(frozen=True)
class Stored(Fleet):
    """A fleet whose vector database is this one, whatever a plan calls it."""

    vectors: Store

    def store_named(self, name: str) -> Store:
        return self.vectors


@dataclass
class One:
    """The fleet, its one job and its index."""

    table: JobTable
    process: WorkerProcess
    index: Index

    def deliver(self, times: int = 1) -> int:
        """Dispatch what is due and work each wake-up so many times. Returns how many there were.

        Each queue has a worker of its own, so that a test may step in between a listing and its copies.
        """
        wakeups = self.table.dispatch()
        for _ in range(times):
            for wakeup in wakeups:
                runner.run(self.process, wakeup.batch_id, wakeup.generation, [TASKS[wakeup.kind][1]])
        return len(wakeups)

    def until(self, *states: JobState, times: int = 1) -> None:
        """Work on until the job is in one of these states."""
        self.work_until(lambda: self.table.job.state in states, times)

    def work_until(self, holds: Callable[[], object], times: int = 1) -> None:
        """Let the dispatcher decide and the workers work until this holds. It is looked at after each decision."""
        deadline, pause_s = time.monotonic() + PATIENCE_S, POLL_S
        while True:
            self.table.advance()
            if holds():
                return
            if self.deliver(times):
                pause_s = POLL_S
            else:
                time.sleep(pause_s)  # whatever is left to do is not due yet
                pause_s = min(2 * pause_s, LONGEST_POLL_S)
            assert time.monotonic() < deadline, f"the job stays {self.table.job.state}: {self.table.job.reason}"

    def read_again(self) -> None:
        """A source is to be deleted whole, and every record of it was read again; its deletion is due."""
        self.until(JobState.VERIFIED)
        acts.clean_up(self.table.database, self.table.job_id, "ana", by_ids=False)
        self.deliver()
        self.table.advance()
        assert [row.state for row in self.table.rows(BatchKind.CLEAR)] == [BatchState.READY]

    def ids(self, namespace: str) -> list[str]:
        return self.index.list_ids(namespace).ids


@contextmanager
def open_one(
    database_url: str,
    redis_url: str,
    namespaces: dict[str, list[Record]],
    *moves: PlannedMove,
    info: IndexInfo = INDEX,
    waits: Waits = AT_ONCE,
    tables: PgvectorStore | None = None,
    **policies: Any,
) -> Iterator[One]:
    """A job of these moves over an index of these namespaces, in batches of at most ten records.

    The index is in memory, or in `tables`.
    """
    settings = Settings(
        database_url=SecretStr(database_url),
        redis_url=SecretStr(redis_url),
        freshness_wait_seconds=0.2,  # longer than a loaded machine takes between two statements
        request_deadline_seconds=DEADLINE_S,
        _env_file=None,  # type: ignore[call-arg]
    )
    store: Store
    index: Index
    if tables is not None:
        store, index = tables, tables.open(tables.create_like(info.name, info, None, None))
    else:
        store = memory = MemoryStore()
        index = memory.create(info, Limits(upsert_records=10))
    for namespace, records in namespaces.items():
        for start in range(0, len(records), 10):
            index.upsert(namespace, records[start : start + 10])
    fleet = Stored(settings, store)
    table = JobTable(Database(database_url, pool_size=4))
    table.apply(plan_of(*moves, **{"cut_over": "none", **policies}), index.info, index.info, waits)
    try:
        yield One(table, WorkerProcess(fleet), index)
    finally:
        table.database.dispose()
        fleet.database.dispose()


def twenty_three() -> list[Record]:
    values = np.arange(1, 3_073, dtype="<f4").tobytes()
    return [Record(f"r{number:02d}", values, metadata={"text": f"text {number}"}) for number in range(COUNT)]
