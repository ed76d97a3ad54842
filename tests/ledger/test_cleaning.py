"""Clean-up: a source goes only after its soak time, read again right before, and never on an old proof."""

from datetime import timedelta

import pytest
import sqlalchemy as sa
from stages import AUTO, a_job, cleaning, proven_again, soaked, verified

from orchestrator.core.states import BatchKind, JobState, MoveState
from orchestrator.ledger import cleanup, deletions
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import Database
from orchestrator.services import acts
from vecfleet.errors import Refused


def test_nothing_is_cleaned_up_before_the_soak_time(database: Database) -> None:
    table = verified(database)
    with pytest.raises(Refused, match="cut over at 0 %"):
        acts.clean_up(table.database, table.job_id, "ana", by_ids=False)
    acts.cut_over(table.database, table.job_id, "ana", 5)
    with pytest.raises(Refused, match="cut over at 5 %"):
        acts.clean_up(table.database, table.job_id, "ana", by_ids=False)
    acts.cut_over(table.database, table.job_id, "ana", 100)
    with pytest.raises(Refused, match="soak time lasts until"):
        acts.clean_up(table.database, table.job_id, "ana", by_ids=False)
    soaked(table)
    acts.clean_up(table.database, table.job_id, "ana", by_ids=False)
    assert (table.job.state, table.move.state) == (JobState.CLEANING, MoveState.CLEANING)


def test_the_soak_time_starts_anew_when_some_readers_went_back(database: Database) -> None:
    # Given readers that were on the new side for days, and then some were moved back
    table = verified(database)
    acts.cut_over(table.database, table.job_id, "ana", 100)
    soaked(table)
    acts.cut_over(table.database, table.job_id, "ana", 5)

    # When it is proven anew and all of them are moved again, then the days before do not count
    proven_again(table)
    acts.cut_over(table.database, table.job_id, "ana", 100)
    with pytest.raises(Refused, match="soak time lasts until"):
        acts.clean_up(table.database, table.job_id, "ana", by_ids=False)


@pytest.mark.parametrize("clean_up", ["operator", "auto"])
def test_readers_that_a_person_moved_keep_the_sources_although_the_plan_moves_none(
    database: Database, clean_up: str
) -> None:
    # Given a verified copy that nobody was to read, long soaked, and a part of its readers
    table = verified(database, cut_over="none", clean_up=clean_up, soak_seconds=86_400)
    acts.cut_over(table.database, table.job_id, "ana", 25)
    table.put(verified_at=sa.func.clock_timestamp() - timedelta(hours=25))

    # When readers are split, then taken back, then moved: nothing is deleted before they soaked on the new side
    for percent, says in ((25, "cut over at 25 %"), (0, "cut over at 0 %"), (100, "soak time lasts until")):
        if percent:
            acts.cut_over(table.database, table.job_id, "ana", percent)
        else:
            acts.reverse(table.database, table.job_id, "ana")
            proven_again(table)
        table.advance()
        assert table.job.state is (JobState.CUT_OVER if percent == 100 else JobState.VERIFIED)
        with pytest.raises(Refused, match=says):
            acts.clean_up(table.database, table.job_id, "ana", by_ids=False)
    soaked(table)
    if clean_up == "auto":
        table.advance()
    else:
        acts.clean_up(table.database, table.job_id, "ana", by_ids=False)
    assert table.job.state is JobState.CLEANING


def test_the_policy_cleans_up_by_itself_through_the_same_guards(database: Database) -> None:
    # Given a job on its own whose verdict is two days old
    table = verified(database, **AUTO)
    table.advance()
    soaked(table)
    with table.begin() as connection:
        connection.execute(sa.text("UPDATE target SET verdict_at = verdict_at - interval '2 days'"))

    # When the soak time is over, then the guard stands in the policy's way and says so
    table.advance()
    assert table.job.state is JobState.CUT_OVER
    assert table.job.reason is not None and "more than 24 hours old" in table.job.reason

    # And with a fresh verdict the clean-up begins
    with table.begin() as connection:
        connection.execute(sa.text("UPDATE target SET verdict_at = clock_timestamp()"))
    table.advance()
    assert table.job.state is JobState.CLEANING


def test_a_namespace_is_deleted_whole_only_after_each_of_its_batches_was_read_again(database: Database) -> None:
    table = cleaning(database)
    (recheck,) = table.take()
    assert recheck.kind is BatchKind.RECHECK
    table.advance()
    assert table.rows(BatchKind.CLEAR) == []
    table.finish(recheck, proven=2)
    table.advance()
    (clear,) = table.take()
    assert clear.kind is BatchKind.CLEAR
    table.finish(clear, deleted=2)
    table.advance()
    assert (table.job.state, table.move.state, table.move.deleted) == (JobState.CLEANED, MoveState.CLEANED, 2)


def test_a_source_whose_recheck_fails_stays_and_the_others_go(database: Database) -> None:
    table = cleaning(database, "s1", "s2")
    failing, proven = table.take()
    table.park(failing, why="1 records of s1 changed since they were copied")
    table.finish(proven, proven=2)
    table.advance()
    (clear,) = table.take()
    table.finish(clear, deleted=2)
    table.advance(2)
    assert table.job.state is JobState.NEEDS_ATTENTION
    states = {source: move.state for source, move in table.moves.items()}
    assert states == {"s1": MoveState.PARKED, "s2": MoveState.CLEANED}
    assert table.moves["s1"].reason == "1 records of s1 changed since they were copied"


def test_a_clean_up_that_stopped_before_the_deletion_reads_everything_again(database: Database) -> None:
    # Given a source that was proven, but whose deletion was parked: somebody had added a record
    table = cleaning(database)
    (recheck,) = table.take()
    table.finish(recheck, proven=2)
    table.advance()
    (clear,) = table.take()
    table.park(clear, why="s lists 3 ids, which are not the 2 that were copied and proven")
    table.advance()
    assert table.job.state is JobState.NEEDS_ATTENTION

    # When, days later, a person retries it
    assert acts.retry(table.database, table.job_id, "ana", "failed") == 1

    # Then the old proof does not count: every batch is read again before the deletion
    assert table.job.state is JobState.CLEANING
    (again,) = table.take()
    assert (again.kind, again.id) == (BatchKind.RECHECK, recheck.id)
    table.advance()
    assert table.rows(BatchKind.CLEAR) == []
    table.finish(again, proven=2)
    table.advance()
    assert [lease.kind for lease in table.take()] == [BatchKind.CLEAR]


def test_a_clean_up_that_was_paused_before_the_deletion_reads_everything_again(database: Database) -> None:
    table = cleaning(database)
    (recheck,) = table.take()
    table.finish(recheck, proven=2)
    table.advance()
    acts.pause(table.database, table.job_id, "ana")
    table.advance()
    assert table.job.state is JobState.PAUSED
    acts.resume(table.database, table.job_id, "ana")
    assert [lease.kind for lease in table.take()] == [BatchKind.RECHECK]


def test_a_deletion_that_may_have_happened_is_looked_into_by_whoever_reads_again(database: Database) -> None:
    # Given a deletion that was asked for, and whose confirmation failed
    table = cleaning(database)
    (recheck,) = table.take()
    table.finish(recheck, proven=2)
    table.advance()
    (clear,) = table.take()
    with table.begin() as connection:
        cleanup.intend(connection, clear, 0)
    table.park(clear, why="s still lists ids after its deletion")
    table.advance()

    # When a person retries it, then what is left is read again, by a batch that knows that there may be nothing left
    acts.retry(table.database, table.job_id, "ana", "failed")
    (again,) = table.take()
    assert (again.id, again.intended) == (recheck.id, True)


def test_by_ids_each_batch_is_deleted_by_itself(database: Database) -> None:
    table = cleaning(database, by_ids=True)
    (remove,) = table.take()
    assert (remove.kind, table.move.clean_mode) == (BatchKind.REMOVE, "by_ids")
    table.finish(remove, deleted=2)
    table.advance()

    # And when the last one is, the source is listed before it counts as cleaned up
    assert table.job.state is JobState.CLEANING
    (clear,) = table.take()
    assert clear.kind is BatchKind.CLEAR
    table.finish(clear, deleted=0)
    table.advance()
    assert (table.job.state, table.move.state, table.move.deleted) == (JobState.CLEANED, MoveState.CLEANED, 2)


def test_a_half_cleaned_job_is_not_rolled_back_and_what_is_left_of_it_is_verified(database: Database) -> None:
    table = cleaning(database, "s1", "s2")
    failing, proven = table.take()
    table.park(failing)
    table.finish(proven, proven=2)
    table.advance()
    (clear,) = table.take()
    table.finish(clear, deleted=2)
    table.advance(2)
    assert table.job.state is JobState.NEEDS_ATTENTION
    with pytest.raises(Refused, match="before clean-up"):
        acts.roll_back(table.database, table.job_id, "ana", None)
    assert table.job.state is JobState.NEEDS_ATTENTION
    # When it is verified, then the source that is gone is not asked about, and still nothing is rolled back
    acts.verify(table.database, table.job_id, "ana")
    assert [table.moves[name].state for name in ("s1", "s2")] == [MoveState.COPIED, MoveState.CLEANED]
    with pytest.raises(Refused, match="before clean-up"):
        acts.roll_back(table.database, table.job_id, "ana", None)


def test_without_a_cut_over_a_new_proof_does_not_begin_the_soak_time_again(database: Database) -> None:
    # Given a day of soak time that is over, and with it the day for which a verdict is good
    table = verified(database, cut_over="none", clean_up="auto", soak_seconds=86_400)
    a_day_ago = sa.func.clock_timestamp() - timedelta(hours=25)
    table.put(verified_at=a_day_ago)
    with table.by_hand() as connection:
        connection.execute(sa.update(t.target).values(verdict_at=a_day_ago))
    table.advance()
    assert table.job.state is JobState.VERIFIED and "more than 24 hours old" in (table.job.reason or "")
    # When a person has it proven again
    proven_again(table)
    # Then the clean-up follows
    assert table.job.state is JobState.CLEANING


def test_sources_are_read_again_one_after_another(database: Database) -> None:
    """In turns, the first batch of each would be hours old when the last one is read."""
    table = a_job(database, "s1", "s2", cut_over="none")
    table.verified({"s1": [["a"], ["b"]], "s2": [["c"], ["d"]]})
    acts.clean_up(table.database, table.job_id, "ana", by_ids=False)
    assert [(wakeup.namespace, wakeup.seq) for wakeup in table.dispatch()] == [
        ("s1", 1),
        ("s1", 2),
        ("s2", 1),
        ("s2", 2),
    ]


def test_a_proof_is_as_old_as_its_first_reading_however_many_batches_were_at_work(database: Database) -> None:
    """The time that they took side by side, and in earlier attempts, used to be taken off its age."""
    table = cleaning(database)
    (recheck,) = table.take()
    table.finish(recheck, proven=2)
    began = sa.func.clock_timestamp() - timedelta(minutes=93)
    table.set_batch(recheck.id, looked_at=began)
    with table.begin() as connection:
        age_s, _ = deletions.oldest_proof(connection, table.move.id)
        assert age_s >= 93 * 60


def test_a_proof_of_which_one_batch_was_not_read_again_is_of_no_age(database: Database) -> None:
    # Given a source of two batches, one of which says when it was read again
    table = a_job(database, cut_over="none")
    table.verified({"s": [["a"], ["b"]]})
    acts.clean_up(table.database, table.job_id, "ana", by_ids=False)
    first, second = table.take()
    table.finish(first, proven=1)
    with table.begin() as connection:
        assert deletions.oldest_proof(connection, table.move.id) == (0.0, None)

    # When the other one does too, then the proof is as old as the older of them
    table.finish(second, proven=1)
    with table.begin() as connection:
        _, read_from = deletions.oldest_proof(connection, table.move.id)
    assert read_from == min(first.leased_at, second.leased_at)


def test_a_source_that_was_set_aside_can_be_retried_after_the_others_were_paused_and_resumed(
    database: Database,
) -> None:
    """It used to lose its parked batch to the resumption, and nothing was left of it to retry."""
    # Given a source that a guard set aside while another one is still read again, and a pause
    table = cleaning(database, "s1", "s2")
    recheck, other = table.take()
    table.finish(recheck, proven=2)
    table.advance()
    (clear,) = table.take()
    table.park(clear, why="s1 lists 3 ids, which are not the 2 that were copied and proven")
    table.advance()
    acts.pause(table.database, table.job_id, "ana")
    table.finish(other, proven=2)
    table.advance()
    assert table.job.state is JobState.PAUSED

    # When the job is resumed and the other source is deleted
    acts.resume(table.database, table.job_id, "ana")
    assert table.moves["s1"].state is MoveState.PARKED
    for _ in (BatchKind.RECHECK, BatchKind.CLEAR):
        (lease,) = table.take()
        assert lease.move_id == table.moves["s2"].id
        table.finish(lease, proven=2, deleted=2)
        table.advance()
    table.advance()
    assert table.job.state is JobState.NEEDS_ATTENTION

    # Then the one set aside can be retried, and is deleted
    assert acts.retry(table.database, table.job_id, "ana", "failed") == 1
    for kind in (BatchKind.RECHECK, BatchKind.CLEAR):
        (lease,) = table.take()
        assert lease.kind is kind
        table.finish(lease, proven=2, deleted=2)
        table.advance()
    table.advance()
    assert table.job.state is JobState.CLEANED
