"""Wake-ups that workers hold for long, as under Celery's `control rate_limit`, slow a job and do not stop it."""

from collections import deque

import pytest
import sqlalchemy as sa
from job_table import JobTable, plan_of, planned

from orchestrator import dispatcher
from orchestrator.core.model import Wakeup
from orchestrator.core.states import BatchKind, BatchState
from orchestrator.dispatcher import Dispatcher
from orchestrator.ledger import batches
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import Database
from orchestrator.queue import make_app
from orchestrator.telemetry.counters import Counters

BATCHES, WINDOW, IN_HAND = 30, 12, 4
BETWEEN_TWO_S = 30


class LimitedWorker:
    """It takes wake-ups from the broker up to its prefetch, and begins one each time that its limit allows."""

    def __init__(self, table: JobTable, redis_url: str) -> None:
        self.table, self.celery = table, make_app(redis_url)
        self.in_hand: deque[tuple[int, int]] = deque()

    def begins_one(self) -> None:
        if self.in_hand:
            batch, generation = self.in_hand.popleft()
            lease = self.table.lease(Wakeup(batch, generation, BatchKind.COPY, self.table.job_id, "s", 1, 1))
            if lease is not None:
                self.table.copy(lease)

    def takes(self) -> None:
        with self.celery.connection_for_read() as connection, connection.channel() as channel:
            while len(self.in_hand) < IN_HAND and (message := channel.basic_get("copy", no_ack=True)) is not None:
                batch, generation = message.payload[0]
                self.in_hand.append((batch, generation))


def time_passes(table: JobTable, seconds: float) -> None:
    with table.by_hand() as connection:
        connection.execute(sa.update(t.batch).values(dispatched_at=t.batch.c.dispatched_at - batches.interval(seconds)))


def copied(table: JobTable) -> int:
    return sum(row.state == BatchState.DONE for row in table.rows(BatchKind.COPY))


def test_a_worker_that_may_begin_two_a_minute_begins_one_of_its_job_at_every_other_chance_at_least(
    database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "_REAP_EVERY_S", 0.0)
    # Given a window that takes the worker longer than any wake-up is waited for
    table = JobTable(database)
    table.apply(plan_of(planned("s")))
    table.listed({"s": [[f"{number}"] for number in range(BATCHES)]})
    table.put(batch_window=WINDOW)
    working = Dispatcher(database, make_app(redis_url), Counters(redis_url))
    worker = LimitedWorker(table, redis_url)
    assert WINDOW * BETWEEN_TWO_S > dispatcher._RESEND_AT_LATEST_S
    # When time passes
    chances = 0
    while copied(table) < BATCHES and chances < 4 * BATCHES:
        working.tick()
        worker.takes()
        time_passes(table, BETWEEN_TWO_S)
        worker.begins_one()
        chances += 1
    # Then all is copied, and the queue has not grown meanwhile
    assert copied(table) == BATCHES
    assert chances <= 2 * BATCHES + WINDOW
