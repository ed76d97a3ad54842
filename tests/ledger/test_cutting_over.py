"""Cutting over: readers move to what is proven, step by step, and a person's word goes before the policy's."""

from datetime import timedelta
from itertools import pairwise

import pytest
import sqlalchemy as sa
from job_table import JobTable
from stages import AUTO, copied, late_write, proven_again, target_of, verified

from orchestrator.core.next_steps import next_steps
from orchestrator.core.states import BatchKind, BatchState, JobState
from orchestrator.core.wording import to_be_dropped
from orchestrator.ledger import moves, status
from orchestrator.ledger import tables as t
from orchestrator.ledger.batches import LeaseLost
from orchestrator.ledger.database import Database
from orchestrator.services import acts
from vecfleet.errors import Refused


def test_only_a_verified_job_is_cut_over(database: Database) -> None:
    table = copied(database)
    with pytest.raises(Refused, match="only a verified job is cut over"):
        acts.cut_over(table.database, table.job_id, "ana", 100)


def test_readers_are_not_moved_to_a_target_that_was_written_to_since_its_verdict(database: Database) -> None:
    table = verified(database)
    late_write(table)
    with pytest.raises(Refused, match="no valid verdict"):
        acts.cut_over(table.database, table.job_id, "ana", 100)


def test_readers_move_step_by_step_and_back(database: Database) -> None:
    table = verified(database, *(f"s{number}" for number in range(8)), dwell_seconds=0)
    sides = []
    for percent in (5, 25, 37, 100):  # any whole number, and it is kept to
        found = acts.cut_over(table.database, table.job_id, "ana", percent)
        assert table.job.cut_over_percent == percent
        sides.append({route.new_namespace for route in found if route.side == "new"})
    assert sides == sorted(sides, key=len) and all(one <= two for one, two in pairwise(sides))
    assert (table.job.state, len(sides[-1])) == (JobState.CUT_OVER, 8)

    found = acts.reverse(table.database, table.job_id, "ana")
    assert {route.side for route in found} == {"old"}
    assert (table.job.state, table.job.cut_over_percent) == (JobState.VERIFIED, 0)


def test_what_a_person_reversed_the_policy_does_not_cut_over_again(database: Database) -> None:
    # Given a job whose policy cut over
    table = verified(database, **AUTO)
    table.advance()
    assert table.job.state is JobState.CUT_OVER

    # When a person moves the readers back, then they stay there
    acts.reverse(table.database, table.job_id, "ana")
    table.advance(3)
    assert (table.job.state, table.job.cut_over_percent) == (JobState.VERIFIED, 0)


def test_after_a_late_write_and_a_new_verdict_the_readers_are_where_they_were(database: Database) -> None:
    table = verified(database)
    acts.cut_over(table.database, table.job_id, "ana", 100)
    since = table.job.cut_over_at
    late_write(table)
    table.advance(2)
    for lease in table.take():
        table.check(lease)
    table.advance(2)
    assert (table.job.state, table.job.cut_over_percent, table.job.cut_over_at) == (JobState.CUT_OVER, 100, since)


def test_once_readers_were_moved_what_changed_at_the_target_is_listed_and_never_repaired(database: Database) -> None:
    """The application may have changed the record at the target: a repair would overwrite that with the old one."""
    table = verified(database)
    acts.cut_over(table.database, table.job_id, "ana", 100)
    acts.verify(table.database, table.job_id, "ana")
    table.advance()
    for lease in table.take():
        table.check(lease, **({"different": 1} if lease.kind is BatchKind.VERIFY else {}))
    table.advance(2)
    assert (table.job.state, table.job.repairs) == (JobState.CUT_OVER, 0)
    assert {row.state for row in table.rows(BatchKind.COPY)} == {BatchState.DONE}
    verdict = target_of(table).verdict
    assert verdict is not None
    assert verdict["reason"].endswith("records were proven before readers moved; since then 1 changed")


def test_a_target_that_readers_use_and_that_holds_nothing_any_more_is_not_verified(database: Database) -> None:
    table = verified(database)
    acts.cut_over(table.database, table.job_id, "ana", 100)
    acts.verify(table.database, table.job_id, "ana")
    table.advance()
    for lease in table.take():
        table.check(lease, **({"count": 0} if lease.kind is BatchKind.SURVEY else {}))
    table.advance(2)
    assert table.job.state is JobState.NEEDS_ATTENTION


# How old a proof may be


def a_day_passes(table: JobTable) -> None:
    day = timedelta(hours=25)
    with table.begin() as connection:
        connection.execute(sa.update(t.target).values(verdict_at=t.target.c.verdict_at - day))
        connection.execute(sa.update(t.step).values(since=t.step.c.since - day))


def next_of(table: JobTable) -> str:
    with table.begin() as connection:
        return next_steps(status.reading(connection, table.job_id, namespaces=0))[0]


def cut_over(table: JobTable, percent: int = 100) -> None:
    acts.cut_over(table.database, table.job_id, "ana", percent)


def refused(table: JobTable, why: str, then: str, percent: int = 100) -> None:
    with pytest.raises(Refused, match=why) as found:
        cut_over(table, percent)
    assert found.value.next_step is not None and then in found.value.next_step
    assert next_of(table) == then


def test_readers_are_not_moved_on_a_verdict_of_the_day_before(database: Database) -> None:
    table = verified(database)
    a_day_passes(table)
    refused(table, "the verdict on t-s is more than 24 hours old", "vecfleet verify 1")

    proven_again(table)
    assert next_of(table) == "vecfleet cutover 1 --percent 100"
    cut_over(table)
    assert table.job.state is JobState.CUT_OVER


def test_a_later_step_needs_a_proof_of_the_day_and_a_step_back_needs_none(database: Database) -> None:
    # Given a quarter of the readers moved, and watched for a day
    table = verified(database, *(f"s{number}" for number in range(8)))
    table.put(salt="salt")  # three of them stand before 25, two more before 50
    cut_over(table, 25)
    a_day_passes(table)

    # Then fewer may be moved, and as many, but no more of them
    cut_over(table, 25)
    refused(table, "more than 24 hours old", "vecfleet verify 1", percent=50)
    proven_again(table)
    cut_over(table, 50)
    a_day_passes(table)
    cut_over(table, 5)


def test_readers_that_were_taken_back_return_only_after_another_proof(database: Database) -> None:
    # Given readers who were moved, and back: what was written at the old side since is in no verdict
    table = verified(database, "s", "u", dwell_seconds=0)
    cut_over(table)
    acts.reverse(table.database, table.job_id, "ana")
    acts.reverse(table.database, table.job_id, "ana")
    refused(table, r"readers were taken back at .* was not verified since", "vecfleet verify 1")

    # When it is verified again, then they may be moved, step by step, and the rest of them a little later
    proven_again(table)
    cut_over(table, 50)
    cut_over(table)

    # And those that a smaller share takes back need it, too
    cut_over(table, 5)
    refused(table, "readers were taken back at", "vecfleet verify 1")
    proven_again(table)
    cut_over(table)


def test_a_check_that_was_under_way_when_readers_were_taken_back_is_begun_anew(database: Database) -> None:
    table = verified(database)
    cut_over(table)
    acts.verify(table.database, table.job_id, "ana")
    table.advance()
    under_way = table.take()
    acts.reverse(table.database, table.job_id, "ana")
    for lease in under_way:
        with pytest.raises(LeaseLost):
            table.check(lease)
    table.advance()
    for lease in table.take():
        table.check(lease)
    table.advance(2)
    cut_over(table)
    assert table.job.state is JobState.CUT_OVER


def test_a_policy_that_finds_its_verdict_too_old_says_so_and_what_to_type(database: Database) -> None:
    table = verified(database, **AUTO)
    a_day_passes(table)
    table.advance()
    assert table.job.state is JobState.VERIFIED
    assert table.job.reason == "the policy waits: the verdict on t-s is more than 24 hours old"
    assert next_of(table) == "vecfleet verify 1"
    proven_again(table)
    assert table.job.state is JobState.CUT_OVER


def test_a_roll_back_says_which_namespaces_it_leaves(database: Database) -> None:
    # Given a job that created two namespaces; readers moved to one of them and were taken back
    table = verified(database, "s", "u")
    with table.begin() as connection:
        connection.execute(sa.update(t.target).values(created_by_us=True))
        assert to_be_dropped(moves.targets_of_job(connection, table.job_id)) == (
            "2 namespaces that it created, once empty."
        )
        moves.hand_authority(connection, table.job_id, ["t-s"])

        # Then that one stays: what an application wrote there is nowhere else
        assert to_be_dropped(moves.targets_of_job(connection, table.job_id)) == (
            "1 namespace that it created, once empty. 1 namespace to which readers had moved will stay, empty or not: "
            "applications may write there."
        )
