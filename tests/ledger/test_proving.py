"""A verdict: every target read back, every difference repaired or named, and none without evidence."""

import pytest
from job_table import JobTable, plan_of, planned
from stages import a_job, copied, late_write, target_of, verified

from orchestrator.core.states import BatchKind, JobState, MoveState
from orchestrator.ledger.batches import LeaseLost
from orchestrator.ledger.database import Database
from orchestrator.services import acts, left_behind


def test_a_job_is_verified_when_every_target_was_read_back_and_found_equal(database: Database) -> None:
    table = copied(database)
    *first, last = table.take()
    for lease in first:
        table.check(lease)
    table.advance()
    assert (table.job.state, table.move.state) == (JobState.COPIED, MoveState.COPIED)

    table.check(last)
    table.advance()
    assert (table.job.state, table.move.state) == (JobState.VERIFIED, MoveState.VERIFIED)
    verdict = target_of(table).verdict
    assert verdict is not None
    assert (verdict["verified"], verdict["expected"], verdict["read"], verdict["listed"]) == (True, 3, 3, 3)
    assert verdict["digest"] == verdict["digest_read"]


@pytest.mark.parametrize("found", [{"digest": "1"}, {"count": 0}, {"count": 4}])
def test_a_sum_that_does_not_add_up_is_for_a_person_although_no_record_is_named(
    database: Database, found: dict[str, int]
) -> None:
    table = copied(database)
    for lease in table.take():
        table.check(lease, **(found if lease.kind is BatchKind.VERIFY and lease.seq == 1 else {}))
    table.advance()
    assert table.job.state is JobState.NEEDS_ATTENTION
    verdict = target_of(table).verdict
    assert verdict is not None and verdict["reason"] == "its records do not add up to what was written"


@pytest.mark.parametrize("kind", ["missing", "different"])
def test_a_difference_is_repaired_and_checked_again_and_then_it_is_verified(database: Database, kind: str) -> None:
    # Given a target of which one check finds a difference
    table = copied(database)
    for lease in table.take():
        table.check(lease, **({kind: 1} if lease.kind is BatchKind.VERIFY and lease.seq == 1 else {}))
    table.advance()

    # Then its batch alone is copied again
    assert (table.job.state, table.job.repairs, table.move.state) == (JobState.RUNNING, 1, MoveState.REPAIRING)
    (repair,) = table.take()
    assert (repair.kind, repair.seq) == (BatchKind.COPY, 1)
    table.copy(repair, "t-s")

    # And its target is checked anew, all of it, and verified
    table.advance(2)
    again = table.take()
    assert sorted(lease.kind for lease in again) == [BatchKind.SURVEY, BatchKind.VERIFY]
    for lease in again:
        table.check(lease)
    table.advance()
    assert table.job.state is JobState.VERIFIED
    assert table.move.written == 3


def test_after_the_last_round_of_repairs_a_person_is_asked(database: Database) -> None:
    table = copied(database, repair_rounds=1)
    for _ in range(2):
        for lease in table.take():
            table.check(lease, **({"missing": 1} if lease.kind is BatchKind.VERIFY else {}))
        table.advance()
        if table.job.state is JobState.RUNNING:
            for lease in table.take():
                table.copy(lease, "t-s")
            table.advance(2)
    assert table.job.state is JobState.NEEDS_ATTENTION
    assert table.job.reason == "1 target differs from its sources"
    table.advance(3)
    assert table.job.state is JobState.NEEDS_ATTENTION


def test_an_extra_record_is_not_proof_and_nothing_is_copied_for_it(database: Database) -> None:
    table = copied(database)
    for lease in table.take():
        table.check(lease, **({"extra": 1, "count": 4} if lease.kind is BatchKind.SURVEY else {}))
    table.advance()
    assert table.job.state is JobState.NEEDS_ATTENTION
    verdict = target_of(table).verdict
    assert verdict is not None and verdict["reason"] == "0 missing, 1 extra, 0 different"


def test_a_write_while_it_is_checked_voids_the_check(database: Database) -> None:
    # Given a target whose checks are half done when somebody writes to it
    table = copied(database)
    first, *rest = table.take()
    table.check(first)
    late_write(table)
    for lease in rest:
        table.check(lease)

    # When the last one lands, then there is no verdict: it is checked again from the start
    table.advance()
    assert (table.job.state, target_of(table).check_state) == (JobState.COPIED, "waiting")
    table.advance()
    for lease in table.take():
        table.check(lease)
    table.advance()
    assert table.job.state is JobState.VERIFIED


def test_a_late_write_voids_the_verdict(database: Database) -> None:
    table = verified(database)
    late_write(table)
    table.advance()
    assert (table.job.state, table.job.reason) == (JobState.COPIED, "a target was written to after its verdict")
    assert (table.move.state, target_of(table).verdict) == (MoveState.COPIED, None)


def test_a_check_of_an_earlier_time_cannot_speak_for_this_one(database: Database) -> None:
    # Given a check that is under way when a person asks for a new verification
    table = copied(database)
    stale, *_ = table.take()
    acts.verify(table.database, table.job_id, "ana")
    table.advance()

    # When it lands, then it counts for nothing
    with pytest.raises(LeaseLost):
        table.check(stale)
    assert target_of(table).open_checks == 2


def test_one_target_is_not_held_up_by_another(database: Database) -> None:
    # Given two moves, one of them still copying
    table = a_job(database, "s1", "s2")
    table.listed({"s1": [["a"]], "s2": [["b"]]})
    one, other = table.take()
    table.copy(one, "t-s1")

    # When the job goes on, then the target of the first is checked meanwhile
    table.advance()
    assert table.job.state is JobState.RUNNING
    for lease in table.take():
        table.check(lease)
    table.advance()
    assert table.moves["s1"].state is MoveState.VERIFIED
    table.copy(other, "t-s2")


def test_a_shared_target_is_checked_only_when_every_move_into_it_is_copied(database: Database) -> None:
    table = JobTable(database)
    table.apply(plan_of(planned("s1", "t"), planned("s2", "t")))
    table.listed({"s1": [["a"]], "s2": [["b"]]})
    one, other = table.take()
    table.copy(one, "t")
    table.advance()
    assert table.targets["t"].check_state == "waiting"
    assert table.rows(BatchKind.VERIFY) == []
    table.copy(other, "t")
    table.advance(2)
    assert table.targets["t"].check_state == "checking"
    assert len(table.rows(BatchKind.VERIFY)) == 2


def test_a_job_that_copied_nothing_is_not_verified(database: Database) -> None:
    table = a_job(database)
    table.listed({"s": []})
    table.advance(2)
    assert (table.job.state, table.job.reason) == (JobState.NEEDS_ATTENTION, "not verified: nothing was copied")


def test_accepting_the_last_parked_record_lets_the_job_go_on_by_itself(database: Database) -> None:
    # Given a job whose records are all proven but one, which is parked
    table = a_job(database)
    table.listed({"s": [["a", "b"]]})
    (lease,) = table.take()
    table.copy(lease, "t-s", wrote=["a"], parked=["b"])
    table.advance(2)
    for lease in table.take():
        table.check(lease)
    table.advance()
    assert (table.job.state, table.job.reason) == (JobState.NEEDS_ATTENTION, "1 parked record waits for a decision")

    # When a person lets it stay behind, then nobody has to say that the job may go on
    left_behind.accept_records(table.database, table.job_id, "ana", ["b"])
    table.advance(2)
    assert table.job.state is JobState.VERIFIED


def test_asking_for_a_verification_does_not_hide_a_parked_batch(database: Database) -> None:
    # Given a job that needs attention because one of its batches is parked
    table = a_job(database)
    table.listed({"s": [["a"], ["b"]]})
    written, doomed = table.take()
    table.copy(written, "t-s")
    table.park(doomed)
    table.advance()

    # When a person asks for a verification instead, then the job says again what it waits for
    acts.verify(table.database, table.job_id, "ana")
    table.advance(2)
    assert (table.job.state, table.job.reason) == (JobState.NEEDS_ATTENTION, "1 batch is parked")
    acts.retry(table.database, table.job_id, "ana", "failed")
    assert table.job.state is JobState.RUNNING
