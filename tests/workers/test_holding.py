"""Leases in the process that holds them: kept alive while it works, given up when they cannot be."""

from collections.abc import Callable, Iterator
from threading import Event, Thread
from typing import Any

import pytest
import sqlalchemy as sa
from job_table import JobTable, plan_of, planned

from orchestrator.ledger import batches
from orchestrator.ledger.batches import Fenced
from orchestrator.ledger.database import Database
from orchestrator.model import Lease
from workers.holding import Held, Holder, Leaving

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
    except Fenced:
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
    with pytest.raises(Fenced):
        held.require(601)
    held.lose()
    with pytest.raises(Fenced):
        held.require(0)


def test_a_process_that_leaves_waits_for_nothing_and_begins_no_request(lease_of: Callable[..., Lease]) -> None:
    # Given a wait that would be long
    leaving = Event()
    held = Held(lease_of(600), leaving)
    waiting = Thread(target=held.wait, args=(600.0,), daemon=True)
    waiting.start()
    # When the process is to leave, then the wait is over
    leaving.set()
    waiting.join(timeout=60)
    assert not waiting.is_alive()
    # And no request begins
    with pytest.raises(Leaving):
        held.require(0)


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
