"""Leases in the process that holds them: kept alive while it works, given up when they cannot be."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
import sqlalchemy as sa
from job_table import LEASE_S, JobTable, plan_of, planned

from orchestrator.core.model import Lease
from orchestrator.ledger import batches, leasing
from orchestrator.ledger.batches import LeaseLost
from orchestrator.ledger.database import Database
from workers.leases import Held, Holder, Leaving

BEAT_S = 0.02
Eventually = Callable[[Callable[[], object]], None]


@pytest.fixture
def table(database_url: str) -> Iterator[JobTable]:
    """A job table with one leased copy batch."""
    database = Database(database_url, pool_size=4)
    table = JobTable(database)
    table.apply(plan_of(planned("s", "t")))
    table.listed({"s": [["a"]]})
    yield table
    database.dispose()


@pytest.fixture
def lease(table: JobTable) -> Lease:
    (lease,) = table.take()
    return lease


def holder(table: JobTable, lease_s: float = 60.0) -> Holder:
    return Holder(table.database, table.owner, lease_s, BEAT_S, Event())


def nearly_over(table: JobTable, batch_id: int) -> None:
    table.set_batch(batch_id, lease_until=sa.func.clock_timestamp() + sa.text("interval '20 seconds'"))


def seconds_left(table: JobTable, batch_id: int) -> float:
    with table.begin() as connection:
        query = sa.text("SELECT extract(epoch FROM lease_until - clock_timestamp()) FROM batch WHERE id = :id")
        return float(connection.execute(query, {"id": batch_id}).scalar_one())


def lost(held: Held) -> bool:
    try:
        held.require(0)
    except LeaseLost:
        return True
    return False


def test_a_lease_is_renewed_while_it_is_held_and_not_after(
    table: JobTable, lease: Lease, eventually: Eventually
) -> None:
    keeper = holder(table)
    with keeper.holding(lease):
        nearly_over(table, lease.id)
        eventually(lambda: seconds_left(table, lease.id) > 30)
    assert keeper._held == {}


def test_a_lease_lasts_as_long_as_it_lasts(lease_of: Callable[..., Lease]) -> None:
    held = Held(lease_of(600), Event())
    held.require(300)
    with pytest.raises(LeaseLost):
        held.require(601)
    held.lose()
    with pytest.raises(LeaseLost):
        held.require(0)


def test_a_process_that_leaves_waits_for_nothing_and_begins_no_request(lease_of: Callable[..., Lease]) -> None:
    # Given a wait that would be long
    leaving = Event()
    held = Held(lease_of(600), leaving)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(held.wait, 600.0)
        # When the process is to leave, then the wait is over, and says so
        leaving.set()
        with pytest.raises(Leaving):
            waiting.result(timeout=60)
    # And no request begins
    with pytest.raises(Leaving):
        held.require(0)


@pytest.fixture
def suspend(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Suspend the machine for so many seconds: what Linux counts as monotonic stands still meanwhile."""
    asleep, read = [0.0], time.clock_gettime
    goes_on = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

    def clock_gettime(which: int) -> float:
        return read(which) + (asleep[0] if which == goes_on else 0.0)

    def suspend(seconds: float) -> None:
        asleep[0] += seconds

    monkeypatch.setattr(time, "clock_gettime", clock_gettime)
    return suspend


def test_a_lease_runs_out_while_the_machine_is_suspended(
    lease_of: Callable[..., Lease], suspend: Callable[[float], None]
) -> None:
    # Given a lease of a minute, and a call that may take twenty seconds
    held = Held(lease_of(60), Event())
    held.require(20)
    # When the machine sleeps for a part of it, then what is left is too short; and when for all of it, it is over
    suspend(41)
    assert not lost(held)
    with pytest.raises(LeaseLost):
        held.require(20)
    suspend(20)
    assert lost(held)


def test_a_lease_that_is_taken_while_the_machine_is_suspended_is_counted_from_before(
    table: JobTable, suspend: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a machine that sleeps for longer than a lease, between the question for one and its answer
    execute = sa.Connection.execute

    def and_sleeps(connection: sa.Connection, *arguments: Any, **named: Any) -> Any:
        answer = execute(connection, *arguments, **named)
        suspend(LEASE_S + 1)
        return answer

    (wakeup,) = table.dispatch()
    with monkeypatch.context() as sleeping, table.begin() as connection:
        sleeping.setattr(sa.Connection, "execute", and_sleeps)
        lease = leasing.lease(connection, wakeup.batch_id, wakeup.generation, table.owner, LEASE_S)
    # Then the worker makes no call under it, though the job table gave it
    assert lease is not None
    assert lost(Held(lease, Event()))


def test_a_renewal_during_which_the_machine_was_suspended_is_counted_from_before(
    table: JobTable, lease: Lease, suspend: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a machine that sleeps for longer than a lease, between a beat and its answer
    renew = batches.renew

    def and_sleeps(*arguments: Any) -> set[tuple[int, int]]:
        kept = renew(*arguments)
        suspend(LEASE_S + 1)
        return kept

    keeper = Holder(table.database, table.owner, LEASE_S, beat_s=3_600.0, leaving=Event())
    with keeper.holding(lease) as held:
        assert not lost(held)
        # When the answer is that the lease was renewed, then it is over by now
        monkeypatch.setattr(batches, "renew", and_sleeps)
        keeper._renew([held])
        assert lost(held)

        # And the next beat that is answered in time renews it
        monkeypatch.setattr(batches, "renew", renew)
        keeper._renew([held])
        assert not lost(held)


def test_a_worker_learns_that_its_lease_was_taken(table: JobTable, lease: Lease, eventually: Eventually) -> None:
    with holder(table).holding(lease) as held:
        assert not lost(held)
        table.expire(lease)
        table.set_batch(lease.id, state="ready", generation=lease.generation + 1, lease_owner=None)
        eventually(lambda: lost(held))


def test_while_the_job_table_is_away_a_lease_runs_out_by_itself(
    table: JobTable, lease_of: Callable[..., Lease], eventually: Eventually
) -> None:
    # Given a worker that cannot reach the job table
    away = Database("postgresql+psycopg://nobody@127.0.0.1:1/none")
    keeper = Holder(away, "worker-1", 60.0, BEAT_S, Event())

    # When its lease is over by its own clock, then it knows without being told
    with keeper.holding(lease_of(0.2)) as held:
        eventually(lambda: lost(held))


def test_a_batch_that_is_back_in_the_same_process_does_not_confuse_it(
    table: JobTable, lease: Lease, eventually: Eventually
) -> None:
    # Given a thread that lost its lease, and another thread of the process at work on the batch's next generation
    keeper = holder(table)
    with keeper.holding(lease) as old:
        table.expire(lease)
        table.set_batch(lease.id, state="ready", generation=lease.generation + 1, lease_owner=None)
        (again,) = table.take()
        with keeper.holding(again) as new:
            # Then the first one learns that its lease is gone, and the second one's is kept
            eventually(lambda: lost(old))
            assert not lost(new)

    # And when the first one is done before the second, the second one's lease is still renewed
    with keeper.holding(again) as new:
        with keeper.holding(lease):
            pass
        nearly_over(table, again.id)
        eventually(lambda: seconds_left(table, again.id) > 30)
        assert not lost(new)


def test_one_failed_beat_is_not_the_last(
    table: JobTable, lease: Lease, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a heartbeat that fails once in a way nobody thought of (a pool without a free connection)
    original, failed = batches.renew, []

    def renew(*arguments: Any) -> set[tuple[int, int]]:
        if not failed:
            failed.append(True)
            raise sa.exc.TimeoutError("QueuePool limit reached")
        return original(*arguments)

    monkeypatch.setattr(batches, "renew", renew)

    # When the lease is nearly over, then a later beat renews it
    nearly_over(table, lease.id)
    with holder(table).holding(lease):
        eventually(lambda: failed and seconds_left(table, lease.id) > 30)
