"""A rollback that stood still, or that a late write meets: nothing is removed before a look that shows what came."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from job_table import JobTable, plan_of, planned
from stages import target_of

from migrations.window import Window
from orchestrator.core.freshness import Waits
from orchestrator.core.model import Lease
from orchestrator.core.progress import progress
from orchestrator.core.states import BatchKind, BatchState, JobState
from orchestrator.dispatcher import Dispatcher
from orchestrator.ledger import batches, cleanup, status
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import Database
from orchestrator.queue import make_app
from orchestrator.services import acts, late_writes, refusals
from orchestrator.telemetry.counters import Counters
from vecfleet.stores.base import Usage

LAGS = Waits(source_lag_s=40.0, target_lag_s=50.0)
LAG = timedelta(seconds=50)


def going_back(database: Database, *sources: str, **policies: object) -> JobTable:
    """A rollback of a job whose reads lag, with a compare for each source."""
    table = JobTable(database)
    table.apply(plan_of(*(planned(source, f"t-{source}") for source in sources or ("s",)), **policies), waits=LAGS)
    table.verified()
    acts.roll_back(database, table.job_id, "ana", None)
    return table


def now(table: JobTable) -> datetime:
    with table.begin() as connection:
        return refusals.now(connection)


def copy_of(table: JobTable, lease: Lease) -> Lease:
    """The lease of the copy batch that this one works on, as a worker has it that was frozen since."""
    assert lease.copy_id is not None
    return replace(lease, id=lease.copy_id, copy_id=None, kind=BatchKind.COPY)


def due(table: JobTable) -> None:
    """The waits are over."""
    with table.by_hand() as connection:
        connection.execute(sa.update(t.batch).values(run_after=None))


def paused(table: JobTable) -> Callable[[], None]:
    acts.pause(table.database, table.job_id, "ana")
    table.advance()
    return lambda: acts.resume(table.database, table.job_id, "ana")


def parked(table: JobTable) -> Callable[[], None]:
    table.park(table.take()[0])
    table.advance()
    return lambda: acts.retry(table.database, table.job_id, "ana", "failed") and None


def test_removals_that_a_pause_held_back_begin_once_reads_show_what_was_written_meanwhile(database: Database) -> None:
    # Given a rollback that compared everything, and is paused before the first removal is made
    table = going_back(database)
    (compare,) = table.take()
    table.finish(compare, changed=0)
    resume = paused(table)
    # When it goes on
    went_on_at = now(table)
    resume()
    table.advance()
    # Then no record is removed before reads show what was written while it stood still, and the job says so
    (undo,) = table.rows(BatchKind.UNDO)
    assert undo.run_after is not None and undo.run_after >= went_on_at + LAG
    assert table.take() == []
    assert_says_that_it_waits(table)


def assert_says_that_it_waits(table: JobTable) -> None:
    with table.begin() as connection:
        waits = progress(status.reading(connection, table.job_id, namespaces=0)).waits
    assert any("nothing is taken back before reads show what was written last" in wait for wait in waits), waits


def test_a_rollback_whose_pause_is_taken_back_at_once_holds_back_what_is_at_work_too(database: Database) -> None:
    # Given a pause that waits for the one comparison at work
    table = going_back(database)
    (compare,) = table.take()
    acts.pause(database, table.job_id, "ana")
    # When a person takes it back, and the comparison ends
    went_on_at = now(table)
    acts.resume(database, table.job_id, "ana")
    table.finish(compare, changed=0)
    table.advance()
    # Then the removals wait all the same
    (undo,) = table.rows(BatchKind.UNDO)
    assert undo.run_after is not None and undo.run_after >= went_on_at + LAG


def lost_its_worker(table: JobTable, lease: Lease) -> None:
    table.expire(lease)
    table.reap()


def put_off(table: JobTable, lease: Lease) -> None:
    table.requeue(lease, after=0.0)


@pytest.mark.parametrize("comes_back", [lost_its_worker, put_off])
def test_what_comes_back_from_its_worker_waits_as_what_nobody_had(
    database: Database, comes_back: Callable[[JobTable, Lease], None]
) -> None:
    # Given a comparison that was at work when a pause was taken back
    table = going_back(database)
    (compare,) = table.take()
    acts.pause(database, table.job_id, "ana")
    went_on_at = now(table)
    acts.resume(database, table.job_id, "ana")
    # When its worker gives it up
    comes_back(table, compare)
    # Then it is not compared again, and nothing removed after it, before reads show what was written meanwhile
    (waits,) = table.rows(BatchKind.COMPARE)
    assert waits.state == BatchState.READY
    assert waits.run_after is not None and waits.run_after >= went_on_at + LAG
    assert table.take() == []


@pytest.mark.parametrize("stops", [paused, parked])
def test_a_late_write_into_a_rollback_that_stands_still_is_taken_back_when_it_goes_on(
    database: Database, stops: Callable[[JobTable], Callable[[], None]]
) -> None:
    # Given a rollback of two copies that has removed the first, and stopped before the second
    table = going_back(database, "r", "s")
    for lease in table.take():
        table.finish(lease, changed=0)
    table.advance()
    first, second = table.take()
    table.finish(first, removed=2)
    table.requeue(second)
    goes_on = stops(table)
    assert table.job.resume_to is JobState.ROLLING_BACK
    # When a frozen worker wakes up and tells that it may have written the first one again
    told_at = now(table)
    late_writes.note_late_write(database, copy_of(table, first), [target_of_source(table, "r")])
    # Then, once the rollback goes on, what it wrote is removed, after a look that shows it
    goes_on()
    again = [row for row in table.rows(BatchKind.UNDO) if row.copy_id == first.copy_id and row.id != first.id]
    assert [row.state for row in again] == [BatchState.READY] and again[0].run_after >= told_at + LAG
    due(table)
    for lease in table.take():
        table.finish(lease, removed=2)
    table.advance(2)
    assert table.job.state is JobState.ROLLED_BACK


def target_of_source(table: JobTable, source: str) -> int:
    return table.targets[f"t-{source}"].id


def test_a_late_write_removes_nothing_before_everything_is_compared(database: Database) -> None:
    # Given a rollback that still compares
    table = going_back(database, "r", "s")
    first, second = table.take()
    table.finish(first, changed=0)
    # When a late write of the copy that was compared already is told
    told_at = now(table)
    late_writes.note_late_write(database, copy_of(table, first), [target_of_source(table, "r")])
    # Then nothing is removed while the other copy may yet stop the rollback
    assert table.rows(BatchKind.UNDO) == []
    table.finish(second, changed=1)
    table.advance()
    assert (table.job.state, table.rows(BatchKind.UNDO)) == (JobState.NEEDS_ATTENTION, [])
    # And the removals that follow wait until reads show that write
    table.put(state=JobState.ROLLING_BACK, changed_records="keep")
    table.advance()
    undos = table.rows(BatchKind.UNDO)
    assert len(undos) == 2 and all(row.run_after >= told_at + LAG for row in undos)


def test_an_undo_that_was_answered_looks_and_removes_again_after_a_late_write(database: Database) -> None:
    # Given a removal that was answered, and waits until reads show it
    table = going_back(database)
    (compare,) = table.take()
    table.finish(compare, changed=0)
    table.advance()
    (undo,) = table.take()
    with table.begin() as connection:
        cleanup.intend(connection, undo, 0, [target_of(table).id])
        batches.note_found(connection, undo, {"answered": [target_of(table).id]})
        waiting = {"after_seconds": 9.0, "error_class": "Waiting", "error_text": "removed records are still answered"}
        usage = {"usage": Usage(), "busy_ms": 1, "spend_attempt": False}
        batches.requeue(connection, undo, **waiting, **usage, deletion=batches.Deletion.ANSWERED)
    # When a frozen worker wakes up and tells that it may have written there since
    late_writes.note_late_write(database, copy_of(table, undo), [target_of(table).id])
    # Then that removal is no answer for what was written after it
    (row,) = table.rows(BatchKind.UNDO)
    assert (row.state, row.answered_at, row.found) == (BatchState.READY, None, None)


@pytest.mark.parametrize("state", [BatchState.DISPATCHED, BatchState.PARKED])
def test_a_late_write_adds_no_second_undo_beside_one_that_nobody_works_on(
    database: Database, state: BatchState
) -> None:
    table = going_back(database)
    (compare,) = table.take()
    table.finish(compare, changed=0)
    table.advance()
    [wakeup] = table.dispatch()
    if state is BatchState.PARKED:
        undo = table.lease(wakeup)
        assert undo is not None
        table.park(undo)
    told_at = now(table)
    late_writes.note_late_write(database, copy_of(table, compare), [target_of(table).id])
    (row,) = table.rows(BatchKind.UNDO)
    assert row.run_after >= told_at + LAG
    assert row.state == (BatchState.PARKED if state is BatchState.PARKED else BatchState.READY)


def hours(begin: int, end: int) -> Window:
    at = datetime.now(UTC)
    opens, closes = (f"{at + timedelta(hours=by):%H:%M}" for by in (begin, end))
    return Window(opens=opens, closes=closes, zone="UTC")


@pytest.mark.parametrize("opened_by", ["the window", "a person"])
def test_a_rollback_goes_on_in_its_next_window_once_reads_show_what_was_written_between(
    database: Database, redis_url: str, opened_by: str
) -> None:
    # Given a rollback that its window cut off before the first removal, with a wake-up on its way
    dispatcher = Dispatcher(database, make_app(redis_url), Counters(redis_url))
    table = JobTable(database)
    window = hours(-6, 6) if opened_by == "the window" else hours(6, 12)
    table.apply(plan_of(planned("s", "t-s"), window=window), waits=LAGS)
    table.put(begins_until=datetime.now(UTC) + timedelta(hours=1))
    table.verified()
    acts.roll_back(database, table.job_id, "ana", None)
    (compare,) = table.take()
    table.finish(compare, changed=0)
    table.advance()
    table.dispatch()
    table.put(begins_until=datetime.now(UTC) - timedelta(hours=12))
    # When batches may begin again
    opens_at = now(table)
    if opened_by == "the window":
        dispatcher.tick()
    else:
        acts.set_lever(database, table.job_id, "ana", "hours", 2)
    # Then nothing is removed before reads show what was written between
    (undo,) = table.rows(BatchKind.UNDO)
    assert undo.state == BatchState.READY and undo.run_after is not None and undo.run_after >= opens_at + LAG
    # And once they do, the window holds nothing back a second time
    due(table)
    dispatcher.tick()
    (undo,) = table.rows(BatchKind.UNDO)
    assert (undo.state, undo.run_after) == (BatchState.DISPATCHED, None)
