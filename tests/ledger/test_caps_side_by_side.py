"""A cap on what is removed from one source holds for all its batches together, also while they work side by side."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from job_table import JobTable
from stages import PATIENCE_S, somebody_waits

from orchestrator.core.model import Lease
from orchestrator.core.states import BatchKind
from orchestrator.ledger import cleanup, erased_ids
from orchestrator.ledger.batches import LeaseLost
from orchestrator.ledger.database import Database

COPIES = (BatchKind.COPY,)


@pytest.fixture
def table(database: Database) -> JobTable:
    table = JobTable(database)
    table.apply(table.plan)
    table.listed({"s": [["a"], ["b"], ["c"]]})
    return table


def test_a_batch_that_counts_while_another_one_does_sees_what_that_one_counted(table: JobTable) -> None:
    first, second, third = table.take()

    def count(lease: Lease) -> int:
        with table.begin() as connection:
            return cleanup.add_up(connection, lease, COPIES, "removed", 6)

    with ThreadPoolExecutor(1) as pool:
        # Given a batch that has counted six and has not committed it
        with table.begin() as connection:
            assert cleanup.add_up(connection, first, COPIES, "removed", 6) == 6
            # When a second one counts its six
            answer = pool.submit(count, second)
            somebody_waits(table)
        # Then it waits, and sees both
        assert answer.result(PATIENCE_S) == 12

    # And what a third one counted and took back counts for nobody; a repeated count replaces its own
    with pytest.raises(InterruptedError), table.begin() as connection:
        cleanup.add_up(connection, third, COPIES, "removed", 9)
        raise InterruptedError
    assert count(first) == 12


def test_a_batch_of_which_ids_were_erased_before_it_was_worked_counts_as_any_other(table: JobTable) -> None:
    # Given a batch that lost an id to an erasure while it was leased
    lease, *_ = table.take()
    with table.begin() as connection:
        erased_ids.remove_ids(connection, lease.id, {"a": None})

    # When it is leased once more, and notes what it finds
    [again] = table.take()
    with table.begin() as connection:
        assert cleanup.add_up(connection, again, COPIES, "lacking", 2) == 2

    # Then that stands beside whatever it is done with
    assert next(row.found for row in table.rows(BatchKind.COPY) if row.id == lease.id) == {"lacking": 2}


def test_who_has_lost_its_lease_counts_nothing(table: JobTable) -> None:
    lease, *_ = table.take()
    table.expire(lease)
    table.reap()
    with pytest.raises(LeaseLost), table.begin() as connection:
        cleanup.add_up(connection, lease, COPIES, "removed", 6)
