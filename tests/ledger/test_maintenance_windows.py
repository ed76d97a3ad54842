"""Outside its maintenance window no batch of a job begins, whoever would begin it; what has begun goes on."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from job_table import LEASE_S, JobTable, plan_of, planned

from migrations.window import Window
from orchestrator.core.model import Wakeup
from orchestrator.core.states import BatchKind, BatchState, JobState
from orchestrator.dispatcher import Dispatcher
from orchestrator.ledger import batches, leasing
from orchestrator.ledger.database import Database
from orchestrator.queue import make_app
from orchestrator.services import acts
from orchestrator.telemetry.counters import Counters
from vecfleet.errors import BadInput
from vecfleet.stores.base import Usage


def hours(begin: int, end: int) -> Window:
    """A window from so many hours after now until so many, in UTC."""
    now = datetime.now(UTC)
    opens, closes = (f"{now + timedelta(hours=by):%H:%M}" for by in (begin, end))
    return Window(opens=opens, closes=closes, zone="UTC")


OPEN, CLOSED = hours(-6, 6), hours(6, 12)


@pytest.fixture
def dispatcher(database: Database, redis_url: str) -> Dispatcher:
    return Dispatcher(database, make_app(redis_url), Counters(redis_url))


def test_outside_its_window_a_job_begins_no_batch(database: Database, dispatcher: Dispatcher) -> None:
    # Given a job whose window opens in six hours
    table = JobTable(database)
    table.apply(plan_of(planned("s"), window=CLOSED))

    # When the dispatcher looks at it, then it starts, and no wake-up is sent
    assert [dispatcher.tick() for _ in range(3)] == [0, 0, 0]
    assert table.job.state is JobState.RUNNING
    assert [row.state for row in table.rows()] == [BatchState.READY]

    # And no worker takes a batch by itself, nor by a wake-up that was sent before the window closed
    (wakeup,) = table.dispatch()
    assert table.lease(wakeup) is None
    # Which is called back
    dispatcher.tick()
    assert [row.state for row in table.rows()] == [BatchState.READY]
    with table.begin() as connection:
        assert leasing.lease_next(connection, table.job_id, list(BatchKind), "w", LEASE_S) is None


def test_inside_its_window_batches_begin_until_it_closes(database: Database, dispatcher: Dispatcher) -> None:
    table = JobTable(database)
    table.apply(plan_of(planned("s"), window=OPEN))
    # Given that nobody takes a batch before a dispatcher saw that the window is open
    table.start()
    assert leased_next(table) is None
    assert dispatcher.tick() == 1
    (batch,) = table.rows()
    assert table.lease(wakeup_of(batch)) is not None
    # Then workers know until when, without a dispatcher
    assert table.job.begins_until == next_full(OPEN.closes)


def test_what_has_begun_ends_when_the_window_closes(database: Database, dispatcher: Dispatcher) -> None:
    # Given a batch at work as its window closes
    table = JobTable(database)
    table.apply(plan_of(planned("s"), window=OPEN))
    dispatcher.tick()
    (batch,) = table.rows()
    lease = table.lease(wakeup_of(batch))
    assert lease is not None
    table.put(begins_until=datetime.now(UTC))

    # Then its worker renews it and ends it
    with table.begin() as connection:
        assert batches.renew(connection, [(lease.id, lease.generation)], table.owner, LEASE_S)
        batches.settle(connection, lease, BatchState.DONE, Usage(), 0)
    assert table.row(lease.id).state == BatchState.DONE


def test_a_person_lets_batches_begin_outside_the_window(database: Database, dispatcher: Dispatcher) -> None:
    table = JobTable(database)
    table.apply(plan_of(planned("s"), planned("z"), window=CLOSED))
    assert dispatcher.tick() == 0
    acts.set_lever(database, table.job_id, "ana", "hours", 2)
    assert dispatcher.tick() == 2
    first, second = table.rows()
    assert table.lease(wakeup_of(first)) is not None
    # And takes it back
    acts.set_lever(database, table.job_id, "ana", "hours", 0)
    assert table.lease(wakeup_of(second)) is None
    for wrong in (-1, 169):
        with pytest.raises(BadInput, match="hours are not possible"):
            acts.set_lever(database, table.job_id, "ana", "hours", wrong)


def test_a_job_without_a_window_has_no_hours_to_be_given(database: Database) -> None:
    table = JobTable(database)
    table.apply(plan_of(planned("s")))
    with pytest.raises(BadInput, match="has no maintenance window: its batches begin at any hour"):
        acts.set_lever(database, table.job_id, "ana", "hours", 2)
    assert table.job.begins_until is None


def leased_next(table: JobTable) -> object:
    with table.begin() as connection:
        return leasing.lease_next(connection, table.job_id, list(BatchKind), "w", LEASE_S)


def wakeup_of(batch: sa.Row[tuple[object, ...]]) -> Wakeup:
    return Wakeup(batch.id, batch.generation, BatchKind(batch.kind), batch.job_id, "s", batch.seq, 1)


def next_full(text: str) -> datetime:
    """The next moment at which a clock in UTC reads so."""
    now = datetime.now(UTC)
    hour, minute = map(int, text.split(":"))
    then = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    return then if then > now else then + timedelta(days=1)
