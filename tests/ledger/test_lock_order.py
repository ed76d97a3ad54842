"""The dispatcher and the workers take their locks in one order: the job's row, then batches, then targets and moves."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from job_table import INDEX, JobTable
from stages import PATIENCE_S, a_job, somebody_waits, target_of

from orchestrator.core.model import Lease
from orchestrator.core.redaction import Traces
from orchestrator.core.states import BatchKind, BatchState, JobState
from orchestrator.ledger import anonymise, batches, cleanup, jobs, moves
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import Database
from orchestrator.services import acts, late_writes
from vecfleet.names import Tenant
from vecfleet.stores.base import Usage

Lock = Callable[[sa.Connection, JobTable, Lease], object]
PLACES = {(INDEX.name, "s"), (INDEX.name, "t-s")}


def test_a_late_write_is_noted_while_the_dispatcher_pronounces_a_verdict(database: Database) -> None:
    # Given a worker that woke up without its lease
    table = a_job(database)
    table.listed({"s": [["a"]]})
    (lease,) = table.take()
    table.copy(lease, "t-s")
    target = target_of(table)

    # When it notes its late write in the middle of the dispatcher's transaction on the same target
    with ThreadPoolExecutor(1) as pool:
        with table.by_hand() as connection:
            jobs.get(connection, table.job_id, lock=True)
            noted = pool.submit(late_writes.note_late_write, table.database, lease, [target.id])
            somebody_waits(table)
            connection.execute(sa.update(t.target).where(t.target.c.id == target.id).values(check_state="verified"))
        noted.result(PATIENCE_S)

    # Then neither is the other's deadlock, and the verdict is void
    assert target_of(table).sequence == target.sequence + 1


def test_a_pause_while_the_dispatcher_tends_the_job_leaves_no_wake_up_on_its_way(database: Database) -> None:
    # Given a dispatcher that has read a running job, and a person who pauses it before the dispatcher sends wake-ups
    table = a_job(database)
    table.listed({"s": [["a"], ["b"]]})
    with table.begin() as dispatcher:
        assert jobs.get(dispatcher, table.job_id).state is JobState.RUNNING
        acts.pause(table.database, table.job_id, "ana")
        # When it goes on
        sent, in_flight = batches.dispatch(dispatcher, table.job_id)
    # Then it sends nothing
    assert (sent, in_flight) == ([], 0)


def test_a_pause_after_the_dispatcher_sent_wake_ups_recalls_them_though_they_were_not_committed_yet(
    database: Database,
) -> None:
    # Given a dispatcher in the middle of the transaction that sends wake-ups
    table = a_job(database)
    table.listed({"s": [["a"], ["b"]]})
    with ThreadPoolExecutor(1) as pool:
        with table.begin() as dispatcher:
            sent, _ = batches.dispatch(dispatcher, table.job_id)
            # When a person pauses the job
            paused = pool.submit(acts.pause, table.database, table.job_id, "ana")
            somebody_waits(table, unless=paused)
        paused.result(PATIENCE_S)
    # Then the pause waits for it and takes all of them back
    assert len(sent) == 2
    assert [table.lease(wakeup) for wakeup in sent] == [None, None]
    assert {row.state for row in table.rows(BatchKind.COPY)} == {BatchState.READY}


def test_a_lease_that_ran_out_is_taken_back_while_its_worker_is_about_to_write(database: Database) -> None:
    # Given a worker whose lease ran out, right before it raises the sequence of the target it writes to
    table = a_job(database)
    table.listed({"s": [["a"]]})
    (lease,) = table.take()
    table.target(lease, "t-s")
    target = target_of(table)
    table.expire(lease)

    # When the dispatcher takes the lease back in the middle of that
    with ThreadPoolExecutor(1) as pool:
        with table.begin() as connection:
            batches.require(connection, lease)
            taken_back = pool.submit(table.reap)
            somebody_waits(table)
            moves.raise_sequence(connection, [target.id])
        taken_back.result(PATIENCE_S)

    # Then neither is the other's deadlock, and both are on record
    now = target_of(table)
    assert now.sequence == target.sequence + 1 and now.lands_by is not None
    assert table.row(lease.id).state == BatchState.READY


def test_a_worker_that_is_done_before_its_lease_is_taken_back_was_in_time(database: Database) -> None:
    # Given a worker whose lease ran out, in the middle of recording its batch
    table = a_job(database)
    table.listed({"s": [["a"]]})
    (lease,) = table.take()
    table.expire(lease)

    # When the dispatcher wants to take the lease back just then
    with ThreadPoolExecutor(1) as pool:
        with table.begin() as connection:
            batches.done(connection, lease, {}, Usage(), 1)
            taken_back = pool.submit(table.reap)
            somebody_waits(table)
        taken_back.result(PATIENCE_S)

    # Then the batch stays done
    assert table.row(lease.id).state == BatchState.DONE


HELD: dict[str, Lock] = {
    "the dispatcher, which decides the job's next step": lambda connection, table, lease: jobs.get(
        connection, table.job_id, lock=True
    ),
    "a worker, which records its batch": lambda connection, table, lease: batches.require(connection, lease),
}


@pytest.mark.parametrize("lock", HELD.values(), ids=HELD)
def test_a_tenant_is_forgotten_while_somebody_is_in_the_middle_of_its_moves(database: Database, lock: Lock) -> None:
    # Given a tenant's move, one batch of which is copied and another under way
    table = a_job(database)
    table.listed({"s": [["a"], ["b"]]})
    done, under_way = table.take()
    table.copy(done, "t-s")

    def forget() -> None:
        with table.begin() as connection:
            anonymise.forget(connection, Traces(Tenant("ana", "s"), PLACES, 1), [])

    # When the tenant is forgotten in the middle of a transaction on the same move
    with ThreadPoolExecutor(1) as pool:
        with table.begin() as connection:
            lock(connection, table, under_way)
            forgotten = pool.submit(forget)
            somebody_waits(table)
            connection.execute(sa.update(t.move).where(t.move.c.job_id == table.job_id).values(reason="decided"))
        forgotten.result(PATIENCE_S)

    # Then neither is the other's deadlock, and nothing names the tenant any more
    assert [move.source for move in table.moves.values()] == ["erased-1-1"]
    assert table.move.reason == "decided"


def test_deletions_of_one_source_that_end_at_once_are_all_counted(database: Database) -> None:
    """Each adds to the move's row in the statement that ends its batch, and waits there for the one before."""
    # Given two batches of a source whose records were deleted by their ids
    table = a_job(database, cut_over="none")
    table.verified({"s": [["a"], ["b"]]})
    acts.clean_up(table.database, table.job_id, "ana", by_ids=True)
    first, second = table.take()
    with ThreadPoolExecutor(1) as pool:
        with table.begin() as connection:
            cleanup.finish(connection, first, {"deleted": 1}, Usage(), 1)
            # When the second ends before the end of the first is committed
            ended = pool.submit(table.finish, second, deleted=1)
            somebody_waits(table, unless=ended)
        ended.result(PATIENCE_S)
    # Then both count
    assert table.move.deleted == 2
    assert {row.state for row in table.rows(BatchKind.REMOVE)} == {BatchState.DONE}
