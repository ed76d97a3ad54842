"""A worker that lost its lease may have written after all: whom it concerns hears of it, until a person settles it."""

import pytest
import sqlalchemy as sa
from job_table import ELSEWHERE, JobTable, plan_of, planned
from stages import a_job, soaked, target_of

from orchestrator.core.model import Lease
from orchestrator.core.states import BatchKind, CheckState, JobState
from orchestrator.ledger import checks, status
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import Database
from orchestrator.services import acts, late_writes
from orchestrator.services.issues import issues_of


def copied_late(database: Database, source: str = "s", to: str = "t-s", **policies: object) -> tuple[JobTable, Lease]:
    """A verified job, and the lease of a copy batch as a worker still has it that is frozen since."""
    table = JobTable(database)
    table.apply(plan_of(planned(source, to), **policies))
    table.listed({source: [["a", "b"]]})
    (late,) = table.take()
    table.copy(late, to)
    table.advance(2)
    checked(table)
    assert table.job.state is JobState.VERIFIED
    return table, late


def checked(table: JobTable) -> None:
    for lease in table.take():
        table.check(lease)
    table.advance()


def note(table: JobTable, late: Lease) -> None:
    late_writes.note_late_write(table.database, late, [target_of(table).id])


def void(table: JobTable) -> list[int]:
    with table.begin() as connection:
        return checks.void_targets(connection, table.job_id)


def sentence(of: JobTable, late: Lease, namespace: str = "t-s") -> str:
    return f"may have written older records of batch {late.id} of job {of.job_id} to {namespace} late: compare them"


def reason(table: JobTable) -> str:
    return table.job.reason or ""


def test_once_readers_have_moved_the_job_says_where_an_older_record_may_stand(database: Database) -> None:
    # Given a job whose readers were moved while one of its workers was frozen
    table, late = copied_late(database)
    acts.cut_over(database, table.job_id, "ana", 100)
    # When that worker wakes up and tells that it may have written
    note(table, late)
    # Then the job says so, and what to do, and the audit
    assert sentence(table, late) in reason(table) and reason(table).endswith(f"`vecfleet verify {table.job_id}`")
    with table.begin() as connection:
        noted = connection.execute(sa.select(t.audit.c.payload).where(t.audit.c.action == "late write")).scalar_one()
    assert noted == {"batch": late.id, "targets": [target_of(table).id]}


def test_the_sentence_stays_through_every_change_of_state_until_a_person_verifies(database: Database) -> None:
    table, late = copied_late(database)
    acts.cut_over(database, table.job_id, "ana", 100)
    note(table, late)
    # Given that the dispatcher checks the target again, and the readers stay
    table.advance()
    assert table.job.state is JobState.COPIED
    assert reason(table).startswith("a target was written to after its verdict; ")
    assert sentence(table, late) in reason(table)
    table.advance()
    checked(table)
    table.advance()
    assert table.job.state is JobState.CUT_OVER and sentence(table, late) in reason(table)
    # And that the clean-up is asked for, paused and resumed
    soaked(table)
    acts.clean_up(database, table.job_id, "ana", by_ids=True)
    acts.pause(database, table.job_id, "ana", "for the night")
    table.advance()
    assert table.job.state is JobState.PAUSED and reason(table).count("lost its lease") == 1
    # When a person asks for a verification, then it is settled
    acts.verify(database, table.job_id, "ana")
    assert reason(table) == "ana asked for a verification"


def test_a_rollback_settles_it_because_it_takes_the_write_back(database: Database) -> None:
    table, late = copied_late(database)
    acts.cut_over(database, table.job_id, "ana", 100)
    note(table, late)
    acts.reverse(database, table.job_id, "ana")
    assert sentence(table, late) in reason(table)
    acts.roll_back(database, table.job_id, "ana", None)
    assert reason(table) == ""


@pytest.mark.parametrize("since", ["another check", "a pause"])
def test_readers_that_have_moved_hear_of_it_in_whatever_state_their_job_is(database: Database, since: str) -> None:
    # Given readers on the new side, of a job that is checked again or stands still
    table, late = copied_late(database)
    acts.cut_over(database, table.job_id, "ana", 100)
    if since == "another check":
        acts.verify(database, table.job_id, "ana")
    else:
        soaked(table)
        acts.clean_up(database, table.job_id, "ana", by_ids=True)
        acts.pause(database, table.job_id, "ana")
    # When the frozen worker tells, then the job says so
    note(table, late)
    assert sentence(table, late) in reason(table)


def test_before_readers_move_a_check_is_enough(database: Database) -> None:
    table, late = copied_late(database)
    note(table, late)
    assert reason(table) == "" and void(table)


def test_a_job_whose_source_was_written_late_hears_of_it_and_is_verified_again(database: Database) -> None:
    # Given a finished copy, and a younger job that has moved its target on
    older, late = copied_late(database, cut_over="none")
    acts.finish(database, older.job_id, "ana")
    younger, _ = copied_late(database, "t-s", "u")
    # When a worker of the older job wakes up
    note(older, late)
    # Then the younger one's verdict is void, and it says why; for the older one nothing reads there any more
    assert void(younger) == [target_of(younger).id]
    assert sentence(older, late) in reason(younger) and "lost its lease" not in reason(older)
    younger.advance()
    assert (younger.job.state, target_of(younger).check_state) == (JobState.COPIED, CheckState.WAITING)


def test_readers_of_a_job_that_is_over_and_a_younger_job_on_their_place_both_hear_of_it(database: Database) -> None:
    # Given readers on the new side of a finished job, and a younger job that has only begun to move them on
    older, late = copied_late(database)
    with older.by_hand() as connection:
        connection.execute(sa.update(t.target).values(creator="ana", twin="s"))
    acts.cut_over(database, older.job_id, "ana", 100)
    acts.finish(database, older.job_id, "ana")
    younger = a_job(database, "t-s")
    # When a worker of the older job wakes up, then both say so
    note(older, late)
    assert sentence(older, late) in reason(older) and sentence(older, late) in reason(younger)


def test_a_job_whose_target_was_written_late_is_verified_again(database: Database) -> None:
    # Given a finished copy, and a younger job that writes into the same namespace
    older, late = copied_late(database, cut_over="none")
    acts.finish(database, older.job_id, "ana")
    younger, _ = copied_late(database, "x", "t-s")
    # And a namesake in another index
    elsewhere = JobTable(database)
    elsewhere.apply(plan_of(planned("y", "t-s"), target=ELSEWHERE), target=ELSEWHERE)
    elsewhere.verified()
    # When a worker of the older job wakes up, then the younger one's verdict is void, and the namesake's is not
    note(older, late)
    assert void(younger) == [target_of(younger).id] and void(elsewhere) == []
    # And once that one's readers are there, it hears of it
    assert reason(younger) == ""
    younger.advance(2)
    checked(younger)
    acts.cut_over(database, younger.job_id, "ana", 100)
    note(older, late)
    assert sentence(older, late) in reason(younger)


def test_the_job_whose_route_leads_there_hears_of_it_though_it_is_over(database: Database) -> None:
    # Given a finished copy without readers, and a younger job, finished too, that leads a tenant to the same place
    older, late = copied_late(database, cut_over="none")
    acts.finish(database, older.job_id, "ana")
    leading, _ = copied_late(database, "x", "t-s")
    acts.cut_over(database, leading.job_id, "ana", 100)
    acts.finish(database, leading.job_id, "ana")
    # When a worker of the first wakes up
    note(older, late)
    # Then the second one says so, with nothing to type that it would refuse
    assert reason(leading).endswith("compare them with the application's records") and sentence(older, late) in reason(
        leading
    )
    assert "lost its lease" not in reason(older)


def test_a_finished_copy_that_nobody_else_reads_says_it_itself(database: Database) -> None:
    table, late = copied_late(database, cut_over="none")
    acts.finish(database, table.job_id, "ana")
    note(table, late)
    assert reason(table).startswith("finished by ana: both sides stay; ") and sentence(table, late) in reason(table)
    # And it is an issue of its report, although who finished it is none
    with table.begin() as connection:
        reading = status.reading(connection, table.job_id, namespaces=0)
        asked = {"unlisted": 0, "asked": True, "cut": None, "names_ids": False}
        issues = list(issues_of(connection, reading, [], None, reading.since, **asked))
    assert [issue for issue in issues if "finished by" in issue] == []
    assert [issue for issue in issues if sentence(table, late) in issue]


def test_a_late_deletion_voids_what_rests_on_that_namespace_in_other_jobs(database: Database) -> None:
    # Given a job that cleans up, and another, of after it, that reads the same source
    older = a_job(database, cut_over="none")
    older.verified()
    acts.clean_up(database, older.job_id, "ana", by_ids=True)
    (late,) = older.take()
    assert late.kind is BatchKind.REMOVE
    with older.by_hand() as connection:
        connection.execute(sa.delete(t.claim))
    older.put(state=JobState.CANCELLED)
    younger, _ = copied_late(database, "s", "u")
    # When a worker of the first tells that it may have deleted there since
    late_writes.note_late_deletion(database, late)
    # Then the second one is verified again, and says why
    assert void(younger) == [target_of(younger).id]
    assert f"may have deleted records of s late (batch {late.id} of job {older.job_id})" in reason(younger)
