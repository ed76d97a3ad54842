"""The commands that a job proposes: each state and each call for attention has its own."""

from datetime import timedelta
from typing import Any

import pytest
from readings import BACK, NOW, STARTED, WATCH, job, policies, proof, reading, totals

from orchestrator.core.next_steps import going_back, moving_on, next_steps
from orchestrator.core.progress import progress
from orchestrator.core.reading import ClientGroup, Reading
from orchestrator.core.states import JobState, MoveState
from vecfleet.stores.base import Usage

ANOTHER_PLAN = "vecfleet rollback 7"
ASKING = ClientGroup("t", "vm", 2, freezes=True, seen_at=NOW)


OF_STATES: list[tuple[Reading, tuple[str, ...]]] = [
    (reading(JobState.PLANNED), (WATCH,)),
    (reading(JobState.RUNNING), (WATCH,)),
    (reading(JobState.COPIED), (WATCH,)),
    (reading(JobState.CLEANING), (WATCH,)),
    (reading(JobState.ROLLING_BACK), (WATCH,)),
    (reading(JobState.PAUSING), (WATCH,)),
    (reading(JobState.CANCELLING), (WATCH,)),
    (reading(JobState.PAUSED), ("vecfleet resume 7", "vecfleet cancel 7")),
    (
        reading(JobState.PAUSED, reason="worker process 7 on vm: there is no account 'pinecone@eu' here"),
        ("vecfleet doctor", "vecfleet resume 7", "vecfleet cancel 7"),
    ),
    (reading(JobState.PAUSED, spent=Usage(read_units=7_500)), ("vecfleet resume 7", "vecfleet cancel 7")),
    (
        reading(JobState.PAUSED, spent=Usage(read_units=8_000)),  # a small job is expected to use 5,000
        ("vecfleet set 7 budget 4", "vecfleet resume 7", "vecfleet cancel 7"),
    ),
    (
        reading(
            JobState.PAUSED,
            resume_to=JobState.COPIED,
            passes=5,
            policies=policies(writers="dual"),
            spent=Usage(read_units=8_000),
        ),
        ("vecfleet set 7 budget 4", "vecfleet set 7 passes 10", "vecfleet resume 7", "vecfleet cancel 7"),
    ),
    (
        reading(JobState.PAUSED, resume_to=JobState.COPIED, passes=5, policies=policies(writers="dual")),
        ("vecfleet set 7 passes 10", "vecfleet resume 7", "vecfleet cancel 7"),
    ),
    (
        reading(JobState.PAUSED, confirmations=("vecfleet set 7 missing 18",)),
        ("vecfleet set 7 missing 18", "vecfleet resume 7", "vecfleet cancel 7"),
    ),
    # With readers on the new side they go back first, unless a clean-up has begun: then they stay there
    (reading(JobState.PAUSED, cut_over_percent=100), ("vecfleet resume 7", "vecfleet reverse 7")),
    (
        reading(JobState.PAUSED, cut_over_percent=100, resume_to=JobState.CLEANING),
        ("vecfleet resume 7", "vecfleet cancel 7"),
    ),
    (
        reading(
            JobState.PAUSED,
            cut_over_percent=100,
            resume_to=JobState.COPIED,
            totals=totals(namespaces={MoveState.CLEANED: 1}),
        ),
        ("vecfleet resume 7", "vecfleet cancel 7"),
    ),
    (reading(JobState.CANCELLED, cut_over_percent=100), ("vecfleet report 7",)),
    (reading(JobState.VERIFIED), ("vecfleet cutover 7 --percent 100", "vecfleet rollback 7")),
    # Of a copy both sides may stay: where nobody asks for the routes, ending it comes first
    *(
        (
            reading(JobState.VERIFIED, recipe=recipe),
            ("vecfleet finish 7", "vecfleet cutover 7 --percent 100", "vecfleet rollback 7"),
        )
        for recipe in ("namespaces", "index", "stores")
    ),
    (
        reading(JobState.VERIFIED, recipe="namespaces", clients=(ASKING,)),
        ("vecfleet cutover 7 --percent 100", "vecfleet finish 7", "vecfleet rollback 7"),
    ),
    (reading(JobState.VERIFIED, cut_over_percent=5), ("vecfleet cutover 7 --percent 100", "vecfleet reverse 7")),
    (
        reading(JobState.VERIFIED, cut_over_percent=25, watched_until=NOW + timedelta(hours=1)),
        ("vecfleet report 7", "vecfleet reverse 7"),
    ),
    (
        reading(JobState.VERIFIED, policies=policies(cut_over="none")),
        ("vecfleet finish 7", "vecfleet cleanup 7", "vecfleet rollback 7"),
    ),
    (
        reading(JobState.VERIFIED, policies=policies(cut_over="none"), recipe="reverse"),
        ("vecfleet cleanup 7", "vecfleet finish 7", "vecfleet rollback 7"),
    ),
    *(
        (
            reading(JobState.VERIFIED, policies=policies(cut_over="none", writers="delta"), recipe=recipe),
            ("vecfleet pass 7", "vecfleet finish 7", "vecfleet rollback 7"),
        )
        for recipe in ("namespaces", "index", "stores", "export")  # whose source applications still write to
    ),
    (
        reading(JobState.VERIFIED, policies=policies(cut_over="none", writers="delta"), recipe="reverse"),
        ("vecfleet cleanup 7", "vecfleet finish 7", "vecfleet rollback 7"),
    ),
    (
        reading(JobState.VERIFIED, policies=policies(writers="delta"), recipe="index"),
        ("vecfleet pass 7", "vecfleet finish 7", "vecfleet cutover 7 --percent 100", "vecfleet rollback 7"),
    ),
    (
        reading(JobState.VERIFIED, verified_at=STARTED, policies=policies(cut_over="none", soak_seconds=3_600)),
        ("vecfleet finish 7", "vecfleet cleanup 7", "vecfleet rollback 7"),
    ),
    (
        reading(JobState.VERIFIED, policies=policies(cut_over="none"), proof=proof(NOW, BACK)),
        ("vecfleet cutover 7 --percent 100", "vecfleet rollback 7"),
    ),
    (
        reading(
            JobState.CUT_OVER,
            cut_over_percent=100,
            cut_over_at=STARTED,
            policies=policies(cut_over="none", soak_seconds=3_600),
        ),
        ("vecfleet report 7", "vecfleet reverse 7", "vecfleet finish 7"),
    ),
    (reading(JobState.VERIFIED, empty_targets=1), ("vecfleet park undo 7 --all", "vecfleet rollback 7")),
    (reading(JobState.VERIFIED, policies=policies(cut_over="auto")), (WATCH,)),
    (
        reading(JobState.VERIFIED, policies=policies(cut_over="auto"), proof=proof(NOW, BACK)),
        ("vecfleet cutover 7 --percent 100", "vecfleet rollback 7"),
    ),
    (reading(JobState.VERIFIED, proof=proof(STARTED, BACK)), ("vecfleet verify 7", "vecfleet rollback 7")),
    (
        reading(JobState.VERIFIED, cut_over_percent=5, proof=proof(NOW - timedelta(hours=25))),
        ("vecfleet verify 7", "vecfleet reverse 7"),
    ),
    (
        reading(JobState.VERIFIED, policies=policies(writers="delta"), proof=proof(NOW, BACK)),
        ("vecfleet pass 7", "vecfleet rollback 7"),
    ),
    (reading(JobState.VERIFIED, cut_over_percent=100), (WATCH, "vecfleet reverse 7")),
    (
        reading(JobState.CUT_OVER, cut_over_at=STARTED),
        ("vecfleet cleanup 7", "vecfleet reverse 7", "vecfleet finish 7"),
    ),
    (
        reading(JobState.CUT_OVER, cut_over_at=STARTED, policies=policies(soak_seconds=3_600)),
        ("vecfleet report 7", "vecfleet reverse 7", "vecfleet finish 7"),
    ),
    (reading(JobState.CUT_OVER, policies=policies(clean_up="auto")), (WATCH, "vecfleet reverse 7")),
    (reading(JobState.CUT_OVER, cleaning_at=STARTED), (WATCH,)),
    (
        reading(JobState.VERIFIED, cleaning_at=STARTED, reason="the policy waits: t has no verdict"),
        ("vecfleet verify 7", WATCH),
    ),
    (
        reading(
            JobState.CUT_OVER,
            cleaning_at=STARTED,
            reason="the policy waits: 1 batch is parked",
            parked_batches=1,
        ),
        ("vecfleet park list 7", "vecfleet verify 7", WATCH),
    ),
    (reading(JobState.CLEANED), ("vecfleet report 7",)),
    (reading(JobState.ROLLED_BACK), ("vecfleet report 7",)),
    (reading(JobState.CANCELLED), ("vecfleet report 7", "vecfleet rollback 7")),
    (reading(JobState.FINISHED), ("vecfleet report 7", "vecfleet rollback 7")),
    (reading(JobState.FINISHED, cut_over_percent=100), ("vecfleet report 7",)),
    # Records that need another plan: on the way to it each step leads to the next one
    (reading(JobState.CANCELLED, conflicting=194), ("vecfleet rollback 7", "vecfleet report 7")),
    (
        reading(JobState.ROLLED_BACK, conflicting=194),
        ("vecfleet plan creators --help", "vecfleet report 7"),
    ),
]


@pytest.mark.parametrize(("seen", "steps"), OF_STATES)
def test_each_state_has_its_next_steps(seen: Reading, steps: tuple[str, ...]) -> None:
    assert next_steps(seen) == steps


@pytest.mark.parametrize(
    ("given", "step"),
    [
        ({}, "vecfleet cutover 7 --percent 100"),
        ({"recipe": "namespaces"}, "vecfleet cutover 7 --percent 100"),
        ({"policies": policies(cut_over="auto")}, "vecfleet status 7 --watch"),
        ({"proof": proof(STARTED, BACK)}, "vecfleet verify 7"),
        ({"proof": proof(NOW, BACK), "policies": policies(writers="delta")}, "vecfleet pass 7"),
        ({"empty_targets": 1}, "vecfleet park undo 7 --all"),
        ({"cut_over_percent": 50, "watched_until": NOW + timedelta(hours=1)}, "vecfleet status 7"),
    ],
)
def test_who_wants_all_readers_moved_is_told_what_is_due_first(given: dict[str, Any], step: str) -> None:
    assert moving_on(reading(JobState.VERIFIED, **given)) == step


@pytest.mark.parametrize(
    ("state", "percent", "deleting", "step"),
    [
        (JobState.PLANNED, 0, False, "vecfleet cancel 7"),
        (JobState.COPIED, 0, False, "vecfleet rollback 7"),
        (JobState.COPIED, 100, False, "vecfleet reverse 7"),
        (JobState.NEEDS_ATTENTION, 0, False, "vecfleet rollback 7"),
        (JobState.NEEDS_ATTENTION, 100, True, "vecfleet cancel 7"),
        (JobState.CUT_OVER, 100, True, WATCH),  # its clean-up goes on by itself
        (JobState.CANCELLING, 0, False, WATCH),
    ],
)
def test_a_job_that_has_not_ended_is_taken_back_as_its_state_allows(
    state: JobState, percent: int, deleting: bool, step: str
) -> None:
    assert going_back(job(state, cut_over_percent=percent), deleting=deleting) == step


OF_ATTENTION: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"parked_batches": 2}, ("vecfleet park list 7", "vecfleet retry 7 failed")),
    (
        {"undecided": 3},
        ("vecfleet park list 7", "vecfleet park accept 7 --all", "vecfleet retry 7 parked"),
    ),
    (
        {"undecided": 3, "conflicting": 2},
        ("vecfleet park list 7", "vecfleet park accept 7 --all", "vecfleet retry 7 parked", ANOTHER_PLAN),
    ),
    (
        {"undecided": 3, "conflicting": 3},
        ("vecfleet park list 7", "vecfleet park accept 7 --all", ANOTHER_PLAN),
    ),
    ({"targets": {"mismatched": 1}}, ("vecfleet report 7", "vecfleet verify 7", "vecfleet rollback 7")),
    ({"resume_to": JobState.COPIED, "targets": {"empty": 1}}, ("vecfleet report 7", "vecfleet cancel 7")),
    (
        {"resume_to": JobState.COPIED, "totals": totals(left_behind=9)},
        ("vecfleet report 7", "vecfleet park undo 7 --all", "vecfleet cancel 7"),
    ),
    ({"resume_to": JobState.ROLLING_BACK}, ("vecfleet rollback 7 --changed keep",)),
    ({"resume_to": JobState.CLEANING}, ("vecfleet cleanup 7",)),
    (
        {"resume_to": JobState.CLEANING, "parked_batches": 1},
        ("vecfleet park list 7", "vecfleet retry 7 failed", "vecfleet finish 7"),
    ),
    (
        {
            "resume_to": JobState.CLEANING,
            "parked_batches": 1,
            "confirmations": ("vecfleet set 7 missing 4 --target t",),
        },
        (
            "vecfleet park list 7",
            "vecfleet set 7 missing 4 --target t",
            "vecfleet retry 7 failed",
            "vecfleet finish 7",
        ),
    ),
]


@pytest.mark.parametrize(("given", "steps"), OF_ATTENTION)
def test_each_call_for_attention_has_its_own_way_out(given: dict[str, Any], steps: tuple[str, ...]) -> None:
    assert next_steps(reading(JobState.NEEDS_ATTENTION, **given)) == steps


@pytest.mark.parametrize("state", JobState)
def test_no_state_leaves_a_person_without_a_next_step(state: JobState) -> None:
    assert next_steps(reading(state))
    assert progress(reading(state)).to_json()["next_steps"]


@pytest.mark.parametrize("seen", [seen for seen, _ in OF_STATES])
def test_no_status_leads_to_itself_and_no_step_is_more_than_a_command(seen: Reading) -> None:
    for step in next_steps(seen):
        assert step != "vecfleet status 7" and "#" not in step
