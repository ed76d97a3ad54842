"""The next commands of a job: tables of (what the job table says, the time) → commands. No database, clock or wait."""

from collections.abc import Mapping
from datetime import timedelta

import pytest
from snapshots import NOW, Batches, snapshot

from migrations.plan import Policies
from orchestrator.core.deciding import (
    AddClears,
    AddDrops,
    AddUndos,
    CheckAgain,
    CheckTargets,
    CleanUp,
    Command,
    CutOver,
    Freeze,
    JobSnapshot,
    Repair,
    Start,
    To,
    decide,
)
from orchestrator.core.reading import RollBackProgress
from orchestrator.core.states import JOB_ENDED, JOB_PAUSABLE, BatchKind, BatchState, JobState, MoveState

J, K, B, M = JobState, BatchKind, BatchState, MoveState


def attention(commands: list[Command]) -> To:
    """The one command: the job needs a person. Its reason is the sentence that a person reads."""
    (command,) = commands
    assert isinstance(command, To) and command.state is J.NEEDS_ATTENTION
    assert command.reason
    return command


AUTO = Policies(cut_over="auto", clean_up="auto", soak_seconds=3_600)
NO_READERS = Policies(cut_over="none", clean_up="auto", soak_seconds=3_600)
BY_HAND = Policies()


@pytest.mark.parametrize(
    ("given_snapshot", "expected"),
    [
        pytest.param(snapshot(J.PLANNED), [Start(), To(J.RUNNING)], id="a planned job starts"),
        pytest.param(
            snapshot(J.PLANNED, may_write=True),
            [Freeze()],
            id="where a client may write by routes from before the freeze, the freeze is dated first",
        ),
        pytest.param(
            snapshot(J.PLANNED, may_write=True, frozen_at=NOW - timedelta(seconds=59), routes_stale_s=60.0),
            [],
            id="and the job waits until no client may use such routes",
        ),
        pytest.param(
            snapshot(J.PLANNED, may_write=True, frozen_at=NOW - timedelta(seconds=60), routes_stale_s=60.0),
            [Start(), To(J.RUNNING)],
            id="then it starts, whoever asks for routes meanwhile: they are of the freeze",
        ),
        pytest.param(
            snapshot(J.PLANNED, source_lag_s=1.0),
            [],
            id="a frozen source is read once, so not before reads show what was written last",
        ),
        pytest.param(
            snapshot(J.PLANNED, created_at=NOW - timedelta(seconds=60), source_lag_s=60.0),
            [Start(), To(J.RUNNING)],
            id="one freshness wait later it is read",
        ),
        pytest.param(
            snapshot(J.PLANNED, frozen_at=NOW - timedelta(seconds=60), routes_stale_s=60.0, source_lag_s=1.0),
            [],
            id="which counts from when no client may use older routes",
        ),
        pytest.param(
            snapshot(J.PLANNED, policies=Policies(writers="delta"), source_lag_s=60.0),
            [Start(), To(J.RUNNING)],
            id="what passes follow is read at once",
        ),
        pytest.param(
            snapshot(J.RUNNING, batches={(K.LIST, B.LEASED): 1}),
            [CheckTargets()],
            id="while it lists, what is copied is checked",
        ),
        pytest.param(
            snapshot(J.RUNNING, batches={(K.COPY, B.READY): 1}), [CheckTargets()], id="a waiting batch is not landed"
        ),
        pytest.param(
            snapshot(J.RUNNING, batches={(K.COPY, B.READY): 1, (K.COPY, B.PARKED): 1}),
            [CheckTargets()],
            id="a parked batch does not stop the others",
        ),
        pytest.param(snapshot(J.RUNNING), [To(J.COPIED)], id="with nothing left to copy it is copied"),
        pytest.param(
            snapshot(J.RUNNING, batches={(K.VERIFY, B.READY): 3}), [To(J.COPIED)], id="checks go on while it is copied"
        ),
        pytest.param(
            snapshot(J.COPIED, batches={(K.COPY, B.READY): 1}),
            [To(J.RUNNING, "batches are open again")],
            id="a copied job with an open batch runs again",
        ),
        pytest.param(snapshot(J.COPIED, void=(7,)), [CheckAgain((7,))], id="a void verdict is made again"),
        pytest.param(
            snapshot(J.COPIED, targets={"waiting": 1, "verified": 5}),
            [CheckTargets()],
            id="a target that waits is checked",
        ),
        pytest.param(
            snapshot(J.COPIED, targets={"checking": 1}, batches={(K.VERIFY, B.LEASED): 1}),
            [],
            id="a check that is under way is waited for",
        ),
        pytest.param(
            snapshot(J.COPIED, targets={"checking": 1}, batches={(K.VERIFY, B.PARKED): 1, (K.SURVEY, B.READY): 1}),
            [],
            id="a parked check does not stop the others",
        ),
        pytest.param(
            snapshot(J.COPIED, targets={"mismatched": 2}, differing=3),
            [Repair(), To(J.RUNNING, "repairing 2 targets that differ")],
            id="differences are repaired",
        ),
        pytest.param(
            snapshot(J.COPIED, targets={"verified": 30}), [To(J.VERIFIED)], id="all targets verified: verified"
        ),
        pytest.param(snapshot(J.VERIFIED), [], id="a verified job waits for its operator"),
        pytest.param(
            snapshot(J.VERIFIED, void=(7, 8)),
            [CheckAgain((7, 8)), To(J.COPIED, "a target was written to after its verdict")],
            id="a late write takes the verdict back",
        ),
        pytest.param(
            snapshot(J.CUT_OVER, void=(7,), policies=AUTO, cut_over_at=NOW - timedelta(days=9)),
            [CheckAgain((7,)), To(J.COPIED, "a target was written to after its verdict")],
            id="a late write comes before clean-up",
        ),
        pytest.param(snapshot(J.VERIFIED, policies=AUTO), [CutOver()], id="the policy cuts over"),
        pytest.param(snapshot(J.CLEANING, moves={M.CLEANING: 1}), [AddClears()], id="cleaning goes on"),
        pytest.param(
            snapshot(J.CLEANING, moves={M.CLEANED: 30}, batches={(K.REMOVE, B.LEASED): 1}),
            [AddClears()],
            id="cleaning waits for the last deletion",
        ),
        pytest.param(snapshot(J.CLEANING, moves={M.CLEANED: 30}), [To(J.CLEANED)], id="all sources gone: cleaned"),
        pytest.param(
            snapshot(J.PAUSING, batches={(K.COPY, B.LEASED): 1}), [], id="a pause waits for what is in flight"
        ),
        pytest.param(
            snapshot(J.PAUSING, batches={(K.COPY, B.READY): 9}, reason="lunch", resume_to=J.CLEANING),
            [To(J.PAUSED, "lunch", J.CLEANING)],
            id="with nothing in flight the pause is so, and remembers why and what it interrupted",
        ),
        pytest.param(snapshot(J.PAUSED, batches={(K.COPY, B.READY): 9}), [], id="a paused job stays paused"),
        pytest.param(
            snapshot(J.CANCELLING, batches={(K.COPY, B.LEASED): 1}), [], id="cancelling waits for what is in flight"
        ),
        pytest.param(
            snapshot(J.CANCELLING, batches={(K.COPY, B.READY): 9}, reason="cancelled by ana"),
            [To(J.CANCELLED, "cancelled by ana")],
            id="with nothing in flight it is cancelled",
        ),
        *(pytest.param(snapshot(state, policies=AUTO), [], id=f"{state} is the end") for state in sorted(JOB_ENDED)),
    ],
)
def test_the_next_step(given_snapshot: JobSnapshot, expected: list[Command]) -> None:
    assert decide(given_snapshot, NOW) == expected


@pytest.mark.parametrize(
    ("given_snapshot", "says", "then"),
    [
        pytest.param(
            snapshot(J.RUNNING, batches={(K.COPY, B.PARKED): 2}), "2 batches are parked", J.RUNNING, id="parked batches"
        ),
        pytest.param(
            snapshot(J.RUNNING, batches={(K.LIST, B.PARKED): 1}), "1 batch is parked", J.RUNNING, id="a parked listing"
        ),
        pytest.param(
            snapshot(J.COPIED, targets={"checking": 1}, batches={(K.VERIFY, B.PARKED): 1}),
            "1 check is parked",
            J.COPIED,
            id="a parked check",
        ),
        pytest.param(
            snapshot(J.COPIED, targets={"waiting": 1}, batches={(K.COPY, B.PARKED): 1}, moves={M.PARKED: 1}),
            "1 batch is parked",
            J.RUNNING,
            id="a target that cannot be checked because a batch into it is parked",
        ),
        pytest.param(
            snapshot(J.COPIED, targets={"mismatched": 1, "verified": 4}, differing=1, repairs=2),
            "1 target differs from its sources",
            J.COPIED,
            id="repair rounds exhausted",
        ),
        pytest.param(
            snapshot(J.COPIED, targets={"mismatched": 1}, differing=1, policies=Policies(repair_rounds=0)),
            "differ",
            J.COPIED,
            id="a plan without repairs",
        ),
        pytest.param(
            snapshot(J.COPIED, targets={"mismatched": 1}, policies=Policies(writers="dual"), quiet_passes=4),
            "1 target differs from its sources",
            J.COPIED,
            id="a target that differs under dual though nothing changes any more",
        ),
        pytest.param(
            snapshot(J.COPIED, targets={"mismatched": 1}, differing=0),
            "differ",
            J.COPIED,
            id="a difference that no batch explains",
        ),
        pytest.param(
            snapshot(J.COPIED, targets={"verified": 3}, undecided=4),
            "4 parked records wait for a decision",
            J.COPIED,
            id="undecided records",
        ),
        pytest.param(snapshot(J.COPIED), "nothing was copied", J.COPIED, id="zero targets are no proof"),
        pytest.param(
            snapshot(J.COPIED, targets={"empty": 3}), "nothing was copied", J.COPIED, id="empty targets are no proof"
        ),
        pytest.param(
            snapshot(J.CLEANING, moves={M.CLEANED: 29, M.PARKED: 1}),
            "1 source was not deleted",
            J.CLEANING,
            id="a source that a guard kept",
        ),
        pytest.param(
            snapshot(J.ROLLING_BACK, batches={(K.UNDO, B.PARKED): 1}),
            "1 batch of the roll back is parked",
            J.ROLLING_BACK,
            id="a parked undo",
        ),
        pytest.param(
            snapshot(
                J.ROLLING_BACK, roll_back=RollBackProgress(compares=5, not_undone=5, drops=0, droppable=1, changed=2)
            ),
            "refused: 2 records",
            J.ROLLING_BACK,
            id="changed records stand against rolling back",
        ),
    ],
)
def test_where_no_step_helps_a_person_is_asked_with_a_sentence(
    given_snapshot: JobSnapshot, says: str, then: JobState
) -> None:
    asked = attention(decide(given_snapshot, NOW))
    assert asked.reason is not None and says in asked.reason
    assert asked.resume_to is then


@pytest.mark.parametrize("targets", [{}, {"empty": 9}, {"waiting": 1}, {"checking": 1}, {"mismatched": 1}])
def test_without_a_verified_target_no_job_is_verified(targets: Mapping[str, int]) -> None:
    commands = decide(snapshot(J.COPIED, targets=targets), NOW)
    assert To(J.VERIFIED) not in commands


@pytest.mark.parametrize("beside", ["waiting", "checking", "mismatched"])
def test_one_target_without_a_verdict_keeps_the_job_from_being_verified(beside: str) -> None:
    for differing in (0, 1):
        commands = decide(snapshot(J.COPIED, targets={"verified": 1_000, beside: 1}, differing=differing), NOW)
        assert To(J.VERIFIED) not in commands


# A person acted


@pytest.mark.parametrize(
    ("stuck", "freed", "then"),
    [
        pytest.param(
            snapshot(J.NEEDS_ATTENTION, targets={"verified": 1}, undecided=1, resume_to=J.COPIED),
            snapshot(J.NEEDS_ATTENTION, targets={"verified": 1}, undecided=0, resume_to=J.COPIED),
            J.COPIED,
            id="the parked records are accepted",
        ),
        pytest.param(
            snapshot(J.NEEDS_ATTENTION, batches={(K.COPY, B.PARKED): 1}, resume_to=J.RUNNING),
            snapshot(J.NEEDS_ATTENTION, batches={(K.COPY, B.READY): 1}, resume_to=J.RUNNING),
            J.RUNNING,
            id="the parked batch is released",
        ),
        pytest.param(
            snapshot(J.NEEDS_ATTENTION, moves={M.PARKED: 1}, resume_to=J.CLEANING),
            snapshot(J.NEEDS_ATTENTION, moves={M.CLEANING: 1}, resume_to=J.CLEANING),
            J.CLEANING,
            id="the clean-up of the parked source is released",
        ),
    ],
)
def test_a_job_that_needed_attention_goes_on_by_itself_once_what_stopped_it_is_gone(
    stuck: JobSnapshot, freed: JobSnapshot, then: JobState
) -> None:
    assert decide(stuck, NOW) == []
    assert decide(freed, NOW) == [To(then)]


def test_a_job_that_needed_attention_between_two_passes_goes_on_to_wait_for_the_next_one() -> None:
    """The time of a pass and that of the pass before can be compared."""
    between = snapshot(
        J.NEEDS_ATTENTION,
        policies=Policies(writers="delta"),
        quiet_passes=1,
        pass_ended_at=NOW,
        source_lag_s=60.0,
        resume_to=J.COPIED,
    )
    assert decide(between, NOW) == [To(J.COPIED)]


def test_a_roll_back_that_was_refused_is_never_taken_up_without_a_person() -> None:
    assert decide(snapshot(J.NEEDS_ATTENTION, resume_to=J.ROLLING_BACK), NOW) == []


def test_a_job_whose_targets_differ_beyond_repair_stays_where_it_is() -> None:
    stuck = snapshot(J.NEEDS_ATTENTION, targets={"mismatched": 1}, differing=1, repairs=2, resume_to=J.COPIED)
    assert decide(stuck, NOW) == []


# Repairs, and who has the say


def test_repairs_are_counted() -> None:
    rounds = [
        decide(snapshot(J.COPIED, targets={"mismatched": 1}, differing=1, repairs=repairs), NOW) for repairs in range(4)
    ]
    assert [Repair() in commands for commands in rounds] == [True, True, False, False]


def test_what_differs_where_nothing_may_be_repaired_is_for_a_person() -> None:
    asked = attention(decide(snapshot(J.COPIED, targets={"mismatched": 1}, differing=0), NOW))
    assert (asked.reason, asked.resume_to) == ("1 target differs from its sources", J.COPIED)


@pytest.mark.parametrize(
    ("policies", "percent", "moved", "cuts"),
    [
        (AUTO, 0, False, True),
        (AUTO, 0, True, False),  # a person reversed it
        (AUTO, 25, True, False),  # a person goes step by step
        (AUTO, 100, True, True),  # a verdict was made again meanwhile
        (BY_HAND, 100, True, True),
        (BY_HAND, 0, False, False),
        (BY_HAND, 25, True, False),
    ],
)
def test_the_policy_cuts_over_once_and_never_against_a_person(
    policies: Policies, percent: int, moved: bool, cuts: bool
) -> None:
    verified = snapshot(J.VERIFIED, policies=policies, cut_over_percent=percent, readers_moved=moved)
    assert decide(verified, NOW) == ([CutOver()] if cuts else [])


@pytest.mark.parametrize("state", list(J))
def test_a_used_up_budget_pauses_a_job_wherever_it_can_be_paused(state: JobState) -> None:
    commands = decide(snapshot(state, over_budget="the budget is used up"), NOW)
    paused = commands == [To(J.PAUSING, "the budget is used up", state)]
    assert paused is (state in JOB_PAUSABLE)


# Policies and the clock


@pytest.mark.parametrize(
    ("policies", "state", "since", "cleans"),
    [
        (AUTO, J.CUT_OVER, timedelta(minutes=59, seconds=59), False),
        (AUTO, J.CUT_OVER, timedelta(hours=1), True),
        (AUTO, J.CUT_OVER, timedelta(days=30), True),
        (AUTO.model_copy(update={"soak_seconds": 0}), J.CUT_OVER, timedelta(0), True),
        (BY_HAND, J.CUT_OVER, timedelta(days=30), False),
        (NO_READERS, J.VERIFIED, timedelta(minutes=59), False),
        (NO_READERS, J.VERIFIED, timedelta(hours=1), True),
        (NO_READERS.model_copy(update={"clean_up": "operator"}), J.VERIFIED, timedelta(days=30), False),
    ],
)
def test_the_policy_cleans_up_after_the_soak_time_and_not_before(
    policies: Policies, state: JobState, since: timedelta, cleans: bool
) -> None:
    stamp = {"verified_at": NOW - since} if state is J.VERIFIED else {"cut_over_at": NOW - since}
    stamp |= {"cut_over_percent": 0 if state is J.VERIFIED else 100}
    assert decide(snapshot(state, policies=policies, **stamp), NOW) == ([CleanUp()] if cleans else [])


@pytest.mark.parametrize("percent", [25, 0])
def test_a_plan_that_moves_no_readers_deletes_nothing_by_itself_once_a_person_moved_some(percent: int) -> None:
    moved = {"policies": NO_READERS, "readers_moved": True, "verified_at": NOW - timedelta(days=30)}
    assert decide(snapshot(J.VERIFIED, cut_over_percent=percent, **moved), NOW) == []


def test_without_the_time_of_the_cut_over_nothing_is_cleaned() -> None:
    assert decide(snapshot(J.CUT_OVER, policies=AUTO, cut_over_at=None, cut_over_percent=100), NOW) == []


# Rolling back


@pytest.mark.parametrize(
    ("progress", "batches", "expected"),
    [
        (RollBackProgress(5, 5, 0, 2, 0), {(K.COMPARE, B.LEASED): 1}, []),
        (RollBackProgress(5, 5, 0, 2, 0), {}, [AddUndos()]),
        (RollBackProgress(5, 0, 0, 2, 0), {(K.UNDO, B.READY): 1}, []),
        (RollBackProgress(5, 0, 0, 2, 0), {}, [AddDrops()]),
        (RollBackProgress(5, 0, 2, 2, 0), {(K.DROP, B.DISPATCHED): 1}, []),
        (RollBackProgress(5, 0, 2, 2, 0), {}, [To(J.ROLLED_BACK)]),
        (RollBackProgress(5, 0, 0, 0, 0), {}, [To(J.ROLLED_BACK)]),
        (RollBackProgress(0, 0, 0, 0, 0), {}, [To(J.ROLLED_BACK)]),
    ],
    ids=["comparing", "compared", "undoing", "undone", "dropping", "dropped", "nothing to drop", "nothing written"],
)
def test_a_roll_back_compares_then_removes_then_drops(
    progress: RollBackProgress, batches: Batches, expected: list[Command]
) -> None:
    assert decide(snapshot(J.ROLLING_BACK, roll_back=progress, batches=batches), NOW) == expected


def test_nothing_is_removed_while_changed_records_are_undecided() -> None:
    progress = RollBackProgress(compares=5, not_undone=5, drops=0, droppable=1, changed=1)
    attention(decide(snapshot(J.ROLLING_BACK, roll_back=progress), NOW))
    assert decide(snapshot(J.ROLLING_BACK, roll_back=progress, changed_records="keep"), NOW) == [AddUndos()]
