"""Parked records: shown by their reasons, left behind by name only where it is much, and taken back until clean-up."""

import sys

import pytest
from job_table import JobTable, plan_of, planned
from terminal import Vecfleet, contents

from orchestrator.bootstrap import Fleet
from orchestrator.core.states import BatchKind, JobState
from orchestrator.ledger import jobs, moves
from orchestrator.ledger.database import Database
from vecfleet.stores.memory import MemoryStore

TWELVE = [f"r{number:02}" for number in range(12)]


def check_all(table: JobTable) -> None:
    """Let the job go on until every target is checked."""
    for _ in range(3):
        table.advance(2)
        for lease in table.take():
            table.check(lease)


@pytest.fixture
def refused(table: JobTable) -> JobTable:
    """A job of two namespaces: `u` is copied, and of `s` the service refused all twelve records."""
    table.apply(plan_of(planned("s", "t", 12), planned("u", "v", 2), soak_seconds=0))
    table.listed({"s": [TWELVE], "u": [["a", "b"]]})
    sources = {move.id: move.source for move in table.moves.values()}
    for lease in table.take():
        if sources[lease.move_id or 0] == "u":
            table.copy(lease, "v")
        else:
            table.target(lease, "t")
            table.copy(lease, wrote=[], parked=TWELVE)
    check_all(table)
    assert table.job.state is JobState.NEEDS_ATTENTION
    return table


@pytest.fixture
def left(vecfleet: Vecfleet, refused: JobTable) -> JobTable:
    """The same job, verified, for a person left all twelve behind."""
    assert vecfleet("park", "accept", "1", "--all", "--yes").code == 0
    refused.advance(2)
    assert refused.job.state is JobState.VERIFIED
    return refused


def test_leaving_much_behind_needs_the_name_of_the_index_and_changes_nothing_without(
    vecfleet: Vecfleet, database: Database, refused: JobTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(database)
    # Nobody is at the terminal
    answer = vecfleet("park", "accept", "1", "--all")
    assert answer.code == 3 and "next: vecfleet park accept 1 --all --yes" in answer.err
    assert "12 of the 12 records of s would stay behind" in answer.out
    # Somebody types another name
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("typer.prompt", lambda question: "yes")
    assert vecfleet("park", "accept", "1", "--all").code == 3
    assert contents(database) == before
    # And the right one
    monkeypatch.setattr("typer.prompt", lambda question: question.split()[1])
    answer = vecfleet("park", "accept", "1", "--all")
    assert answer.code == 0 and "12 records stay behind" in answer.out
    assert refused.moves["s"].left_behind == 12


def test_a_few_are_left_behind_without_more_words(vecfleet: Vecfleet, refused: JobTable) -> None:
    assert vecfleet("park", "accept", "1", *TWELVE[:6]).code == 0
    # But not one by one until it is much
    assert vecfleet("park", "accept", "1", TWELVE[6]).code == 3
    assert refused.moves["s"].left_behind == 6


def test_verified_does_not_cover_what_was_left_behind(vecfleet: Vecfleet, left: JobTable) -> None:
    status = vecfleet("status", "1").out
    assert status.startswith("job 1 verified, 12 left behind: 1 of 2 namespaces (50 %)")
    assert "verified, 12 left behind" in next(line for line in status.splitlines() if line.startswith("s "))
    [row] = [line.split() for line in vecfleet("jobs").out.splitlines() if line.startswith("  1")]
    assert row[1:5] == ["verified,", "12", "left", "behind"]
    assert row[5:11] == ["creators", "in", "digital-twin-brain", "14", "2", "0"]
    seen = vecfleet("jobs", "--json").json["jobs"][0]
    assert (seen["done"], seen["parked"], seen["left_behind"]) == (2, 0, 12)


def test_readers_move_to_no_target_that_is_empty_because_its_records_were_left_behind(
    vecfleet: Vecfleet, database: Database, left: JobTable
) -> None:
    before = contents(database)
    answer = vecfleet("cutover", "1", "--percent", "100")
    assert answer.code == 3 and contents(database) == before
    assert "t is empty: 12 records meant for it were left behind, and its readers would find nothing" in answer.err
    assert vecfleet("status", "1", "--json").json["next_steps"][0] == "vecfleet park undo 1 --all"


def test_what_stays_behind_is_taken_back_copied_and_then_readers_move(vecfleet: Vecfleet, left: JobTable) -> None:
    # When a person takes it back
    answer = vecfleet("park", "undo", "1", "--all")
    assert answer.code == 0 and "next: vecfleet retry 1 parked" in answer.out
    # Then the job is no longer verified, and asks for a decision
    left.advance(1)
    assert (left.job.state, left.job.reason) == (
        JobState.NEEDS_ATTENTION,
        "12 parked records wait for a decision",
    )
    # And what is copied now is verified, and its readers move
    assert vecfleet("retry", "1", "parked").code == 0
    [lease] = left.take()
    left.copy(lease, wrote=TWELVE[2:], parked=TWELVE[:2])
    assert vecfleet("park", "accept", "1", "--all").code == 0
    check_all(left)
    assert left.job.state is JobState.VERIFIED
    answer = vecfleet("cutover", "1", "--percent", "100")
    assert answer.code == 0
    # And that two are not there is said once more
    assert "2 records were left behind: readers of the new namespaces do not find them" in answer.out
    # Until clean-up it can be taken back, and then not
    assert vecfleet("cleanup", "1", "--yes").code == 0
    refusal = vecfleet("park", "undo", "1", "--all")
    assert refusal.code == 3 and "decisions to leave records behind can be changed until clean-up" in refusal.err


def test_taking_back_what_nobody_left_behind_is_refused(vecfleet: Vecfleet, refused: JobTable) -> None:
    answer = vecfleet("park", "undo", "1", TWELVE[0])
    assert answer.code == 3 and "no such record of job 1 was left behind" in answer.err
    assert vecfleet("park", "undo", "1").code == 2


def test_what_is_parked_is_grouped_by_its_reason_and_a_cut_list_says_so(
    vecfleet: Vecfleet, refused: JobTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = vecfleet("park", "list", "1", "--limit", "5").out
    assert "12 records in s: a poisoned record" in listed
    assert "… the first 5 of 12 records; `--limit 12` lists all" in listed
    found = vecfleet("park", "list", "1", "--limit", "5", "--json").json
    assert (len(found["records"]), found["records_in_all"]) == (5, 12)
    assert [(group["count"], group["undecided"], group["reason"]) for group in found["reasons"]] == [
        (12, 12, "a poisoned record")
    ]
    assert "parked: 12 records in s: a poisoned record" in vecfleet("status", "1").out
    monkeypatch.setattr(Fleet, "store_named", lambda fleet, name: MemoryStore())
    assert vecfleet("report", "1").out.count("a poisoned record") == 1


def test_reasons_that_differ_in_a_number_or_a_name_stand_together(vecfleet: Vecfleet, table: JobTable) -> None:
    table.apply(plan_of(planned("s", "t", 3), planned("u", "v", 1)))
    table.listed({"s": [["a"], ["b"], ["c"]], "u": [["d"]]})
    reasons = {"a": "41,233 bytes of 'x' are too many", "b": "7 bytes of 'y' are too many"}
    for lease in table.take():
        table.park(lease, reasons.get(table.ids(lease)[0], "it is locked"))
    table.advance()
    groups = vecfleet("park", "list", "1", "--json").json["reasons"]
    assert {(group["reason"], group["count"], group["namespaces"]) for group in groups} == {
        ("… bytes of … are too many", 2, 1),
        ("it is locked", 2, 2),
    }
    assert "parked: 2 copy batches in 2 namespaces: it is locked" in vecfleet("status", "1").out


def test_a_failed_job_is_not_done(vecfleet: Vecfleet, table: JobTable) -> None:
    table.apply(plan_of(planned("s", "t", 4)))
    table.listed({"s": [["a", "b"], ["c", "d"]]})
    for lease in table.take():
        table.park(lease)
    table.advance()
    [job] = vecfleet("jobs", "--json").json["jobs"]
    assert (job["records"], job["done"], job["parked"]) == (4, 0, 4)
    assert "copying 0 of 4 records (0 %)" in vecfleet("status", "1").out


def test_a_batch_of_a_clean_up_leaves_no_record_behind_and_says_what_else_helps(
    vecfleet: Vecfleet, table: JobTable
) -> None:
    # Given a clean-up one of whose batches was refused by a guard
    table.apply(plan_of(planned("s", "t", 2), soak_seconds=0, cut_over="none"))
    table.verified()
    assert vecfleet("cleanup", "1", "--yes", "--by-ids").code == 0
    [lease] = [lease for lease in table.take() if lease.kind is BatchKind.REMOVE]
    table.park(lease, "2 records vanished")
    # Then leaving its records behind is no answer, and finishing the job is
    answer = vecfleet("park", "accept", "1", "--batch", str(lease.id))
    assert answer.code == 3
    assert f"batch {lease.id} is a remove batch, and only copy batches leave records behind" in answer.err
    assert "or `vecfleet finish 1`: the sources that are left stay" in answer.err


def test_a_policy_that_waits_keeps_what_the_reason_said_before(table: JobTable) -> None:
    # Given a job whose reason says something, and a policy that a guard stops
    table.apply(plan_of(planned("s", "t", 2), cut_over="auto"))
    table.verified()
    with table.begin() as connection:
        jobs.set_reason(connection, 1, "a worker may have written late")
    hold_back_verdicts(table)
    # When the policy is tried, again and again
    table.advance(3)
    # Then both are told, once
    reason = table.job.reason or ""
    assert reason.startswith("the policy waits: ") and reason.endswith(". Before: a worker may have written late")
    assert reason.count("the policy waits") == reason.count("Before") == 1


def hold_back_verdicts(table: JobTable) -> None:
    """An upsert without an answer may still land: readers may not move."""
    with table.begin() as connection:
        for target in table.targets.values():
            moves.note_landing(connection, target.id, 3_600)
