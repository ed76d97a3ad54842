"""Rolling back: everything is compared before anything is removed, and what changed is a person's to decide."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from job_table import JobTable, plan_of, planned
from stages import a_job, cleaning, copied, rolling_back, target_of, verified

from orchestrator.core.freshness import Waits
from orchestrator.core.progress import progress
from orchestrator.core.states import BatchKind, JobState, MoveState
from orchestrator.ledger import batches, checks, cleanup, differences, rollback, status
from orchestrator.ledger.batches import LeaseLost
from orchestrator.ledger.database import Database
from orchestrator.services import acts, refusals
from vecfleet.errors import Refused
from vecfleet.stores.base import Usage

SHOWN_AT = datetime(2100, 1, 1, tzinfo=UTC)


def test_a_roll_back_compares_everything_before_it_removes_anything(database: Database) -> None:
    table = rolling_back(database)
    (compare,) = table.take()
    assert compare.kind is BatchKind.COMPARE
    table.advance(2)
    assert table.rows(BatchKind.UNDO) == []
    assert seen(table) == ("comparing what was written", 0, 3)
    table.finish(compare, changed=0)
    table.advance()
    (undo,) = table.take()
    assert undo.kind is BatchKind.UNDO
    assert seen(table) == ("removing it", 1, 3)
    table.finish(undo, removed=2)
    table.advance()
    (drop,) = table.take()
    assert drop.kind is BatchKind.DROP
    # It waits for its last look: that is one sentence for all such namespaces, and none for each
    with table.begin() as connection:
        again = {"after_seconds": 9.0, "error_class": "Waiting", "error_text": "t lists no ids, as it should"}
        batches.requeue(connection, drop, **again, usage=Usage(), busy_ms=1, spend_attempt=False)
    assert seen(table) == ("dropping empty namespaces", 2, 3)
    with table.begin() as connection:
        [wait] = [
            one for one in progress(status.reading(connection, table.job_id, namespaces=0)).waits if "look" in one
        ]
    assert wait.startswith("1 namespace looks empty and is dropped after one more look")
    table.set_batch(drop.id, run_after=None)
    (drop,) = table.take()
    table.finish(drop, dropped=True)
    table.advance()
    assert (table.job.state, table.move.state) == (JobState.ROLLED_BACK, MoveState.ROLLED_BACK)


def test_what_an_ended_job_left_is_compared_once_reads_show_what_was_written_there_since(database: Database) -> None:
    # Given a copy that was finished: applications write to either side
    table = JobTable(database)
    table.apply(plan_of(planned("s", "t"), cut_over="none"), waits=Waits(source_lag_s=40.0, target_lag_s=50.0))
    table.verified()
    acts.finish(database, table.job_id, "ana")
    for changed in (None, "keep"):
        # When a person takes it back
        with table.begin() as connection:
            asked_at = refusals.now(connection)
        acts.roll_back(database, table.job_id, "ana", changed)
        # Then nothing is compared before reads of both sides show the last of that, and the job says so
        assert table.take() == []
        with table.begin() as connection:
            waits = progress(status.reading(connection, table.job_id, namespaces=0)).waits
        assert any("nothing is taken back before reads show what was written last" in wait for wait in waits), waits
        (compare,) = table.rows(BatchKind.COMPARE)
        assert compare.run_after >= asked_at + timedelta(seconds=50)
        table.set_batch(compare.id, run_after=None)
        (lease,) = table.take()
        table.finish(lease, changed=1)
        table.advance(3)
        # And once more where it found something that somebody changed


def seen(table: JobTable) -> tuple[str, int, int]:
    with table.begin() as connection:
        found = progress(status.reading(connection, table.job_id, namespaces=0))
    return found.step, found.done, found.total


def test_changed_records_stop_a_roll_back_until_a_person_says_what_becomes_of_them(database: Database) -> None:
    table = rolling_back(database)
    (compare,) = table.take()
    with table.begin() as connection:
        rollback.note_changed(connection, compare, {target_of(table).id: ["s-1"]})
    table.finish(compare, changed=1)
    table.advance(3)
    assert table.job.state is JobState.NEEDS_ATTENTION
    assert table.job.reason == "refused: 1 record at the targets is no longer what the job wrote"
    assert table.rows(BatchKind.UNDO) == []

    acts.roll_back(table.database, table.job_id, "ana", "keep")
    (compare,) = table.take()
    table.finish(compare, changed=1)
    table.advance()
    assert [lease.kind for lease in table.take()] == [BatchKind.UNDO]


def test_nothing_is_rolled_back_while_readers_are_on_the_new_side(database: Database) -> None:
    table = verified(database)
    acts.cut_over(table.database, table.job_id, "ana", 5)
    with pytest.raises(Refused, match="readers are cut over at 5 %"):
        acts.roll_back(table.database, table.job_id, "ana", None)
    acts.reverse(table.database, table.job_id, "ana")
    acts.roll_back(table.database, table.job_id, "ana", None)
    assert table.job.state is JobState.ROLLING_BACK


def test_a_job_that_is_rolled_back_is_not_rolled_back_again(database: Database) -> None:
    # Given a job that was rolled back, and let go of its namespaces
    table = rolling_back(database)
    for found in ({"changed": 0}, {"removed": 2}, {"dropped": True}):
        (lease,) = table.take()
        table.finish(lease, **found)
        table.advance()
    assert table.job.state is JobState.ROLLED_BACK
    # When somebody rolls it back once more, then it is refused: the records there now may be another job's
    with pytest.raises(Refused, match="job 1 is rolled back"):
        acts.roll_back(table.database, table.job_id, "ana", None)
    assert table.job.state is JobState.ROLLED_BACK


def test_an_undo_never_races_a_copy(database: Database) -> None:
    # Given a job that is being paused while a worker still copies
    table = a_job(database)
    table.listed({"s": [["a"]]})
    (copying,) = table.take()
    acts.pause(table.database, table.job_id, "ana")

    # When somebody rolls it back, then it is refused, pausing and paused: what is in flight must land first
    with pytest.raises(Refused, match="job 1 is pausing"):
        acts.roll_back(table.database, table.job_id, "ana", None)
    table.copy(copying, "t-s")
    table.advance()
    with pytest.raises(Refused, match="job 1 is paused"):
        acts.roll_back(table.database, table.job_id, "ana", None)

    # And cancelled it may
    acts.cancel(table.database, table.job_id, "ana")
    table.advance()
    acts.roll_back(table.database, table.job_id, "ana", None)
    assert [lease.kind for lease in table.take()] == [BatchKind.COMPARE]


def test_what_an_unfinished_batch_may_have_written_is_compared_too(database: Database) -> None:
    # Given a batch that noted its target and died
    table = a_job(database)
    table.listed({"s": [["a"], ["b"]]})
    died, untouched = table.take()
    table.target(died, "t-s")
    for lease in (died, untouched):
        table.requeue(lease)
    acts.cancel(table.database, table.job_id, "ana")
    table.advance()

    # When the job is rolled back, then that batch is compared; the one that never wrote is not
    acts.roll_back(table.database, table.job_id, "ana", None)
    assert [lease.copy_id for lease in table.take()] == [died.id]


def test_removing_from_a_target_raises_its_write_sequence_before_the_call(database: Database) -> None:
    table = rolling_back(database)
    (compare,) = table.take()
    table.finish(compare, changed=0)
    table.advance()
    (undo,) = table.take()
    before = target_of(table).sequence
    with table.begin() as connection:
        cleanup.intend(connection, undo, 0, [target_of(table).id])
    assert target_of(table).sequence == before + 1
    assert table.row(undo.id).intent_at is not None


def test_what_is_taken_back_begins_once_the_drop_of_its_target_can_no_longer_land(database: Database) -> None:
    # Given a roll back that asked to drop its target and heard nothing, and a late write to that target
    table = rolling_back(database)
    for _ in range(2):
        (lease,) = table.take()
        table.finish(lease, changed=0) if lease.kind is BatchKind.COMPARE else table.finish(lease, removed=1)
        table.advance()
    (drop,) = table.take()
    assert drop.kind is BatchKind.DROP
    with table.begin() as connection:
        cleanup.intend(connection, drop, 3_600, [target_of(table).id])
    table.expire(drop)
    table.reap()
    lands_by = table.row(drop.id).lands_by
    (copied,) = table.rows(BatchKind.COPY)

    # When the write is taken back
    with table.begin() as connection:
        late = replace(drop, id=copied.id, move_id=copied.move_id)
        rollback.take_back(connection, late, [target_of(table).id], SHOWN_AT)

    # Then nobody undoes it before then, nor before reads show what applications wrote there
    undo = table.rows(BatchKind.UNDO)[-1]
    assert (undo.lands_by, undo.run_after) == (lands_by, SHOWN_AT) and table.take() == []


def test_an_undo_that_no_worker_has_begun_is_enough_for_a_late_write(database: Database) -> None:
    # Given an undo whose worker lost it, and which waits for the next one
    table = rolling_back(database)
    (compare,) = table.take()
    table.finish(compare, changed=0)
    table.advance()
    (undo,) = table.take()
    table.expire(undo)
    table.reap()

    # When that worker tells that it may have written
    with table.begin() as connection:
        rollback.take_back(connection, undo, [target_of(table).id], SHOWN_AT)

    # Then there is one undo, not two that delete side by side, and it begins when reads show what was written
    assert [(row.id, row.run_after) for row in table.rows(BatchKind.UNDO)] == [(undo.id, SHOWN_AT)]


@pytest.mark.parametrize("stopped", ["paused", "parked"])
def test_a_roll_back_that_stood_still_goes_on_once_reads_show_what_was_written_meanwhile(
    database: Database, stopped: str
) -> None:
    # Given a roll back that a person paused, or that stopped at a batch
    table = JobTable(database)
    table.apply(plan_of(planned("s", "t")), waits=Waits(source_lag_s=40.0, target_lag_s=50.0))
    table.verified()
    acts.roll_back(database, table.job_id, "ana", None)
    if stopped == "paused":
        acts.pause(database, table.job_id, "ana")
    else:
        (lease,) = table.take()
        table.park(lease)
    table.advance(2)
    assert table.job.resume_to is JobState.ROLLING_BACK
    # When it goes on
    with table.begin() as connection:
        goes_on_at = refusals.now(connection)
    if stopped == "paused":
        acts.resume(database, table.job_id, "ana")
    else:
        acts.retry(database, table.job_id, "ana", "failed")
    # Then it compares what reads show by then
    (compare,) = table.rows(BatchKind.COMPARE)
    assert compare.run_after >= goes_on_at + timedelta(seconds=50) and table.take() == []


def test_a_removal_whose_lease_is_lost_is_not_even_intended(database: Database) -> None:
    table = cleaning(database, by_ids=True)
    (remove,) = table.take()
    table.expire(remove)
    table.reap()
    with pytest.raises(LeaseLost), table.begin() as connection:
        cleanup.intend(connection, remove, 0)
    assert table.row(remove.id).intent_at is None


def test_findings_keep_a_sample_and_exact_counts(database: Database) -> None:
    table = copied(database)
    (lease, *_) = [lease for lease in table.take() if lease.kind is BatchKind.SURVEY]
    with table.begin() as connection:
        missing = [checks.Finding("missing", f"r{number:03d}") for number in range(100)]
        found = {"count": 0, "ids_digest": "0", "missing": 100, "extra": 0}
        checks.finish(connection, lease, found, missing, checks.Usage(), 1)
    with table.begin() as connection:
        kept = connection.execute(sa.text("SELECT count(*) FROM finding")).scalar_one()
        assert differences.counted(connection, table.job_id, "missing") == 100
    assert kept == differences.SAMPLE_IDS
    assert table.row(lease.id).found["missing"] == 100
