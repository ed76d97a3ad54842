"""An answered deletion is waited for on its reads: whoever looks next would see records that are gone, and take them
for records that stayed.
"""

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from job_table import JobTable, plan_of, planned

from orchestrator.core.freshness import Waits
from orchestrator.core.model import Deletion, Lease, Wakeup
from orchestrator.core.states import BatchKind, BatchState, JobState
from orchestrator.ledger import batches, cleanup
from orchestrator.ledger.database import Database
from orchestrator.services import acts
from vecfleet.stores.base import Usage

LAG_S = 3_600.0  # so long that it is never over while a test runs


@pytest.fixture
def table(database: Database) -> JobTable:
    """A job whose reads lag at its source, and whose deletion of it is due."""
    table = JobTable(database)
    table.apply(plan_of(planned("s", "t"), cut_over="none"), waits=Waits(LAG_S, 0.0, 0.0))
    table.verified()
    acts.clean_up(table.database, table.job_id, "ana", by_ids=False)
    [row] = table.rows(BatchKind.RECHECK)
    table.set_batch(row.id, run_after=None)
    (recheck,) = table.take()
    table.finish(recheck, proven=2)
    table.advance()
    return table


def taken(table: JobTable) -> Lease:
    """The lease of the deletion, which put its intent on record."""
    (clear,) = table.take()
    assert clear.kind is BatchKind.CLEAR
    with table.begin() as connection:
        cleanup.intend(connection, clear, 0.0)
    return clear


def given_back(table: JobTable, lease: Lease, deletion: Deletion, lands_within_s: float = 0.0) -> Any:
    """The batch goes back after this became of its deletion. Returns its row."""
    with table.begin() as connection:
        batches.requeue(
            connection,
            lease,
            after_seconds=0.0,
            error_class="Waiting",
            error_text="s is deleted but still lists ids",
            usage=Usage(),
            busy_ms=0,
            spend_attempt=False,
            deletion=deletion,
            lands_within_s=lands_within_s,
        )
    return table.row(lease.id)


def test_a_reading_that_follows_an_answered_deletion_begins_when_reads_show_it(table: JobTable) -> None:
    # Given a source whose deletion was answered, and reads that do not show it yet
    row = given_back(table, taken(table), Deletion.ANSWERED)
    assert row.answered_at is not None and row.lands_by is None

    # When the job is paused and resumed, which has everything read again
    acts.pause(table.database, table.job_id, "ana")
    table.advance()
    acts.resume(table.database, table.job_id, "ana")
    assert table.job.state is JobState.CLEANING

    # Then nothing is read before reads show the deletion, and whoever reads then knows of it
    [recheck] = table.rows(BatchKind.RECHECK)
    assert recheck.lands_by == row.answered_at + timedelta(seconds=LAG_S)
    assert recheck.intent_at is not None
    assert table.dispatch() == []


def test_a_deletion_by_ids_that_follows_an_answered_one_begins_when_reads_show_it(table: JobTable) -> None:
    # Given a source whose deletion was answered, and a worker that finds it listing too little some time later
    row = given_back(table, taken(table), Deletion.ANSWERED)
    (again,) = table.take()

    # When it is to be deleted by ids instead
    with table.begin() as connection:
        cleanup.prove_otherwise(connection, again, "s lists 1 of 2 ids", by_ids=True, usage=Usage(), busy_ms=0)

    # Then no batch of it is due before reads show the first deletion
    [remove] = table.rows(BatchKind.REMOVE)
    assert remove.lands_by == row.answered_at + timedelta(seconds=LAG_S)
    assert remove.intent_at is not None
    assert table.dispatch() == []


@pytest.mark.parametrize("by_ids", [False, True])
def test_what_follows_a_deletion_without_an_answer_begins_when_it_can_no_longer_land(
    table: JobTable, by_ids: bool
) -> None:
    # Given a deletion that may land for an hour
    clear = taken(table)
    row = given_back(table, clear, Deletion.UNANSWERED, lands_within_s=3_600.0)
    table.set_batch(clear.id, state=BatchState.DISPATCHED)
    again = table.lease(Wakeup(clear.id, row.generation, clear.kind, table.job_id, "s", clear.seq, 1))
    assert again is not None

    # When a worker has it read again, or deleted by ids
    with table.begin() as connection:
        cleanup.prove_otherwise(connection, again, "its proof is old", by_ids=by_ids, usage=Usage(), busy_ms=0)

    # Then that waits as long
    [following] = table.rows(BatchKind.REMOVE if by_ids else BatchKind.RECHECK)
    assert following.lands_by == row.lands_by
    assert table.dispatch() == []


def test_a_deletion_without_an_answer_may_land_for_so_long_after_the_call_not_after_its_intent(
    table: JobTable,
) -> None:
    # Given an intent that is older than a request may take, of a call that began just now and was not answered
    clear = taken(table)
    table.set_batch(clear.id, lands_by=sa.func.clock_timestamp() - timedelta(minutes=5))

    # When the batch goes back, then nobody takes it before the call can no longer land
    row = given_back(table, clear, Deletion.UNANSWERED, lands_within_s=3_600.0)
    assert row.lands_by > row.intent_at + timedelta(minutes=59)
    assert table.dispatch() == []


def test_a_wait_for_a_deletion_is_never_shortened(table: JobTable) -> None:
    clear = taken(table)
    table.set_batch(clear.id, lands_by=sa.func.clock_timestamp() + timedelta(hours=2))
    before = table.row(clear.id).lands_by
    assert given_back(table, clear, Deletion.UNANSWERED, lands_within_s=1.0).lands_by == before
