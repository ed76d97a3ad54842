"""The accounts of a move: every listed id is in exactly one count, whatever is repeated, parked, split or accepted."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from job_table import JobTable, accounted_for, digest_of, plan_of, planned
from stages import PATIENCE_S, somebody_waits

from orchestrator.core.model import CopyOutcome, Lease
from orchestrator.core.states import BatchKind, BatchState, JobState
from orchestrator.ledger import copies, erased_ids, parked
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import Database
from orchestrator.services import acts, left_behind
from vecfleet.digests import Tally
from vecfleet.errors import Refused
from vecfleet.stores.base import Usage

FOUR = ["a", "b", "c", "d"]


@pytest.fixture
def lease(table: JobTable) -> Lease:
    """A leased copy batch of four ids."""
    table.listed({"s": [FOUR]})
    (lease,) = table.take()
    return lease


def reopen(table: JobTable, lease: Lease) -> Lease:
    """The batch is copied again; what it recorded stays until it is."""
    with table.begin() as connection:
        assert copies.reopen(connection, table.job_id, [lease.id]) == 1
    table.put(state=JobState.RUNNING)
    (again,) = table.take()
    assert (again.id, again.attempts) == (lease.id, 1)
    return again


def split(table: JobTable, lease: Lease) -> list[Lease]:
    with table.begin() as connection:
        copies.split(connection, lease, table.ids(lease), Usage(requests=1), 1)
    return table.take()


def test_a_batch_and_its_counters_are_one_transaction(table: JobTable, lease: Lease) -> None:
    # Given a worker that dies in the very moment of recording
    class PowerCut(Exception):
        pass

    with pytest.raises(PowerCut), table.begin() as connection:
        original = copies.moves.settle_if_done
        with pytest.MonkeyPatch.context() as patch:

            def cut(connection: sa.Connection, move_id: int) -> None:
                original(connection, move_id)
                raise PowerCut

            patch.setattr(copies.moves, "settle_if_done", cut)
            copies.finish_copy(connection, lease, CopyOutcome(written=4), Usage(), 1)

    # Then neither the batch nor the move knows anything of it
    assert table.row(lease.id).state == BatchState.LEASED
    assert (table.move.written, table.move.open_batches, table.move.state) == (0, 1, "copying")


def test_what_became_of_each_id_is_counted(table: JobTable, lease: Lease) -> None:
    table.copy(lease, wrote=["a"], parked=["b"], gone=1, left_behind=1)
    move = table.move
    assert (move.written, move.parked, move.gone, move.left_behind) == (1, 1, 1, 1)
    assert accounted_for(move)
    assert table.parked_ids() == ["b"]


def test_copying_again_replaces_what_was_recorded_and_adds_nothing(table: JobTable, lease: Lease) -> None:
    # Given a batch that wrote three records and parked one
    table.copy(lease, wrote=["a", "b", "c"], parked=["d"])

    # When it is copied again and everything is written
    table.copy(reopen(table, lease))

    # Then its counts, its tally and its parked records are those of the second time
    expected = table.expected("t")
    assert (table.move.written, table.move.parked) == (4, 0)
    assert expected is not None
    assert (expected.count, expected.digest) == (4, digest_of(FOUR))
    assert expected.ids_digest == Tally.of_ids(FOUR).digest
    assert table.parked_ids() == []
    assert accounted_for(table.move)


def test_while_a_batch_is_copied_again_its_first_account_stands(table: JobTable, lease: Lease) -> None:
    table.copy(lease)
    reopen(table, lease)
    assert (table.move.written, table.move.open_batches, table.move.state) == (4, 1, "copying")
    expected = table.expected("t")
    assert expected is not None and expected.count == 4


def test_a_batch_copied_again_into_other_namespaces_takes_its_first_tally_back(table: JobTable, lease: Lease) -> None:
    table.copy(lease, "t")
    table.copy(reopen(table, lease), "elsewhere")
    assert table.expected("t") is None
    elsewhere = table.expected("elsewhere")
    assert elsewhere is not None and elsewhere.count == 4


def test_a_parked_batch_takes_its_ids_along(table: JobTable, lease: Lease) -> None:
    table.park(lease)
    assert (table.move.parked, table.move.state) == (4, "parked")
    assert accounted_for(table.move)
    assert table.row(lease.id).error_text == "no retry helps"


def test_a_batch_that_is_parked_the_second_time_counts_as_before_once_it_is_retried(
    table: JobTable, lease: Lease
) -> None:
    table.copy(lease, wrote=["a", "b", "c"], parked=["d"])

    # While it stands parked all of its ids do, and what the target holds of it is still known
    table.park(reopen(table, lease))
    assert (table.move.written, table.move.parked) == (0, 4)
    expected = table.expected("t")
    assert expected is not None and expected.count == 3
    assert accounted_for(table.move)

    # Retried it is a batch that was copied once, until it finishes again
    again = reopen(table, lease)
    assert (table.move.written, table.move.parked) == (3, 1)
    table.copy(again, wrote=["a", "b", "c", "d"])
    assert (table.move.written, table.move.parked) == (4, 0)
    assert accounted_for(table.move)


def test_of_a_batch_that_is_parked_the_second_time_an_erased_id_leaves_both_counts(
    table: JobTable, lease: Lease
) -> None:
    table.copy(lease, wrote=["a", "b", "c"], parked=["d"])
    table.park(reopen(table, lease))

    with table.begin() as connection:
        erased_ids.remove_ids(connection, lease.id, {"a": None})
    assert (table.move.written, table.move.parked, table.move.erased) == (0, 3, 1)
    assert accounted_for(table.move)

    reopen(table, lease)
    assert (table.move.written, table.move.parked, table.move.erased) == (2, 1, 1)


def test_accepting_a_batch_that_is_parked_the_second_time_leaves_all_of_it_behind(
    table: JobTable, lease: Lease
) -> None:
    table.copy(lease, wrote=["a", "b", "c"], parked=["d"])
    table.park(reopen(table, lease))

    left_behind.accept_records(table.database, table.job_id, "ana", ["d"])
    assert (table.move.written, table.move.parked, table.move.left_behind) == (0, 3, 1)
    left_behind.accept_batches(table.database, table.job_id, "ana", [lease.id], confirmed=4)
    assert (table.move.written, table.move.parked, table.move.left_behind) == (0, 0, 4)
    assert table.expected("t") is None
    assert accounted_for(table.move)


def test_a_retry_runs_the_parked_batches_and_only_those(table: JobTable) -> None:
    # Given three batches: one written, one parked, one with a parked record
    table.listed({"s": [["a", "b"], ["c", "d"], ["e", "f"]]})
    written, doomed, poisoned = table.take()
    table.copy(written)
    table.park(doomed)
    table.copy(poisoned, wrote=["e"], parked=["f"])
    table.advance()
    assert table.job.state is JobState.NEEDS_ATTENTION

    # When a person retries what failed
    assert acts.retry(table.database, table.job_id, "ana", "failed") == 1

    # Then the parked batch runs again, from its first attempt, and nothing else does
    assert table.job.state is JobState.RUNNING
    (again,) = table.take()
    assert (again.id, again.attempts) == (doomed.id, 1)
    table.copy(again)
    assert (table.move.written, table.move.parked) == (5, 1)
    assert accounted_for(table.move)

    # And a retry of parked records copies their batch again
    table.advance()
    assert acts.retry(table.database, table.job_id, "ana", "parked") == 1
    (again,) = table.take()
    assert again.id == poisoned.id


def test_a_job_goes_on_at_once_when_the_decision_that_it_waited_for_is_made(table: JobTable) -> None:
    # Given a job that stopped at a parked batch
    table.listed({"s": [["a", "b"], ["c", "d"]]})
    written, doomed = table.take()
    table.copy(written)
    table.park(doomed)
    table.advance()
    assert table.job.state is JobState.NEEDS_ATTENTION

    # When a person leaves its records behind
    left_behind.accept_batches(table.database, table.job_id, "ana", [doomed.id], confirmed=2)

    # Then who watches right after that does not see it at rest
    assert table.job.state is JobState.RUNNING


def test_a_retry_without_anything_to_retry_is_refused(table: JobTable, lease: Lease) -> None:
    table.copy(lease)
    table.advance()
    nothing = {"failed": "failed batches", "parked": "parked records", "all": "failed batches or parked records"}
    for what, said in nothing.items():
        with pytest.raises(Refused, match=f"has no {said} to retry"):
            acts.retry(table.database, table.job_id, "ana", what)


def test_a_retry_that_fails_again_counts_once(table: JobTable, lease: Lease) -> None:
    table.park(lease)
    for _ in range(2):
        table.advance()
        acts.retry(table.database, table.job_id, "ana", "failed")
        assert table.move.parked == 0
        (lease,) = table.take()
        table.park(lease)
    assert table.move.parked == 4
    assert accounted_for(table.move)


def test_a_batch_that_is_too_large_is_halved(table: JobTable, lease: Lease) -> None:
    halves = split(table, lease)

    assert [table.ids(half) for half in halves] == [["a", "b"], ["c", "d"]]
    assert table.row(lease.id).state == BatchState.SPLIT
    assert (table.move.listed, table.move.batches, table.move.open_batches) == (4, 3, 2)
    for half in halves:
        table.copy(half)
    assert (table.move.state, table.move.written) == ("copied", 4)
    assert accounted_for(table.move)


def test_an_id_belongs_to_one_unsplit_batch_however_often_it_is_halved(table: JobTable, lease: Lease) -> None:
    waiting = split(table, lease)
    while waiting:
        half = waiting.pop()
        if half.size > 1:
            waiting += split(table, half)
        else:
            table.copy(half)
    done = [row for row in table.rows(BatchKind.COPY) if row.state == BatchState.DONE]
    assert sorted(row.first_id for row in done) == FOUR
    assert len({row.seq for row in table.rows(BatchKind.COPY)}) == 7
    assert accounted_for(table.move)


def test_a_repaired_batch_that_has_become_too_large_is_not_counted_twice(table: JobTable, lease: Lease) -> None:
    # Given a batch that was written once, with a parked record
    table.copy(lease, wrote=["a", "b", "c"], parked=["d"])

    # When its records have grown: the repair finds it too large and halves it
    halves = split(table, reopen(table, lease))

    # Then the whole's account is taken back, and the halves' stand in its place
    assert (table.move.written, table.move.parked) == (0, 0)
    assert table.expected("t") is None
    assert table.parked_ids() == []
    for half in halves:
        table.copy(half)
    expected = table.expected("t")
    assert expected is not None and expected.count == 4
    assert table.move.written == 4
    assert accounted_for(table.move)


def test_halves_know_where_the_whole_may_have_written(table: JobTable, lease: Lease) -> None:
    """Rolling back looks there, even if the halves never run."""
    target = table.target(lease, "t")
    table.requeue(lease)
    (again,) = table.take()
    assert [half.targets for half in split(table, again)] == [(target.id,)] * 2


def test_accepted_records_are_left_behind_and_not_parked(table: JobTable, lease: Lease) -> None:
    # Given two parked records
    table.copy(lease, wrote=["a", "b"], parked=["c", "d"])

    # When a person accepts one of them
    assert left_behind.accept_records(table.database, table.job_id, "ana", ["c"]) == 1

    # Then one is undecided, and the accounts hold
    with table.begin() as connection:
        assert parked.undecided(connection, table.job_id) == 1
    assert (table.move.parked, table.move.left_behind) == (1, 1)
    assert accounted_for(table.move)

    # And accepting it twice is refused; accepting all takes the other
    with pytest.raises(Refused):
        left_behind.accept_records(table.database, table.job_id, "ana", ["c"])
    assert left_behind.accept_records(table.database, table.job_id, "ana", None) == 1
    assert (table.move.parked, table.move.left_behind) == (0, 2)


def test_a_batch_with_accepted_records_that_is_copied_again_is_counted_once(table: JobTable, lease: Lease) -> None:
    table.copy(lease, wrote=["a", "b"], parked=["c", "d"])
    left_behind.accept_records(table.database, table.job_id, "ana", None)
    table.copy(reopen(table, lease))
    assert (table.move.written, table.move.parked, table.move.left_behind) == (4, 0, 0)
    assert accounted_for(table.move)


def test_accepting_while_the_batch_is_being_recorded_keeps_the_accounts(table: JobTable, lease: Lease) -> None:
    # Given a batch with a parked record that is being retried
    table.copy(lease, wrote=["a", "b", "c"], parked=["d"])
    again = reopen(table, lease)

    # When a person accepts the record in the moment in which the worker records that it is written now
    def accept() -> None:
        left_behind.accept_records(table.database, table.job_id, "ana", ["d"])

    with ThreadPoolExecutor(1) as pool:
        with table.begin() as connection:
            copies.finish_copy(connection, again, CopyOutcome(written=4), Usage(), 1)
            accepting = pool.submit(accept)
            somebody_waits(table)
        with pytest.raises(Refused):
            accepting.result(PATIENCE_S)

    # Then it counts as written, once
    assert (table.move.written, table.move.parked, table.move.left_behind) == (4, 0, 0)
    assert accounted_for(table.move)


def test_the_move_is_copied_only_when_its_last_batch_has_landed_and_it_is_listed_to_the_end(table: JobTable) -> None:
    # Given a listing in the midst of its pages, with its first batch copied
    table.start()
    (listing,) = table.take()
    table.list_ids(listing, ["a"], token="next", complete=False)
    (first,) = table.take()
    table.copy(first)
    assert table.move.state == "listing"

    # When the last page comes, then the batch of it is still to land
    table.list_ids(listing, ["b"])
    assert table.move.state == "copying"
    (second,) = table.take()
    table.copy(second)
    assert table.move.state == "copied"


def test_an_empty_namespace_is_copied_at_once(table: JobTable) -> None:
    table.listed({"s": []})
    assert (table.move.state, table.move.listed) == ("copied", 0)


def test_counters_stay_true_when_many_workers_record_at_once(database: Database) -> None:
    # Given twenty batches of one namespace, all leased
    table = JobTable(database)
    table.apply(plan_of(planned("s", "t")))
    table.listed({"s": [[f"{number}-a", f"{number}-b"] for number in range(20)]})
    leases = table.take()
    for lease in leases:
        table.target(lease, "t")

    # When four workers record them, some parked, some written
    def record(lease: Lease) -> None:
        if lease.seq % 3:
            table.copy(lease)
        else:
            table.park(lease)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(record, leases))

    # Then the counters are the sum over the batches
    assert (table.move.written, table.move.parked, table.move.open_batches) == (28, 12, 0)
    with table.begin() as connection:
        assert connection.execute(sa.select(sa.func.sum(t.batch_tally.c.records))).scalar_one() == 28
