"""An upsert that was not answered is on record before its batch goes to anybody else, whatever fails meanwhile."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from in_one_process import COUNT, PATIENCE_S, TARGET, One, open_one, twenty_three
from job_table import planned

from orchestrator.core.states import BatchKind, BatchState, JobState
from orchestrator.ledger import moves
from orchestrator.ledger import tables as t
from tests.ledger.stages import somebody_waits
from vecfleet.errors import BadRequest, NeedsOperator, TimedOut, TooLarge, Unreachable
from vecfleet.records import Record
from vecfleet.stores.base import Written
from workers import calls, runner

DEADLINE_S = 3.0
TRIES = calls.TRIES


@pytest.fixture
def one(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[One]:
    """A job whose one target was made, and whose copies are due."""
    monkeypatch.setattr(calls, "_wait", lambda state: 0.0)
    with open_one(database_url, redis_url, {"s": twenty_three()}, planned("s", TARGET, COUNT)) as one:
        one.process.settings = one.process.settings.model_copy(update={"request_deadline_seconds": DEADLINE_S})
        one.work_until(lambda: one.table.rows(BatchKind.COPY))
        yield one


def unanswered(monkeypatch: pytest.MonkeyPatch, one: One, then: Callable[[int], object] = lambda _: None) -> list[int]:
    """No upsert of a worker's first batch is answered; all others are. `then` is told the number of each of those.

    Returns the numbers of those that came.
    """
    upsert, came = one.index.upsert, list[int]()

    def asked(namespace: str, records: Sequence[Record]) -> Written:
        if len(came) == TRIES:
            return upsert(namespace, records)
        came.append(len(came) + 1)
        then(came[-1])
        raise TimedOut

    monkeypatch.setattr(one.index, "upsert", asked)
    return came


def cut_connections(one: One) -> None:
    """Postgres ends every session of the fleet; each may open another one."""
    with one.table.database.engine.connect() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    one.table.database.dispose()


def lands_by(one: One) -> datetime | None:
    return one.table.targets[TARGET].lands_by


def test_it_is_on_record_although_the_transaction_that_would_record_it_fails(
    one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an upsert that is not answered, and connections to Postgres that are cut before it is on record
    last: list[datetime] = []

    def cut(number: int) -> None:
        if number == TRIES:
            last.append(datetime.now(UTC))
            cut_connections(one)

    unanswered(monkeypatch, one, cut)

    # When the worker gives its batch back, which it does over a new connection, and takes no other
    monkeypatch.setattr(runner, "_LONG_ENOUGH_S", 0.0)
    one.work_until(lambda: last)
    [failed] = [row for row in one.table.rows(BatchKind.COPY) if row.error_class]
    assert (failed.state, failed.error_class) == (BatchState.READY, "Unreachable")

    # Then it is on record until when the upsert may land
    until = lands_by(one)
    assert until is not None and until >= last[0] + timedelta(seconds=DEADLINE_S)

    # And the job verifies its target only then
    one.until(JobState.VERIFIED)
    verdict_at = one.table.targets[TARGET].verdict_at
    assert verdict_at is not None and verdict_at >= until


@pytest.mark.parametrize(
    ("failure", "state"),
    [
        (Unreachable("the job table does not answer"), BatchState.READY),
        (TimedOut(), BatchState.READY),
        (NeedsOperator("the key is refused"), BatchState.READY),
        (TooLarge("ids of 2 MB"), BatchState.SPLIT),
        (BadRequest("not like that"), BatchState.PARKED),
        (ValueError("a bug of ours"), BatchState.PARKED),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_it_is_on_record_whatever_becomes_of_its_batch(
    one: One, monkeypatch: pytest.MonkeyPatch, failure: Exception, state: BatchState
) -> None:
    # Given an upsert that is not answered, and a first record of it that fails in some way
    note, failed = moves.note_landing, list[Exception]()

    def note_landing(*arguments: Any) -> None:
        if not failed:
            failed.append(failure)
            raise failure
        note(*arguments)

    monkeypatch.setattr(moves, "note_landing", note_landing)
    unanswered(monkeypatch, one)

    # When the batch is tried again, split or set aside, then that tells of the upsert, too
    one.work_until(lambda: failed)
    assert [row.state for row in one.table.rows(BatchKind.COPY) if row.error_class] == [state]
    assert lands_by(one) is not None


def test_an_upsert_that_is_answered_at_last_is_waited_for_all_the_same(
    one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a request without an answer, which may still be under way when its repetition is answered
    upsert, came = one.index.upsert, list[int]()

    def asked(namespace: str, records: Sequence[Record]) -> Written:
        came.append(1)
        if len(came) == 1:
            raise TimedOut
        return upsert(namespace, records)

    monkeypatch.setattr(one.index, "upsert", asked)

    # When its batch is done, then the target is waited for
    one.work_until(lambda: any(row.state == BatchState.DONE for row in one.table.rows(BatchKind.COPY)))
    until = lands_by(one)
    assert until is not None
    one.until(JobState.VERIFIED)
    verdict_at = one.table.targets[TARGET].verdict_at
    assert verdict_at is not None and verdict_at >= until


def test_a_batch_goes_back_in_the_order_of_locks_that_a_lost_lease_is_taken_in(
    one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches before targets: a worker that noted the landing first and the dispatcher waited for each other."""
    connection = one.table.database.engine.connect()
    copy = t.batch.c.kind == BatchKind.COPY
    came: list[int] = []

    # Given a dispatcher that holds the batch of an upsert that was not answered
    def take_the_lock(number: int) -> None:
        if number == TRIES:
            connection.execute(sa.text("BEGIN"))
            connection.execute(sa.select(t.batch.c.id).where(copy).order_by(t.batch.c.id).with_for_update())

    came = unanswered(monkeypatch, one, take_the_lock)
    with connection, ThreadPoolExecutor(1) as pool:
        working = pool.submit(one.work_until, lambda: came)

        # When it goes on to the target while the worker gives the batch back
        somebody_waits(one.table)
        connection.execute(sa.update(t.target).values(lands_by=None))
        connection.execute(sa.text("COMMIT"))
        working.result(PATIENCE_S)

    # Then neither waits for the other for good, and both are on record
    [failed] = [row for row in one.table.rows(BatchKind.COPY) if row.error_class]
    assert (failed.state, failed.error_class) == (BatchState.READY, "TimedOut")
    assert lands_by(one) is not None
