"""Cutting over: readers move to what is proven, step by step, and a person's word goes before the policy's."""

from itertools import pairwise

import pytest
from stages import AUTO, copied, late_write, target_of, verified

from orchestrator import services
from orchestrator.ledger.database import Database
from orchestrator.states import BatchKind, BatchState, JobState
from vecfleet.errors import Refused


def test_only_a_verified_job_is_cut_over(database: Database) -> None:
    table = copied(database)
    with pytest.raises(Refused, match="only a verified job is cut over"):
        services.cut_over(table.database, table.job_id, "ana", 100)


def test_readers_are_not_moved_to_a_target_that_was_written_to_since_its_verdict(database: Database) -> None:
    table = verified(database)
    late_write(table)
    with pytest.raises(Refused, match="no valid verdict"):
        services.cut_over(table.database, table.job_id, "ana", 100)


def test_readers_move_step_by_step_and_back(database: Database) -> None:
    table = verified(database, *(f"s{number}" for number in range(8)), dwell_seconds=0)
    sides = []
    for percent in (5, 25, 50, 100):
        found = services.cut_over(table.database, table.job_id, "ana", percent)
        sides.append({route.new_namespace for route in found if route.side == "new"})
    assert sides == sorted(sides, key=len) and all(one <= two for one, two in pairwise(sides))
    assert (table.job.state, len(sides[-1])) == (JobState.CUT_OVER, 8)

    found = services.reverse(table.database, table.job_id, "ana")
    assert {route.side for route in found} == {"old"}
    assert (table.job.state, table.job.cut_over_percent) == (JobState.VERIFIED, 0)


def test_what_a_person_reversed_the_policy_does_not_cut_over_again(database: Database) -> None:
    # Given a job whose policy cut over
    table = verified(database, **AUTO)
    table.advance()
    assert table.job.state is JobState.CUT_OVER

    # When a person moves the readers back, then they stay there
    services.reverse(table.database, table.job_id, "ana")
    table.advance(3)
    assert (table.job.state, table.job.cut_over_percent) == (JobState.VERIFIED, 0)


def test_after_a_late_write_and_a_new_verdict_the_readers_are_where_they_were(database: Database) -> None:
    table = verified(database)
    services.cut_over(table.database, table.job_id, "ana", 100)
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
    services.cut_over(table.database, table.job_id, "ana", 100)
    services.verify(table.database, table.job_id, "ana")
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
    services.cut_over(table.database, table.job_id, "ana", 100)
    services.verify(table.database, table.job_id, "ana")
    table.advance()
    for lease in table.take():
        table.check(lease, **({"count": 0} if lease.kind is BatchKind.SURVEY else {}))
    table.advance(2)
    assert table.job.state is JobState.NEEDS_ATTENTION
