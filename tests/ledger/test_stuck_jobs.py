"""No job waits for ever without saying why, and from wherever it stops there is a way back."""

from unittest.mock import Mock

import pytest
import sqlalchemy as sa
from job_table import LEASE_S, JobTable, plan_of, planned
from stages import cleaning, verified

from orchestrator import dispatcher
from orchestrator.core.model import Wakeup
from orchestrator.core.next_steps import next_steps
from orchestrator.core.retrying import MAX_ATTEMPTS
from orchestrator.core.states import BatchKind, BatchState, JobState
from orchestrator.dispatcher import Dispatcher
from orchestrator.ledger import batches, cleanup, copies, jobs, leadership, leasing, status
from orchestrator.ledger.database import Database
from orchestrator.queue import make_app, waiting
from orchestrator.services import acts
from orchestrator.telemetry.counters import Counters
from vecfleet.errors import Busy, Refused


def test_a_target_written_to_again_is_checked_although_another_one_of_its_source_differs(database: Database) -> None:
    # Given a source split over two owners; at one target is a record of somebody else's, and one record is parked
    table = JobTable(database)
    table.apply(plan_of(planned("s")))
    table.listed({"s": [["a"], ["b", "c"]]})
    first, second = table.take()
    table.copy(first, "t-a")
    table.copy(second, "t-b", wrote=["b"], parked=["c"])
    table.advance(2)
    strange = table.targets["t-a"].id
    for lease in table.take():
        intruder = lease.kind is BatchKind.SURVEY and lease.target_id == strange
        table.check(lease, **({"extra": 1} if intruder else {}))
    table.advance(2)
    assert table.job.state is JobState.NEEDS_ATTENTION

    # When the parked record is tried again, and now arrives
    acts.retry(table.database, table.job_id, "ana", "parked")
    (again,) = table.take()
    table.copy(again, "t-b")
    table.advance(4)

    # Then its target is read back, and the job says again what it waits for
    for lease in table.take():
        table.check(lease)
    table.advance(3)
    assert table.targets["t-b"].check_state == "verified"
    assert (table.job.state, table.job.reason) == (JobState.NEEDS_ATTENTION, "1 target differs from its sources")


def test_a_batch_that_cannot_be_parked_ends_no_dispatcher(
    database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given two batches that used up their attempts, of which one cannot be parked
    table = JobTable(database)
    table.apply(plan_of(planned("s")))
    table.listed({"s": [["a"], ["b"]]})
    first, second = table.take()
    for lease in (first, second):
        table.expire(lease)
        table.set_batch(lease.id, attempts=MAX_ATTEMPTS)
    original = copies.park_exhausted

    def park(connection: sa.Connection, batch_id: int) -> None:
        original(connection, batch_id)
        if batch_id == first.id:
            raise AttributeError("what it found cannot be read")

    monkeypatch.setattr(copies, "park_exhausted", park)

    # When the dispatcher looks, then the other one is parked, and it goes on
    Dispatcher(database, make_app(redis_url), Counters(redis_url)).tick()
    states = {row.id: row.state for row in table.rows(BatchKind.COPY)}
    assert states[second.id] == BatchState.PARKED and states[first.id] != BatchState.PARKED


def differs_after_cut_over(database: Database) -> JobTable:
    table = verified(database)
    acts.cut_over(table.database, table.job_id, "ana", 100)
    acts.verify(table.database, table.job_id, "ana")
    table.advance()
    for lease in table.take():
        table.check(lease, **({"count": 0} if lease.kind is BatchKind.SURVEY else {}))
    table.advance(2)
    assert table.job.state is JobState.NEEDS_ATTENTION
    return table


def test_readers_can_be_moved_back_when_their_new_side_turns_out_to_differ(database: Database) -> None:
    # Given readers that were moved, and a target that differs since
    table = differs_after_cut_over(database)

    # When a person reverses the cut-over, then all readers are on the old side, and the job can be rolled back
    assert {route.side for route in acts.reverse(table.database, table.job_id, "ana")} == {"old"}
    acts.roll_back(table.database, table.job_id, "ana", None)
    assert table.job.state is JobState.ROLLING_BACK


def test_a_job_whose_new_side_differs_is_cancelled_and_rolled_back_once_its_readers_are_back(
    database: Database,
) -> None:
    table = differs_after_cut_over(database)
    with pytest.raises(Refused, match="readers are cut over at 100 %"):
        acts.cancel(table.database, table.job_id, "ana")
    assert {route.side for route in acts.reverse(table.database, table.job_id, "ana")} == {"old"}
    acts.cancel(table.database, table.job_id, "ana")
    table.advance()
    assert table.job.state is JobState.CANCELLED
    acts.roll_back(table.database, table.job_id, "ana", None)


def test_readers_are_not_moved_back_to_a_source_that_is_being_deleted(database: Database) -> None:
    table = verified(database, soak_seconds=0)
    acts.cut_over(table.database, table.job_id, "ana", 100)
    acts.clean_up(table.database, table.job_id, "ana", by_ids=True)
    with pytest.raises(Refused, match="before clean-up"):
        acts.reverse(table.database, table.job_id, "ana")
    (remove,) = table.take()
    table.park(remove, "a record changed")
    table.advance()
    assert table.job.state is JobState.NEEDS_ATTENTION
    with pytest.raises(Refused, match="before clean-up"):
        acts.reverse(table.database, table.job_id, "ana")


def test_what_was_copied_is_not_rolled_back_once_its_source_may_be_deleted(database: Database) -> None:
    # Given a deletion that was asked for and not confirmed: it may take effect later
    table = cleaning(database)
    (recheck,) = table.take()
    table.finish(recheck, proven=2)
    table.advance()
    (clear,) = table.take()
    with table.begin() as connection:
        cleanup.intend(connection, clear, 0)
    table.park(clear, why="s still lists ids after its deletion")
    table.advance()

    # When the job is cancelled and rolled back, then that is refused: the copy may soon be the only one
    acts.cancel(table.database, table.job_id, "ana")
    table.advance()
    assert table.job.state is JobState.CANCELLED
    with pytest.raises(Refused, match="before clean-up"):
        acts.roll_back(table.database, table.job_id, "ana", None)


def test_a_job_that_the_dispatcher_cannot_advance_says_so_until_it_can(
    database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a dispatcher, and a job whose next step breaks
    table = verified(database)
    table.put(reason="ana asked for it")
    found = Dispatcher(database, make_app(redis_url), Counters(redis_url))
    broken = Mock(side_effect=ZeroDivisionError)
    monkeypatch.setattr(dispatcher, "advance", broken)
    # When it looks at it, twice
    for _ in range(2):
        found.tick()
    # Then the job tells why nothing happens
    assert broken.call_count == 2
    assert "cannot advance it and keeps trying: ZeroDivisionError" in (table.job.reason or "")
    # And no longer once it can, though another dispatcher leads by then
    monkeypatch.undo()
    found.stop()
    found.run()
    Dispatcher(database, make_app(redis_url), Counters(redis_url)).tick()
    assert table.job.reason == "ana asked for it"


def test_a_tick_that_fails_ends_no_dispatcher(
    database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "_LONGEST_OUTAGE_WAIT_S", 0.1)
    monkeypatch.setattr(leadership, "resign", Mock(side_effect=RuntimeError("nor this")))
    # Given a job, and a dispatcher whose first tick fails in a way that nobody foresaw, and which cannot even resign
    table = JobTable(database)
    table.apply(plan_of(planned("s")))
    working = Dispatcher(database, make_app(redis_url), Counters(redis_url))
    tick, calls = working.tick, []

    def failing_at_first() -> int:
        calls.append(table.job.state)
        if len(calls) == 1:
            raise RuntimeError("dictionary changed size during iteration")
        working.stop()
        return tick()

    monkeypatch.setattr(working, "tick", failing_at_first)
    # When it runs
    working.run()
    # Then its next one does what is due
    assert (len(calls), table.job.state) == (2, JobState.RUNNING)


def test_a_dispatcher_that_cannot_look_after_leases_lets_another_one_lead(
    database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a dispatcher that takes the lead, and then fails at every tick
    table = JobTable(database)
    table.apply(plan_of(planned("s")))
    monkeypatch.setattr(dispatcher, "_LONGEST_OUTAGE_WAIT_S", 0.1)
    monkeypatch.setattr(batches, "requeue_expired", Mock(side_effect=RuntimeError("nobody foresaw it")))
    working = Dispatcher(database, make_app(redis_url), Counters(redis_url))
    tick, led = working.tick, []

    def watched() -> int:
        with table.begin() as connection:
            led.append(leadership.seconds_left(connection))
        if len(led) == 3:
            working.stop()
        return tick()

    monkeypatch.setattr(working, "tick", watched)
    # When it runs, then nobody leads whenever it waits
    working.run()
    assert led == [None, None, None]


def test_what_one_job_is_due_is_sent_although_the_next_cannot_be_tended(
    database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given two jobs, of which the second one's rows are held by somebody
    first, second = JobTable(database), JobTable(database, plan=plan_of(planned("u", "v")))
    first.apply(first.plan)
    second.apply(second.plan)
    celery = make_app(redis_url)
    working = Dispatcher(database, celery, Counters(redis_url))
    tend = working._tend

    def held(job_id: int) -> list[Wakeup]:
        if job_id == second.job_id:
            raise Busy("another process held rows that this one needed for over 15 s")
        return tend(job_id)

    monkeypatch.setattr(working, "_tend", held)
    # When the dispatcher looks after both
    with pytest.raises(Busy):
        working.tick()
    # Then what the first is due waits for a worker
    assert [row.state for row in first.rows()] == [BatchState.DISPATCHED]
    assert waiting(celery) == 1


@pytest.mark.parametrize(
    ("waits", "minutes", "anew"), [(0, 0.2, 0), (0, 1, 3), (2, 1, 0), (2, 6, 3), (3, 6, 0), (7, 60, 0)]
)
def test_wake_ups_that_nobody_took_are_sent_again_unless_their_queue_holds_one_for_each(
    database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch, waits: int, minutes: float, anew: int
) -> None:
    """Whoever took one may have died before its lease; and where there is always more to do, there is no empty queue.

    Where a queue holds one for each, a slow worker would otherwise find more of them each time that it takes one.
    """
    monkeypatch.setattr(dispatcher, "_REAP_EVERY_S", 0.0)
    # Given the wake-ups of three listings, sent so long ago, of which so many are still there, and full other queues
    monkeypatch.setattr(dispatcher, "waiting_by_queue", lambda _: {"control": waits, "copy": 100, "cleanup": 100})
    table = JobTable(database)
    table.apply(plan_of(planned("s"), planned("t"), planned("u")))
    working = Dispatcher(database, make_app(redis_url), Counters(redis_url))
    assert working.tick() == 3
    before = table.rows()
    sent_at = sa.func.clock_timestamp() - sa.func.make_interval(0, 0, 0, 0, 0, 0, 60.0 * minutes)
    for row in before:
        table.set_batch(row.id, dispatched_at=sent_at)
    # When the dispatcher looks
    working.tick()
    # Then so many are sent anew
    after = {row.id: row.generation for row in table.rows()}
    assert [after[row.id] - row.generation for row in before].count(1) == anew
    assert {row.state for row in table.rows()} == {BatchState.DISPATCHED}


def test_a_job_that_cannot_even_be_read_stops_no_other(database: Database, redis_url: str) -> None:
    # Given a job whose plan this version does not understand, and another
    table, other = verified(database), verified(database, "u")
    with table.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE job SET plan = '{}', plan_digest = 'unheard of' WHERE id = %(id)s", {"id": table.job_id}
        )
    acts.verify(database, other.job_id, "ana")
    # When the dispatcher looks at both
    found = Dispatcher(database, make_app(redis_url), Counters(redis_url))
    for _ in range(3):
        found.tick()
    # Then the one says so, and the other goes on
    with table.begin() as connection:
        assert "cannot advance it" in (jobs.reason_of(connection, table.job_id) or "")
    assert [row for row in other.rows() if row.state in ("ready", "dispatched")]


def test_a_job_that_spent_its_budget_pauses_and_says_how_much_lets_it_go_on(database: Database) -> None:
    # Given a job that may spend hardly anything, half way
    table = JobTable(database)
    table.apply(plan_of(planned("s")))
    table.put(budget_factor=0.00005)
    table.listed({"s": [["a"], ["b"]]})
    first, second = table.take()
    # When a batch has cost more than that
    table.copy(first)
    table.advance()
    assert "the budget is used up: 5 write units" in (table.job.reason or "")
    table.copy(second)
    table.advance()
    # Then it is paused, and what it says lets it go on
    assert table.job.state is JobState.PAUSED
    with table.begin() as connection:
        lever, resume, _ = next_steps(status.reading(connection, table.job_id, namespaces=1))
    assert (lever, resume) == (f"vecfleet set {table.job_id} budget 1", f"vecfleet resume {table.job_id}")
    acts.set_lever(database, table.job_id, "ana", "budget", 1)
    acts.resume(database, table.job_id, "ana")
    table.advance()
    assert table.job.state is not JobState.PAUSED and not (table.job.reason or "").startswith("the budget")


def test_what_a_person_did_is_acted_on_although_the_dispatcher_rests(database: Database, redis_url: str) -> None:
    """A look at 12,000 namespaces takes a while, and then it rests: not from somebody who says `pause`."""
    # Given a dispatcher that has looked at a running job, and rests from it for long
    table = JobTable(database)
    table.apply(plan_of(planned("s")))
    working = Dispatcher(database, make_app(redis_url), Counters(redis_url))
    working.tick()
    assert table.job.state is JobState.RUNNING
    working._rests[table.job_id] = JobState.RUNNING, float("inf")
    working.tick()
    # When somebody pauses it
    acts.pause(database, table.job_id, "ana")
    working.tick()
    # Then it is
    assert table.job.state is JobState.PAUSED


def test_a_job_of_which_all_has_landed_does_not_rest(
    database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look takes longer on a loaded machine, and the rest nine times as long: most of what a small job took."""
    monkeypatch.setattr(dispatcher, "_REST_PER_LOOK", float("inf"))
    monkeypatch.setattr(dispatcher, "_LONGEST_REST_S", float("inf"))
    # Given a job with one batch in flight, and a dispatcher that rests from it
    table = JobTable(database)
    table.apply(plan_of(planned("s")))
    working = Dispatcher(database, make_app(redis_url), Counters(redis_url))
    assert working.tick() == 1
    [row] = table.rows()
    with table.begin() as connection:
        lease = leasing.lease(connection, row.id, row.generation, "worker", LEASE_S)
    assert lease is not None and working.tick() == 0
    # When the batch is done
    table.list_ids(lease)
    # Then the next tick decides what follows
    working.tick()
    assert table.job.state is not JobState.RUNNING


def test_a_job_whose_window_drained_goes_on_at_the_next_tick(
    database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a window is full nothing about its job hurries. That is over as soon as there is room."""
    monkeypatch.setattr(dispatcher, "_REST_PER_LOOK", 0.0)
    monkeypatch.setattr(dispatcher, "_BUSY_REST_S", float("inf"))
    # Given a job whose window is full of what is worked on
    table = JobTable(database)
    table.apply(plan_of(planned("s"), planned("t")))
    table.put(batch_window=2)
    working = Dispatcher(database, make_app(redis_url), Counters(redis_url))
    assert working.tick() == 2
    with table.begin() as connection:
        taken = [leasing.lease(connection, row.id, row.generation, "worker", LEASE_S) for row in table.rows()]
    working.tick()
    assert table.job_id in working._busy
    # When all of it is done, and both namespaces were empty
    for lease in taken:
        assert lease is not None
        table.list_ids(lease)
    # Then the dispatcher sees the room, and decides what comes next
    working.tick()
    working.tick()
    assert table.job.state is not JobState.RUNNING
