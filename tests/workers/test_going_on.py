"""A worker whose batch was soon done goes on with what is due next: a small namespace is not worth its own wake-up."""

from collections.abc import Collection, Iterator
from threading import Event

import pytest
import sqlalchemy as sa
from in_one_process import TARGET, One, open_one, twenty_three
from job_table import planned

from orchestrator.core.model import Lease
from orchestrator.core.states import QUEUES, BatchKind, BatchState
from orchestrator.ledger import leasing, tables
from vecfleet.errors import Unavailable
from vecfleet.stores.memory import MemoryIndex
from workers import calls, process, runner

SOURCES = ("a", "b", "c")


@pytest.fixture
def due(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[One]:
    """A job over three namespaces that are to be listed."""
    monkeypatch.setattr(runner, "_LONG_ENOUGH_S", 600.0)
    held = {source: twenty_three()[:2] for source in SOURCES}
    moves = [planned(source, f"{TARGET}-{source}", 2) for source in SOURCES]
    with open_one(database_url, redis_url, held, *moves) as one:
        one.table.start()
        yield one


def states(one: One, kind: BatchKind) -> list[str]:
    return [row.state for row in one.table.rows(kind)]


def wake_for_one(one: One, queues: Collection[str] = ("control",)) -> None:
    [wakeup] = one.table.dispatch(window=1)
    runner.run(one.process, wakeup.batch_id, wakeup.generation, queues)


def test_one_wake_up_lists_every_small_namespace(due: One) -> None:
    wake_for_one(due)
    assert states(due, BatchKind.LIST) == [BatchState.DONE] * 3
    assert [row.attempts for row in due.table.rows(BatchKind.LIST)] == [1, 1, 1]


def test_what_comes_by_another_queue_is_left_to_who_serves_it(due: One) -> None:
    wake_for_one(due)
    assert states(due, BatchKind.COPY) == [BatchState.READY] * 3


def test_a_copy_follows_a_copy_and_no_other_batch_so_that_flower_shows_it(due: One) -> None:
    wake_for_one(due, QUEUES)
    assert states(due, BatchKind.LIST) == [BatchState.DONE] * 3
    assert states(due, BatchKind.COPY) == [BatchState.READY] * 3
    wake_for_one(due, QUEUES)
    assert states(due, BatchKind.COPY) == [BatchState.DONE] * 3


def test_what_was_sent_to_somebody_else_is_left_to_them(due: One) -> None:
    first, second = due.table.dispatch(window=2)
    runner.run(due.process, first.batch_id, first.generation, ["control"])
    states = {row.id: row.state for row in due.table.rows(BatchKind.LIST)}
    assert states[second.batch_id] == BatchState.DISPATCHED
    assert sorted(states.values()) == [BatchState.DISPATCHED, BatchState.DONE, BatchState.DONE]


def test_a_worker_that_was_long_at_its_batch_waits_for_the_next_wake_up(
    due: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_LONG_ENOUGH_S", 0.0)
    wake_for_one(due)
    assert states(due, BatchKind.LIST) == [BatchState.DONE, BatchState.READY, BatchState.READY]


def test_a_worker_that_has_moved_as_many_records_as_a_wake_up_is_worth_waits_for_the_next_one(
    due: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_WORTH_A_WAKE_UP", 3)  # each namespace has two
    wake_for_one(due)
    assert states(due, BatchKind.LIST) == [BatchState.DONE, BatchState.DONE, BatchState.READY]


def test_a_worker_that_leaves_begins_nothing_more(due: One, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = MemoryIndex.list_ids

    def told_to_stop(index: MemoryIndex, *given: object, **more: object) -> object:
        process.ending.set()
        return listing(index, *given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(MemoryIndex, "list_ids", told_to_stop)
    try:
        wake_for_one(due)
    finally:
        process.ending.clear()
    assert sorted(states(due, BatchKind.LIST))[1:] == [BatchState.READY] * 2


def test_a_worker_whose_batch_failed_does_not_fail_at_the_next_ones_too(
    due: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*_: object, **__: object) -> None:
        raise Unavailable("the service is away")

    monkeypatch.setattr(calls, "_FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(calls, "_LONGEST_WAIT_S", 0.001)
    monkeypatch.setattr(MemoryIndex, "list_ids", unavailable)
    wake_for_one(due)
    assert [row.generation for row in due.table.rows(BatchKind.LIST)] == [
        1,
        0,
        0,
    ]  # one went back, two stay as they are


def test_a_worker_whose_batch_waits_for_fresh_reads_takes_the_next_one_meanwhile(due: One) -> None:
    """Reads that lag make each deletion need another look, and none of these is worth a wake-up of its own."""
    # Given namespaces that list fewer ids than planned, so that each is listed again when reads cannot lag any more
    due.process.settings = due.process.settings.model_copy(update={"freshness_wait_seconds": 600.0})
    with due.table.by_hand() as connection:
        connection.execute(sa.update(tables.move).values(planned=tables.move.c.planned + 1))
    # When a worker is woken for the first of them, then it lists them all
    wake_for_one(due)
    assert [(row.state, row.error_class) for row in due.table.rows(BatchKind.LIST)] == [("ready", "Waiting")] * 3


def test_two_workers_at_once_go_on_with_different_batches(due: One) -> None:
    taken: list[Lease | None] = []
    with due.table.begin() as one, due.table.begin() as other:
        for connection, owner in ((one, "one"), (other, "other")):
            kinds = frozenset({BatchKind.LIST})
            taken.append(leasing.lease_next(connection, due.table.job_id, kinds, owner, 60.0))
    assert len({lease.id for lease in taken if lease is not None}) == 2


def test_nobody_goes_on_beyond_the_window_of_the_job(due: One) -> None:
    """It bounds how much of a job is under way, so that its pause takes a moment and other jobs have their turn."""
    # Given a job of which one batch may be at work at a time, and one is
    due.table.put(batch_window=1)
    [wakeup] = due.table.dispatch()

    def taken() -> Lease | None:
        with due.table.begin() as connection:
            kinds = frozenset({BatchKind.LIST})
            return leasing.lease_next(connection, due.table.job_id, kinds, "another", 60.0)

    # Then a worker of another one takes none; when that is done, one
    assert taken() is None
    due.table.set_batch(wakeup.batch_id, state="done")
    assert taken() is not None and taken() is None


def test_a_worker_that_is_told_to_stop_takes_nothing_more_from_then_on_but_finishes_what_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "ending", Event())
    monkeypatch.setattr(process, "leaving", Event())
    process.leave_after(600.0)
    assert process.ending.is_set() and not process.leaving.is_set()


def test_nobody_goes_on_with_a_job_that_is_being_paused(due: One) -> None:
    due.table.put(state="pausing")
    with due.table.begin() as connection:
        kinds = frozenset({BatchKind.LIST})
        assert leasing.lease_next(connection, due.table.job_id, kinds, "worker", 60.0) is None
