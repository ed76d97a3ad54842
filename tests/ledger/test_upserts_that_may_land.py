"""An upsert that may still land: nothing is read, proven, moved or undone on a target before it no longer can."""

from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from job_table import JobTable, plan_of, planned
from stages import a_job, target_of

from orchestrator.core.freshness import Waits
from orchestrator.core.states import BatchKind, JobState
from orchestrator.ledger import moves, status
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import Database
from orchestrator.services import acts
from vecfleet.errors import Refused

LAG_S = 3_600.0  # so long that it is never over while a test runs


def lands_in(table: JobTable, minutes: int) -> datetime:
    """An upsert to the one target was not answered. Returns until when it may land: in so many minutes from now."""
    target = target_of(table)
    at = sa.func.clock_timestamp() + timedelta(minutes=minutes)
    with table.begin() as connection:
        query = sa.update(t.target).where(t.target.c.id == target.id).values(lands_by=at).returning(t.target.c.lands_by)
        lands_by: datetime = connection.execute(query).scalar_one()
    return lands_by


def copied_unchecked(database: Database) -> JobTable:
    """A job whose one batch is copied, right before the dispatcher looks at its target."""
    table = a_job(database)
    table.listed({"s": [["a"]]})
    for lease in table.take():
        table.copy(lease, "t-s")
    return table


def with_lag(database: Database) -> JobTable:
    """A job whose reads lag at its target."""
    table = JobTable(database)
    table.apply(plan_of(planned("s", "t-s")), waits=Waits(0.0, LAG_S, 0.0))
    return table


def test_a_target_is_not_checked_before_an_upsert_to_it_can_no_longer_land(database: Database) -> None:
    # Given a copied target, and an upsert to it that was not answered and may still take effect
    table = copied_unchecked(database)
    lands_in(table, minutes=30)

    # When the dispatcher decides, then nothing is read there, and the job goes no further
    table.advance(3)
    assert target_of(table).check_state == "waiting"
    assert table.rows(BatchKind.VERIFY) == table.rows(BatchKind.SURVEY) == []
    assert table.job.state is JobState.COPIED

    # And once it can no longer land, the target is checked
    lands_in(table, minutes=-1)
    table.advance()
    assert target_of(table).check_state == "checking"
    assert table.rows(BatchKind.SURVEY)


def test_one_target_that_is_waited_for_keeps_no_other_from_being_checked(database: Database) -> None:
    table = a_job(database, "s1", "s2")
    table.listed({"s1": [["a"]], "s2": [["b"]]})
    sources = {move.id: source for source, move in table.moves.items()}
    for lease in table.take():
        assert lease.move_id is not None
        table.copy(lease, f"t-{sources[lease.move_id]}")
    with table.begin() as connection:
        moves.note_landing(connection, table.targets["t-s1"].id, LAG_S)

    table.advance(2)
    assert {name: target.check_state for name, target in table.targets.items()} == {
        "t-s1": "waiting",
        "t-s2": "checking",
    }


def test_a_landing_that_is_noted_twice_is_waited_for_until_the_later_one(database: Database) -> None:
    table = copied_unchecked(database)
    with table.begin() as connection:
        moves.note_landing(connection, target_of(table).id, LAG_S)
    later = target_of(table).lands_by
    with table.begin() as connection:
        moves.note_landing(connection, target_of(table).id, 1.0)
    assert target_of(table).lands_by == later is not None


def test_what_a_worker_that_stopped_answering_sent_last_is_waited_for(database: Database) -> None:
    # Given a worker that noted its target, as it does before its upsert, and stopped answering
    table = with_lag(database)
    table.listed({"s": [["a"], ["b"]]})
    lost, other = table.take()
    table.copy(other, "t-s")
    table.target(lost, "t-s")
    table.expire(lost)
    lease_until = table.row(lost.id).lease_until

    # When its lease is taken from it, then its last request may land until the end of the lease, and show a lag later
    table.reap()
    assert target_of(table).lands_by == lease_until + timedelta(seconds=LAG_S)

    # And the target is not checked before that, though another worker has copied the batch meanwhile
    (again,) = table.take()
    table.copy(again, "t-s")
    table.advance(3)
    assert target_of(table).check_state == "waiting"


def test_a_lease_that_ran_out_shortens_no_wait(database: Database) -> None:
    table = a_job(database)
    table.listed({"s": [["a"]]})
    (lost,) = table.take()
    table.target(lost, "t-s")
    until = lands_in(table, minutes=30)
    table.expire(lost)
    table.reap()
    assert target_of(table).lands_by == until


def test_a_lease_that_wrote_nowhere_or_was_no_copy_is_waited_for_by_nobody(database: Database) -> None:
    # Given a check whose worker stopped answering: it writes nothing
    table = copied_unchecked(database)
    table.advance(2)
    check = table.take()[0]
    assert check.kind in (BatchKind.VERIFY, BatchKind.SURVEY)
    table.expire(check)
    table.reap()
    assert target_of(table).lands_by is None


def test_a_roll_back_waits_until_reads_show_what_a_lost_worker_sent_last(database: Database) -> None:
    # Given a cancelled job, one copy of which is leased by a worker that does not answer any more
    table = with_lag(database)
    table.listed({"s": [["a"]]})
    (lost,) = table.take()
    table.target(lost, "t-s")
    table.put(state=JobState.CANCELLED)
    table.expire(lost)

    # When it is to be rolled back, then what was sent within the lease may not show yet
    with pytest.raises(Refused, match="still in flight"):
        acts.roll_back(table.database, table.job_id, "ana", None)

    # And when reads must show it, then it may be
    table.set_batch(lost.id, lease_until=sa.func.clock_timestamp() - timedelta(seconds=LAG_S + 1))
    acts.roll_back(table.database, table.job_id, "ana", None)
    assert table.job.state is JobState.ROLLING_BACK


def test_a_roll_back_waits_for_an_upsert_that_may_land(database: Database) -> None:
    table = copied_unchecked(database)
    table.put(state=JobState.CANCELLED)
    lands_in(table, minutes=30)
    with pytest.raises(Refused, match="may still take effect"):
        acts.roll_back(table.database, table.job_id, "ana", None)
    lands_in(table, minutes=-1)
    acts.roll_back(table.database, table.job_id, "ana", None)


def test_a_reading_of_the_job_says_until_when_an_upsert_may_land(database: Database) -> None:
    table = copied_unchecked(database)
    with table.begin() as connection:
        assert status.reading(connection, table.job_id, namespaces=0).landing is None
    until = lands_in(table, minutes=30)
    with table.begin() as connection:
        assert status.reading(connection, table.job_id, namespaces=0).landing == until
