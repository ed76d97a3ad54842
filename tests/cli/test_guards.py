"""Clean-up and roll back: what they say before they destroy, and what they refuse."""

from typing import Any

import pytest
import sqlalchemy as sa
from job_table import JobTable, plan_of, planned
from terminal import Brain, Vecfleet, contents

from orchestrator.core.states import BatchKind, JobState
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import Database
from vecfleet.enriching import Conflict


def refuse(vecfleet: Vecfleet, database: Database, *words: str, says: str) -> None:
    before = contents(database)
    answer = vecfleet(*words)
    assert answer.code == 3, answer
    assert says in answer.err
    assert "next: " in answer.err
    assert contents(database) == before


@pytest.fixture
def verified(table: JobTable) -> JobTable:
    """A job whose two moves are copied and verified."""
    table.apply(plan_of(planned("s", "t", 2), planned("u", "v", 2), soak_seconds=0))
    table.verified()
    return table


def test_clean_up_before_anything_is_verified(vecfleet: Vecfleet, database: Database, table: JobTable) -> None:
    table.apply(plan_of(planned("s", "t")))
    refuse(vecfleet, database, "cleanup", "1", "--yes", says="its targets are not verified")


def test_clean_up_before_the_cut_over(vecfleet: Vecfleet, database: Database, verified: JobTable) -> None:
    refuse(vecfleet, database, "cleanup", "1", "--yes", says="readers are cut over at 0 %, not 100 %")
    # And a part of it is not enough
    assert vecfleet("cutover", "1", "--percent", "50").code == 0
    refuse(vecfleet, database, "cleanup", "1", "--yes", says="readers are cut over at 50 %, not 100 %")


def test_clean_up_within_the_soak_time(vecfleet: Vecfleet, database: Database, table: JobTable) -> None:
    table.apply(plan_of(planned("s", "t", 2), soak_seconds=3_600))
    table.verified()
    assert vecfleet("cutover", "1", "--percent", "100").code == 0
    refuse(vecfleet, database, "cleanup", "1", "--yes", says="the soak time lasts until")


def test_clean_up_with_undecided_parked_records(vecfleet: Vecfleet, database: Database, table: JobTable) -> None:
    # Given a job that stopped for a poisoned record
    table.apply(plan_of(planned("s", "t", 2), soak_seconds=0))
    table.listed({"s": [["a", "b"]]})
    [lease] = table.take()
    table.copy(lease, wrote=["a"], parked=["b"])
    table.advance(2)
    for check in table.take():
        table.check(check)
    table.advance()
    assert table.job.state is JobState.NEEDS_ATTENTION
    # Then
    refuse(vecfleet, database, "cleanup", "1", "--yes", says="1 parked record waits for a decision")
    assert vecfleet("cleanup", "1", "--yes").err.count("waits for a decision") == 1
    refuse(vecfleet, database, "cutover", "1", "--percent", "5", says="job 1 needs attention: only a verified job")
    # And the way out is shown
    listed = vecfleet("park", "list", "1", "--json").json
    assert [(record["id"], record["source"], record["reason"]) for record in listed["records"]] == [
        ("b", "s", "a poisoned record")
    ]
    assert listed["next_steps"] == ["vecfleet park accept 1 --all", "vecfleet retry 1 parked"]
    assert vecfleet("park", "accept", "1", "--all").code == 0
    table.advance(2)
    assert table.job.state is JobState.VERIFIED


def test_of_records_that_only_another_plan_moves_that_is_said(
    vecfleet: Vecfleet, database: Database, table: JobTable
) -> None:
    # Given a job that stopped for a record which holds something else in a key of ours
    typed = ("plan", "creators", "digital-twin-brain", "--creator", "ana")
    table.apply(plan_of(planned("s", "t", 2)).model_copy(update={"command": typed}).sealed())
    table.listed({"s": [["a", "b"]]})
    [lease] = table.take()
    table.copy(lease, wrote=["a"], parked=["b"])
    with database.begin() as connection:
        connection.execute(sa.update(t.parked_record).values(reason=Conflict("twin_id").reason))
    table.put(state="needs_attention", resume_to="copied", reason="1 parked record waits for a decision")
    # Then a retry, which would park it again, is not offered, and what moves it is
    again = "vecfleet plan creators digital-twin-brain --creator ana --conflicts keep"
    assert f"`vecfleet rollback 1`, then `{again}`" in vecfleet("park", "list", "1").out
    steps = ["vecfleet park accept 1 --all", "vecfleet rollback 1"]
    assert vecfleet("park", "list", "1", "--json").json["next_steps"] == steps
    status = vecfleet("status", "1", "--json").json
    assert status["next_steps"] == ["vecfleet park list 1", *steps]
    assert [f"`{again}`" in wait for wait in status["waits"]] == [True]
    # Nor is it offered once people who left the record behind undo that
    assert vecfleet("park", "accept", "1", "--all", "--yes").code == 0
    undone = vecfleet("park", "undo", "1", "--all")
    assert undone.code == 0 and "vecfleet retry 1 parked" not in undone.out
    # And of a job that was rolled back nothing is left to decide, but the next plan is told
    table.put(state="rolled_back", resume_to=None)
    assert vecfleet("status", "1", "--json").json["next_steps"] == [again, "vecfleet report 1"]
    assert vecfleet("park", "list", "1", "--json").json["next_steps"] == ["vecfleet status 1"]


def test_clean_up_with_a_void_verdict(vecfleet: Vecfleet, database: Database, verified: JobTable) -> None:
    # Given a target that was written to after its verdict
    assert vecfleet("cutover", "1", "--percent", "100").code == 0
    with database.begin() as connection:
        connection.execute(sa.update(t.target).where(t.target.c.namespace == "t").values(sequence=99))
    refuse(vecfleet, database, "cleanup", "1", "--yes", says="the verdict on t is void: it was written to since")


def test_clean_up_with_a_stale_verdict(vecfleet: Vecfleet, database: Database, verified: JobTable) -> None:
    # Given verdicts of the day before yesterday
    assert vecfleet("cutover", "1", "--percent", "100").code == 0
    with database.begin() as connection:
        connection.execute(sa.update(t.target).values(verdict_at=sa.text("clock_timestamp() - interval '2 days'")))
    refuse(vecfleet, database, "cleanup", "1", "--yes", says="more than 24 hours old")


def test_clean_up_after_readers_were_taken_back_leads_to_the_check_that_is_due_before_they_move_again(
    vecfleet: Vecfleet, verified: JobTable
) -> None:
    """It named the cut-over, which refused and named the check."""
    assert vecfleet("cutover", "1", "--percent", "100").code == 0
    back = vecfleet("reverse", "1").out
    refused = vecfleet("cleanup", "1", "--yes")
    assert "readers are cut over at 0 %" in refused.err
    assert "next: vecfleet verify 1\n" in back and "next: vecfleet verify 1\n" in refused.err


def test_ending_a_job_between_two_sides_names_the_check_that_is_due_before_all_readers_move(
    vecfleet: Vecfleet, database: Database, verified: JobTable
) -> None:
    """It named the cut-over alone, which refused and named the check."""
    # Given a few readers on the new side, and verdicts of the day before yesterday
    assert vecfleet("cutover", "1", "--percent", "5").code == 0
    with database.begin() as connection:
        connection.execute(sa.update(t.target).values(verdict_at=sa.text("clock_timestamp() - interval '2 days'")))
    # When the job is to be ended as it is
    refused = vecfleet("finish", "1")
    # Then the answer names both ways: back, or the check and then the cut-over
    assert "`vecfleet reverse 1`, or `vecfleet verify 1`, then `vecfleet cutover 1 --percent 100`" in refused.err


def test_clean_up_shows_what_goes_and_asks(vecfleet: Vecfleet, database: Database, verified: JobTable) -> None:
    assert vecfleet("cutover", "1", "--percent", "100").code == 0
    # When nobody says yes
    answer = vecfleet("cleanup", "1")
    # Then each namespace was shown with its records, and nothing was begun
    assert answer.code == 3
    assert "--yes" in answer.err
    rows = [line.split()[:2] for line in answer.out.splitlines()]
    assert ["s", "2"] in rows and ["u", "2"] in rows
    assert verified.job.state is JobState.CUT_OVER
    # When somebody does
    assert vecfleet("cleanup", "1", "--yes").code == 0
    assert verified.job.state is JobState.CLEANING
    assert {row.kind for row in verified.rows() if row.state == "ready"} == {BatchKind.RECHECK}


def test_readers_move_and_move_back(vecfleet: Vecfleet, verified: JobTable) -> None:
    assert "2 of 2 routes lead to the new namespaces" in vecfleet("cutover", "1", "--percent", "100").out
    assert "0 of 2 routes lead to the new namespaces" in vecfleet("reverse", "1").out
    assert verified.job.state is JobState.VERIFIED


def test_rolling_back_a_job_whose_readers_are_on_the_new_side(
    vecfleet: Vecfleet, database: Database, verified: JobTable
) -> None:
    assert vecfleet("cutover", "1", "--percent", "100").code == 0
    refuse(vecfleet, database, "rollback", "1", "--yes", says="readers are cut over at 100 %")


@pytest.mark.parametrize(
    ("job", "goes_back_by"),
    [
        ({"state": "planned"}, "cancel 1"),
        ({"state": "running"}, "cancel 1"),
        ({"state": "running", "cut_over_percent": 100}, "reverse 1"),
        ({"state": "copied"}, "rollback 1"),
        ({"state": "copied", "resume_to": "cleaning", "cut_over_percent": 100}, "cancel 1"),
        ({"state": "verified"}, "rollback 1"),
        ({"state": "verified", "cut_over_percent": 5}, "reverse 1"),
        ({"state": "cut_over", "cut_over_percent": 100}, "reverse 1"),
        ({"state": "cleaning", "cut_over_percent": 100}, "status 1 --watch"),
        ({"state": "needs_attention", "resume_to": "running"}, "rollback 1"),
        ({"state": "needs_attention", "resume_to": "copied", "cut_over_percent": 100}, "reverse 1"),
        ({"state": "needs_attention", "resume_to": "cleaning", "cut_over_percent": 100}, "cancel 1"),
        ({"state": "needs_attention", "resume_to": "rolling_back"}, "rollback 1"),
        ({"state": "pausing", "resume_to": "copied"}, "cancel 1"),
        ({"state": "pausing", "resume_to": "copied", "cut_over_percent": 100}, "reverse 1"),
        ({"state": "pausing", "resume_to": "cleaning", "cut_over_percent": 100}, "cancel 1"),
        ({"state": "paused", "resume_to": "copied"}, "cancel 1"),
        ({"state": "paused", "resume_to": "copied", "cut_over_percent": 100}, "reverse 1"),
        ({"state": "paused", "resume_to": "cleaning", "cut_over_percent": 100}, "cancel 1"),
        ({"state": "paused", "resume_to": "rolling_back"}, "cancel 1"),
        ({"state": "cancelling"}, "status 1 --watch"),
        ({"state": "rolling_back"}, "status 1 --watch"),
    ],
)
def test_a_way_back_is_not_planned_before_its_job_has_ended(
    vecfleet: Vecfleet, database: Database, verified: JobTable, job: dict[str, Any], goes_back_by: str
) -> None:
    """Such a plan was made without a word, and refused when it was applied: the job holds its namespaces."""
    verified.put(**job)
    refuse(vecfleet, database, "plan", "reverse", "1", says="and has not ended")
    assert vecfleet("plan", "reverse", "1").err.endswith(f"\nnext: vecfleet {goes_back_by}\n")
    # And the command that it names is not refused in turn
    words = goes_back_by.removesuffix(" --watch").split()
    assert vecfleet(*words, *(["--yes"] if words[0] in ("cancel", "rollback") else [])).code == 0


def test_rolling_back_says_what_it_deletes(vecfleet: Vecfleet, verified: JobTable) -> None:
    answer = vecfleet("rollback", "1", "--yes")
    assert answer.code == 0
    assert "up to 4 records that job 1 wrote, each only if nobody changed it since" in answer.out
    assert verified.job.state is JobState.ROLLING_BACK
    # And asked again it is not sent to a command that refuses
    again = vecfleet("rollback", "1", "--yes")
    assert again.code == 3
    assert "next: vecfleet status 1\n" in again.err
    assert "cancel" not in again.err


@pytest.mark.parametrize(
    ("words", "says"), [(("rollback", "1"), "before clean-up"), (("cancel", "1"), "cannot be cancelled")]
)
def test_what_a_cleaned_job_refuses_is_neither_announced_nor_asked(
    vecfleet: Vecfleet, database: Database, verified: JobTable, words: tuple[str, ...], says: str
) -> None:
    verified.put(state="cleaned")
    for yes in ((), ("--yes",)):
        assert vecfleet(*words, *yes).out == ""
        refuse(vecfleet, database, *words, *yes, says=says)


def test_cancelling_a_clean_up_says_that_what_is_deleted_stays_deleted(vecfleet: Vecfleet, verified: JobTable) -> None:
    assert "its sources are untouched" in vecfleet("cancel", "1").out
    verified.put(state="paused", resume_to="cleaning")
    told = vecfleet("cancel", "1").out
    assert "what it deleted from its sources stays deleted" in told
    assert "untouched" not in told and "roll back" not in told


def test_each_act_is_audited_with_the_person(vecfleet: Vecfleet, database: Database, verified: JobTable) -> None:
    for words in (("cutover", "1", "--percent", "100"), ("reverse", "1"), ("set", "1", "pace", "0.8")):
        assert vecfleet(*words).code == 0
    with database.begin() as connection:
        rows = connection.execute(sa.select(t.audit.c.action, t.audit.c.who).order_by(t.audit.c.id)).all()
    assert [row.action for row in rows] == ["cut over", "reverse", "set"]
    assert all(row.who for row in rows)


def test_pausing_resuming_and_cancelling(vecfleet: Vecfleet, table: JobTable) -> None:
    table.apply(plan_of(planned("s", "t")))
    table.start()
    assert vecfleet("pause", "1").code == 0
    table.advance()
    # Then the way on is shown
    paused = vecfleet("status", "1", "--json").json
    assert (paused["state"], paused["next_steps"][0]) == ("paused", "vecfleet resume 1")
    assert vecfleet("resume", "1").code == 0
    assert table.job.state is JobState.RUNNING
    assert vecfleet("cancel", "1", "--yes").code == 0
    table.advance()
    assert table.job.state is JobState.CANCELLED


def test_retrying_runs_failed_batches_and_only_those(vecfleet: Vecfleet, table: JobTable) -> None:
    # Given two batches, one parked
    table.apply(plan_of(planned("s", "t", 2)))
    table.listed({"s": [["a"], ["b"]]})
    good, bad = table.take()
    table.copy(good)
    table.park(bad, "no retry helps")
    table.advance()
    assert vecfleet("status", "1", "--json").json["next_steps"] == ["vecfleet park list 1", "vecfleet retry 1 failed"]
    # When
    answer = vecfleet("retry", "1", "failed")
    # Then
    assert "1 batch was released to run again" in answer.out
    assert {row.id: row.state for row in table.rows(BatchKind.COPY)} == {good.id: "done", bad.id: "ready"}


def test_of_several_failed_batches_one_may_be_retried(vecfleet: Vecfleet, table: JobTable) -> None:
    # Given two parked batches
    table.apply(plan_of(planned("s", "t", 2)))
    table.listed({"s": [["a"], ["b"]]})
    one, other = table.take()
    table.park(one, "its cause is gone")
    table.park(other, "no retry helps")
    table.advance()
    # When one that is none of them is named, then nothing is run
    told = vecfleet("retry", "1", "failed", "--batch", "99")
    assert told.code == 3 and "batch 99 of job 1 is not parked" in told.err
    assert {row.state for row in table.rows(BatchKind.COPY)} == {"parked"}
    told = vecfleet("retry", "1", "parked", "--batch", str(one.id))
    assert told.code == 2 and "--batch names parked batches" in told.err
    # When one of them is, then it runs alone
    vecfleet("retry", "1", "failed", "--batch", str(one.id))
    assert {row.id: row.state for row in table.rows(BatchKind.COPY)} == {one.id: "ready", other.id: "parked"}


def test_a_plan_that_would_park_records_is_followed_by_the_command_that_moves_them(
    vecfleet: Vecfleet, brain: Brain
) -> None:
    # Given a record that holds another creator than the plan adds
    brain.write("first", "held", creator_id="somebody")
    typed = ("plan", "creators", "brain", "--creator", "ana", "--out", "plan.yaml")
    # When it is planned, then the way that moves it is a whole command
    told = vecfleet(*typed)
    assert told.out.endswith(f"  or: vecfleet {' '.join(typed)} --conflicts keep\n"), told
    # And typed, it has nothing more to say
    again = vecfleet(*typed, "--conflicts", "keep", "--json")
    assert again.code == 0 and len(again.json["next_steps"]) == 2, again
    # And each plan knows what was typed, without its file
    assert again.json["plan"]["command"] == [*typed[:5], "--conflicts", "keep"]
    assert f"made by: vecfleet {' '.join(typed[:5])} --conflicts keep\n" in vecfleet("show", "plan.yaml").out


def test_a_plan_does_not_keep_a_command_line_that_names_a_place_of_one_machine(
    vecfleet: Vecfleet, brain: Brain
) -> None:
    brain.write("first", "a")
    typed = ("plan", "creators", "brain", "--creator", "ana")
    planned = vecfleet(*typed, "--out=plan.yaml", "--review-namespace", "/review", "--json")
    assert planned.json["plan"]["command"] == []
    assert "made by" not in vecfleet("show", "plan.yaml").out
