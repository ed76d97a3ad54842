"""The lease queue: one worker at a time, nothing recorded behind the fence, nothing lost when a worker dies."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest
import sqlalchemy as sa
from job_table import LEASE_S, JobTable, plan_of, planned

from orchestrator.core.model import Lease, Wakeup
from orchestrator.core.states import BatchKind, BatchState, JobState
from orchestrator.ledger import batches, leasing, status
from orchestrator.ledger import tables as t
from orchestrator.ledger.batches import LeaseLost
from orchestrator.ledger.database import Database
from orchestrator.services import acts
from vecfleet.stores.base import Usage

TEN = [[f"r{number}"] for number in range(10)]


@pytest.fixture
def wakeup(table: JobTable) -> Wakeup:
    """A copy batch on its way to a worker."""
    table.listed({"s": [["a", "b"]]})
    (wakeup,) = table.dispatch()
    return wakeup


def leased(table: JobTable, wakeup: Wakeup) -> Lease:
    lease = table.lease(wakeup)
    assert lease is not None
    return lease


def test_of_two_workers_racing_for_a_wake_up_one_wins(table: JobTable, wakeup: Wakeup) -> None:
    # Given one wake-up that Redis delivered to eight workers
    ready = Barrier(8)

    def race(number: int) -> Lease | None:
        ready.wait(timeout=120)
        return table.lease(wakeup, owner=f"worker-{number}")

    # When all of them ask for the lease at once
    with ThreadPoolExecutor(8) as pool:
        won = [lease for lease in pool.map(race, range(8)) if lease is not None]

    # Then one has it, and the job table knows who
    assert len(won) == 1
    assert table.row(wakeup.batch_id).attempts == 1
    assert table.row(wakeup.batch_id).lease_owner.startswith("worker-")


def test_leases_of_a_process_that_is_dead_end_with_its_last_request_and_nobody_elses_do(database: Database) -> None:
    # Given three workers with a lease each, of which the first two are in one process
    table = JobTable(database)
    table.apply(plan_of(planned("s", "t")))
    table.listed({"s": TEN[:4]})
    pid, another = 4_711, 47_110
    owners = [f"{leasing.owner_of(pid)}a", f"{leasing.owner_of(pid)}b", f"{leasing.owner_of(another)}a"]
    first, second, living = (
        table.lease(wakeup, owner) for wakeup, owner in zip(table.dispatch(3), owners, strict=True)
    )
    assert first and second and living
    soon, late = sa.text("clock_timestamp() + interval '5 s'"), sa.text("clock_timestamp() + interval '30 s'")
    table.set_batch(second.id, lease_until=soon)

    # When that process is known to be dead, and requests take no longer than 20 s
    with table.begin() as connection:
        assert leasing.shorten(connection, pid, 20.0) == 1
        assert leasing.shorten(connection, pid, 20.0) == 0

    # Then no lease ends before its last request must have, none later than it would have, and the living keeps its own
    with table.begin() as connection:
        query = sa.select(t.batch.c.id, t.batch.c.lease_until < late, t.batch.c.lease_until > soon)
        ends = {batch_id: (sooner, not_at_once) for batch_id, sooner, not_at_once in connection.execute(query)}
    assert (ends[first.id], ends[second.id], ends[living.id]) == ((True, True), (True, False), (False, True))


def test_a_process_of_another_container_with_the_same_name_and_pid_keeps_its_leases(
    table: JobTable, wakeup: Wakeup, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = table.lease(wakeup, f"{leasing.owner_of(4_711)}a")
    assert lease is not None
    monkeypatch.setattr(leasing, "_where_pids_count", lambda: "another.1:")
    with table.begin() as connection:
        assert leasing.shorten(connection, 4_711, 1.0) == 0


def test_a_wake_up_that_comes_late_begins_its_batch_and_the_one_sent_since_does_not(
    table: JobTable, wakeup: Wakeup
) -> None:
    """A worker under a rate limit of Celery's holds wake-ups for longer than the dispatcher waits for them."""
    # Given a wake-up that was sent again because nobody took it
    with table.begin() as connection:
        assert batches.resend(connection, [table.job_id], BatchKind, after_seconds=-1) == 1

    # When the old message arrives before the batch is sent again, then it changes nothing
    before = table.row(wakeup.batch_id)
    assert table.lease(wakeup) is None
    assert table.row(wakeup.batch_id) == before

    # When it arrives after that, then it begins the batch in its present generation
    (fresh,) = table.dispatch()
    late = leased(table, wakeup)
    assert late.generation == fresh.generation == wakeup.generation + 1

    # And whichever comes now, while the batch is worked on and when it is done, changes nothing
    for act in (lambda: None, lambda: table.copy(late)):
        act()
        before = table.row(wakeup.batch_id)
        assert [table.lease(again) for again in (wakeup, fresh)] == [None, None]
        assert table.row(wakeup.batch_id) == before


def test_a_wake_up_of_a_generation_yet_to_come_is_a_no_op(table: JobTable, wakeup: Wakeup) -> None:
    """It is of commits that the job table has lost: what it was sent for is not known here."""
    before = table.row(wakeup.batch_id)
    assert table.lease(replace(wakeup, generation=wakeup.generation + 1)) is None
    assert table.row(wakeup.batch_id) == before


def test_of_a_late_wake_up_and_the_one_sent_since_one_wins_the_race(table: JobTable, wakeup: Wakeup) -> None:
    with table.begin() as connection:
        batches.resend(connection, [table.job_id], BatchKind, after_seconds=-1)
    (fresh,) = table.dispatch()
    both_there = Barrier(2)

    def race(wake: Wakeup) -> Lease | None:
        both_there.wait(timeout=120)
        return table.lease(wake, f"worker of {wake.generation}")

    with ThreadPoolExecutor(2) as racers:
        leases = list(racers.map(race, (wakeup, fresh)))
    assert [lease is None for lease in leases].count(False) == 1
    assert table.row(wakeup.batch_id).attempts == 1


def test_a_wake_up_is_worked_once_however_often_it_is_delivered(table: JobTable, wakeup: Wakeup) -> None:
    table.copy(leased(table, wakeup))
    assert table.lease(wakeup) is None
    assert table.row(wakeup.batch_id).state == BatchState.DONE


def test_a_wake_up_is_sent_again_only_when_it_is_overdue(table: JobTable, wakeup: Wakeup) -> None:
    with table.begin() as connection:
        assert batches.resend(connection, [table.job_id], BatchKind, after_seconds=3_600) == 0
    assert table.row(wakeup.batch_id).state == BatchState.DISPATCHED


def test_a_finish_after_the_lease_ran_out_records_nothing(table: JobTable, wakeup: Wakeup) -> None:
    # Given a worker that froze over its batch until the lease ran out and was reaped
    frozen = leased(table, wakeup)
    target = table.target(frozen, "t")
    table.expire(frozen)
    assert table.reap() == []
    before = (table.row(frozen.id), table.move, table.expected("t"))

    # When it wakes up and finishes, whichever way
    with pytest.raises(LeaseLost):
        table.copy(frozen, None, wrote=["a", "b"])
    with pytest.raises(LeaseLost):
        table.target(frozen, "t")
    with pytest.raises(LeaseLost):
        table.requeue(frozen)
    with pytest.raises(LeaseLost):
        table.park(frozen)

    # Then the job table is as it was
    assert (table.row(frozen.id), table.move, table.expected("t")) == before
    assert table.targets["t"].sequence == target.sequence + 1


def test_a_finish_behind_the_next_workers_back_records_nothing(table: JobTable, wakeup: Wakeup) -> None:
    # Given a batch whose first worker lost its lease and whose second worker is at work
    first = leased(table, wakeup)
    table.expire(first)
    table.reap()
    (again,) = table.dispatch()
    second = leased(table, again)

    # When the first one finishes, then it is fenced; the second one's finish counts, once
    with pytest.raises(LeaseLost):
        table.copy(first)
    table.copy(second)
    assert table.move.written == 2
    with pytest.raises(LeaseLost):
        table.copy(second)
    assert table.move.written == 2


def test_a_lease_that_ran_out_comes_back_with_a_new_generation_and_its_reason(table: JobTable, wakeup: Wakeup) -> None:
    lease = leased(table, wakeup)
    table.expire(lease)
    table.reap()

    row = table.row(lease.id)
    assert (row.state, row.generation, row.attempts) == (BatchState.READY, lease.generation + 1, 1)
    assert (row.lease_owner, row.lease_until, row.run_after) == (None, None, None)
    assert row.error_text == "its worker stopped answering"


def test_a_lease_that_is_renewed_does_not_run_out(table: JobTable, wakeup: Wakeup) -> None:
    # Given a lease that would be over
    lease = leased(table, wakeup)
    table.expire(lease)

    # When its worker's heartbeat is faster than the reaper
    with table.begin() as connection:
        kept = batches.renew(connection, [(lease.id, lease.generation)], table.owner, LEASE_S)

    # Then the batch stays with it
    assert kept
    assert table.reap() == []
    assert table.row(lease.id).state == BatchState.LEASED


def test_a_heartbeat_renews_neither_a_strangers_lease_nor_an_older_generation(table: JobTable, wakeup: Wakeup) -> None:
    lease = leased(table, wakeup)
    until = table.row(lease.id).lease_until
    for generation, owner in ((lease.generation, "a stranger"), (lease.generation - 1, table.owner)):
        with table.begin() as connection:
            assert not batches.renew(connection, [(lease.id, generation)], owner, 3_600)
    assert table.row(lease.id).lease_until == until


def test_waiting_spends_no_attempt_and_failing_spends_one(table: JobTable, wakeup: Wakeup) -> None:
    table.requeue(leased(table, wakeup), spend_attempt=False)
    assert table.row(wakeup.batch_id).attempts == 0

    (wakeup,) = table.dispatch()
    table.requeue(leased(table, wakeup), spend_attempt=True)
    assert table.row(wakeup.batch_id).attempts == 1


def test_a_batch_that_waits_is_not_sent_before_its_time(table: JobTable, wakeup: Wakeup) -> None:
    table.requeue(leased(table, wakeup), after=3_600)
    assert table.dispatch() == []

    table.set_batch(wakeup.batch_id, run_after=sa.func.clock_timestamp())
    assert [again.batch_id for again in table.dispatch()] == [wakeup.batch_id]


def test_what_failed_attempts_cost_is_added_up(table: JobTable, wakeup: Wakeup) -> None:
    table.requeue(leased(table, wakeup))
    (wakeup,) = table.dispatch()
    table.copy(leased(table, wakeup))
    row = table.row(wakeup.batch_id)
    assert (row.requests, row.write_units, row.busy_ms) == (3, 5.0, 4)


def test_a_batch_whose_workers_keep_dying_is_parked_with_its_ids(table: JobTable, wakeup: Wakeup) -> None:
    # Given a batch at which seven workers died
    table.set_batch(wakeup.batch_id, attempts=7)

    # When the eighth dies
    table.expire(leased(table, wakeup))
    assert table.reap(limit=8) == [wakeup.batch_id]

    # Then the batch is parked, says why, and its ids are accounted for
    row = table.row(wakeup.batch_id)
    assert (row.state, row.error_text) == (BatchState.PARKED, "its worker stopped answering 8 times")
    assert (table.move.parked, table.move.listed, table.move.open_batches) == (2, 2, 0)
    assert table.move.state == "parked"


def test_a_namespace_whose_listing_kills_its_workers_says_so(table: JobTable) -> None:
    # Given a listing at which seven workers died
    table.start()
    (listing,) = table.dispatch()
    table.set_batch(listing.batch_id, attempts=7)

    # When the eighth dies
    table.expire(leased(table, listing))
    table.reap(limit=8)

    # Then the namespace is parked with the reason, the job asks for attention, and a retry lists it again
    assert table.move.state == "parked"
    assert table.move.reason == "its worker stopped answering 8 times"
    table.advance()
    assert table.job.state is JobState.NEEDS_ATTENTION
    acts.retry(table.database, table.job_id, "ana", "failed")
    assert table.move.state == "listing"
    assert [wakeup.kind for wakeup in table.dispatch()] == [BatchKind.LIST]
    # And while that runs nobody is told what went wrong before
    with table.begin() as connection:
        assert list(status.reading(connection, table.job_id, namespaces=0).waiting) == []


def test_a_big_namespace_starves_nobody(database: Database) -> None:
    # Given one namespace of ten batches and three of one
    table = JobTable(database)
    sources = ["big", "s1", "s2", "s3"]
    table.apply(plan_of(*(planned(source, f"t-{source}") for source in sources)))
    table.listed({"big": TEN, "s1": [["a"]], "s2": [["b"]], "s3": [["c"]]})

    # When four batches may be on their way
    first = table.dispatch(window=4)

    # Then each namespace has one of them; the rest of the big one follows in its order
    assert Counter(wakeup.namespace for wakeup in first) == dict.fromkeys(sources, 1)
    assert [(wakeup.namespace, wakeup.seq) for wakeup in table.dispatch(window=7)] == [
        ("big", 2),
        ("big", 3),
        ("big", 4),
    ]


def test_the_window_is_never_exceeded(table: JobTable) -> None:
    # Given ten batches and a window of three
    table.listed({"s": TEN})
    first = table.dispatch(window=3)
    assert len(first) == 3

    # When nothing has landed, nothing more is sent, leased or not
    assert table.dispatch(window=3) == []
    lease = leased(table, first[0])
    assert table.dispatch(window=3) == []

    # When one lands, one follows; and a smaller window waits until there is room again
    table.copy(lease)
    assert table.dispatch(window=2) == []
    assert len(table.dispatch(window=3)) == 1


@pytest.mark.parametrize("act", [acts.pause, acts.cancel])
def test_pausing_and_cancelling_recall_what_nobody_has_taken_and_let_the_rest_land(
    table: JobTable, act: object
) -> None:
    # Given one batch leased and two on their way
    table.listed({"s": [["a"], ["b"], ["c"]]})
    taken, *waiting = table.dispatch()
    lease = leased(table, taken)

    # When a person pauses (cancels) the job
    act(table.database, table.job_id, "ana")  # type: ignore[operator]

    # Then the wake-ups on their way are void, nothing new is sent, and the leased one lands
    assert [table.lease(wakeup) for wakeup in waiting] == [None, None]
    assert table.dispatch() == []
    table.advance()
    assert table.job.state in (JobState.PAUSING, JobState.CANCELLING)
    table.copy(lease)
    assert table.move.written == 1
    table.advance()
    assert table.job.state in (JobState.PAUSED, JobState.CANCELLED)


def test_after_a_resume_the_rest_is_worked(table: JobTable) -> None:
    table.listed({"s": [["a"], ["b"]]})
    table.dispatch()
    acts.pause(table.database, table.job_id, "ana")
    table.advance()
    assert table.job.state is JobState.PAUSED
    acts.resume(table.database, table.job_id, "ana")
    for lease in table.take():
        table.copy(lease)
    table.advance()
    assert (table.job.state, table.move.written) == (JobState.COPIED, 2)


def test_a_wake_up_that_redis_did_not_take_is_due_again(table: JobTable, wakeup: Wakeup) -> None:
    with table.begin() as connection:
        batches.undispatch(connection, [wakeup])
    (again,) = table.dispatch()
    assert (again.batch_id, again.generation) == (wakeup.batch_id, wakeup.generation + 1)


def test_recalling_a_wake_up_that_a_worker_has_taken_changes_nothing(table: JobTable, wakeup: Wakeup) -> None:
    leased(table, wakeup)
    before = table.row(wakeup.batch_id)
    with table.begin() as connection:
        batches.undispatch(connection, [wakeup])
        batches.resend(connection, [table.job_id], BatchKind, after_seconds=-1)
    assert table.row(wakeup.batch_id) == before


@pytest.mark.parametrize(
    ("state", "worked"),
    [
        (JobState.RUNNING, {BatchKind.LIST, BatchKind.COPY, BatchKind.VERIFY, BatchKind.SURVEY, BatchKind.QUERY}),
        (JobState.COPIED, {BatchKind.VERIFY, BatchKind.SURVEY, BatchKind.QUERY}),
        (JobState.CLEANING, {BatchKind.RECHECK, BatchKind.CLEAR, BatchKind.REMOVE}),
        (JobState.ROLLING_BACK, {BatchKind.COMPARE, BatchKind.UNDO, BatchKind.DROP}),
        *((state, set()) for state in JobState if state not in ("running", "copied", "cleaning", "rolling_back")),
    ],
)
def test_a_job_leases_only_the_work_of_its_state(table: JobTable, state: JobState, worked: set[BatchKind]) -> None:
    # Given a batch of every kind, and wake-ups for all of them from before
    with table.begin() as connection:
        made = connection.execute(
            sa.insert(t.batch).returning(t.batch.c.id, t.batch.c.kind, t.batch.c.generation),
            [
                {"job_id": table.job_id, "move_id": table.move.id, "kind": kind, "seq": 1, "state": "dispatched"}
                for kind in BatchKind
            ],
        ).all()

    # When the job is in this state
    table.put(state=state)

    # Then workers get leases for its kind of work, and the dispatcher sends no other
    wakeups = {row.kind: Wakeup(row.id, row.generation, row.kind, table.job_id, "s", 1, 1) for row in made}
    assert {kind for kind, wakeup in wakeups.items() if table.lease(wakeup)} == worked
    with table.by_hand() as connection:
        connection.execute(sa.update(t.batch).values(state="ready"))
    assert {wakeup.kind for wakeup in table.dispatch()} == worked


def test_a_fence_stands_until_the_commit(table: JobTable, wakeup: Wakeup) -> None:
    # Given a worker in the midst of recording
    lease = leased(table, wakeup)
    table.expire(lease)
    with table.begin() as connection:
        batches.require(connection, lease)

        # When the reaper comes, then it cannot take the batch away before the worker's commit
        with table.database.engine.connect() as reaper:
            reaper.execute(sa.text("SET lock_timeout = 50"))
            with pytest.raises(sa.exc.OperationalError, match="lock timeout"):
                batches.requeue_expired(reaper, [table.job_id], 8)
        batches.settle(connection, lease, BatchState.DONE, Usage(), 1)
    assert table.row(lease.id).state == BatchState.DONE
