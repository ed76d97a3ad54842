"""Progress as people see it: how far, how fast, why it waits, what to type. Made from a reading of the job table."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from migrations.plan import Estimate, Policies
from migrations.window import Window
from orchestrator.core.guards import Proof, TakenBack
from orchestrator.core.model import Move
from orchestrator.core.next_steps import next_steps
from orchestrator.core.progress import headline, progress, rests, state_counts
from orchestrator.core.reading import JobRow, Reading, Totals, Undoing, Waiting
from orchestrator.core.states import JOB_ENDED, JobState, MoveState
from vecfleet.stores.base import Usage

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
STARTED = NOW - timedelta(seconds=10)
WATCH = "vecfleet status 7 --watch"
ESTIMATE = Estimate(records=0, requests=0, read_units=0, write_units=0, egress_bytes=0, dollars=0, seconds=0)


def policies(**given: Any) -> Policies:
    return Policies(**{"soak_seconds": 0, **given})


def job(state: JobState, **given: Any) -> JobRow:
    usual: dict[str, Any] = {
        "id": 7,
        "state": state,
        "resume_to": None,
        "reason": None,
        "source": "brain",
        "target": "brain",
        "target_store": "pinecone",
        "recipe": "creators",
        "policies": policies(),
        "estimate": ESTIMATE,
        "way_back": "roll back",
        "created_by": "ana",
        "created_at": STARTED,
        "started_at": STARTED,
        "verified_at": None,
        "cut_over_at": None,
        "cleaning_at": None,
        "pass_ended_at": None,
        "ended_at": None,
        "cut_over_percent": 0,
        "batch_window": 48,
        "pace_share": 0.5,
        "budget_factor": 1.5,
        "passes": 1,
        "passes_allowed": 5,
        "quiet_passes": 0,
        "source_lag_s": 0.0,
        "target_lag_s": 0.0,
        "routes_stale_s": 0.0,
    }
    return JobRow(**{**usual, **given})


def totals(**given: Any) -> Totals:
    names = ("planned", "listed", "written", "identical", "gone", "parked", "left_behind", "erased", "deleted")
    counts = dict.fromkeys(names, 0)
    return Totals(**{"namespaces": {}, "expected": 0, **counts, **given})


def reading(state: JobState = JobState.RUNNING, **given: Any) -> Reading:
    of_job = {name: given.pop(name) for name in list(given) if name in JobRow.__dataclass_fields__}
    usual: dict[str, Any] = {
        "now": NOW,
        "job": job(state, **of_job),
        "totals": totals(),
        "targets": {},
        "undecided": 0,
        "parked_batches": 0,
        "left": 0,
        "leased": 1,
        "unanswered": 0,
        "unanswered_since": None,
        "waiting": (),
        "led": True,
        "page": (),
    }
    return Reading(**{**usual, **given})


BACK = TakenBack(NOW - timedelta(seconds=5), passes=1)


def proof(verdict_at: datetime, back: TakenBack | None = None) -> Proof:
    return Proof("t", verdict_at, passes=1, back=back)


# How far and how fast


def test_a_copy_counts_records_at_its_mean_rate_since_the_start() -> None:
    seen = progress(reading(totals=totals(expected=400, listed=300, written=91, identical=8, gone=1, parked=1)))
    assert (seen.step, seen.unit, seen.done, seen.total) == ("copying", "records", 100, 400)
    assert seen.percent == 25.0
    assert seen.rate == 10.0
    assert seen.eta_seconds == 29.9


def test_a_job_outside_its_window_says_when_it_opens_and_how_not_to_wait() -> None:
    window = Window.read("01:00-04:00", "Europe/Berlin")
    closed = reading(policies=policies(window=window), begins_until=STARTED, leased=0)
    seen = progress(closed)
    assert seen.waits == (
        "it waits for its window (01:00-04:00 Europe/Berlin), opens at 2026-11-22 01:00 CET; "
        "`vecfleet set 7 hours 2` lets batches begin at once, for two hours",
    )
    assert seen.eta_seconds is None
    # What has begun goes on
    assert progress(replace(closed, leased=2)).waits[0].startswith("new batches wait for its window")
    # And nothing waits while it is open, or a person gave it hours, or it rests
    for unclosed in (
        replace(closed, now=NOW.replace(hour=1)),
        reading(policies=policies(window=window), begins_until=NOW + timedelta(hours=1)),
        reading(JobState.CANCELLED, policies=policies(window=window), begins_until=STARTED),
    ):
        assert not any("window" in wait for wait in progress(unclosed).waits)


def test_a_job_that_left_records_behind_says_so_and_counts_only_what_is_done() -> None:
    kept = totals(namespaces={MoveState.VERIFIED: 12}, expected=36_000, written=33_000, left_behind=3_000)
    seen = progress(reading(JobState.VERIFIED, totals=kept, targets={"verified": 11, "empty": 1}, empty_targets=1))
    assert headline(seen) == "job 7 verified, 3,000 left behind: 11 of 12 namespaces (92 %)"
    assert "3,000 records were left behind: readers of the new namespaces do not find them" in seen.waits
    assert seen.to_json()["records"]["done"] == 33_000


def test_with_an_earlier_reading_the_rate_is_that_of_the_time_between() -> None:
    earlier = reading(now=NOW - timedelta(seconds=2), totals=totals(expected=400, written=60))
    seen = progress(reading(totals=totals(expected=400, written=100)), earlier)
    assert (seen.rate, seen.eta_seconds) == (20.0, 15.0)


def test_where_nothing_moves_there_is_no_eta() -> None:
    still = reading(totals=totals(expected=400, written=100))
    seen = progress(replace(still, now=NOW + timedelta(seconds=5)), still)
    assert (seen.rate, seen.eta_seconds) == (0.0, None)


def test_a_rate_is_not_taken_across_a_change_of_step() -> None:
    earlier = reading(JobState.RUNNING, now=NOW - timedelta(seconds=2), totals=totals(expected=400, written=400))
    seen = progress(reading(JobState.COPIED, targets={"verified": 3, "checking": 27}), earlier)
    assert (seen.step, seen.done, seen.total, seen.rate) == ("verifying", 3, 30, None)


def test_the_eta_of_a_verification_follows_its_batches() -> None:
    earlier = reading(JobState.COPIED, now=NOW - timedelta(seconds=2), targets={"checking": 4}, left=60)
    seen = progress(reading(JobState.COPIED, targets={"checking": 4}, left=40), earlier)
    assert seen.eta_seconds == 4.0


@pytest.mark.parametrize(
    ("state", "resume_to", "step", "done"),
    [
        (JobState.CLEANING, None, "cleaning up", 2),
        (JobState.CLEANED, None, "cleaned up", 2),
        (JobState.ROLLED_BACK, None, "rolled back", 1),
        (JobState.CANCELLED, None, "copied", 0),
        (JobState.PAUSED, JobState.CLEANING, "cleaning up", 2),
        (JobState.NEEDS_ATTENTION, JobState.COPIED, "verifying", 5),
        (JobState.PLANNED, None, "copying", 0),
    ],
)
def test_each_step_counts_what_it_does(state: JobState, resume_to: JobState | None, step: str, done: int) -> None:
    namespaces = {MoveState.CLEANED: 2, MoveState.ROLLED_BACK: 1, MoveState.VERIFIED: 3}
    seen = progress(
        reading(state, resume_to=resume_to, totals=totals(namespaces=namespaces), targets={"verified": 5, "waiting": 1})
    )
    assert (seen.step, seen.done) == (step, done)


@pytest.mark.parametrize(
    ("compared", "undone", "dropped", "step", "percent"),
    [
        ((2, 4), (0, 4), (0, 2), "comparing what was written", 20),
        ((4, 4), (1, 4), (0, 2), "removing it", 50),
        ((4, 4), (4, 4), (0, 2), "dropping empty namespaces", 80),
        ((4, 4), (4, 4), (2, 2), "dropping empty namespaces", 100),
    ],
)
def test_a_roll_back_counts_all_its_steps_and_names_the_present_one(
    compared: tuple[int, int], undone: tuple[int, int], dropped: tuple[int, int], step: str, percent: int
) -> None:
    undoing = Undoing(compared, undone, dropped, lingering=0, since=None)
    seen = progress(reading(JobState.ROLLING_BACK, undoing=undoing))
    assert (seen.step, seen.unit, seen.percent, seen.waits) == (step, "steps", percent, ())


def test_a_roll_back_says_why_it_waits_and_until_when() -> None:
    undoing = Undoing((4, 4), (4, 4), (0, 30), lingering=30, since=NOW)
    rolling = reading(JobState.ROLLING_BACK, undoing=undoing)
    sentence = "30 namespaces look empty and are dropped after one more look, once reads cannot lag any more"
    assert progress(rolling, freshness_wait_s=60).waits == (f"{sentence}, at 12:01:00 UTC",)
    assert progress(rolling).waits == (sentence,)


def test_a_namespace_shows_its_done_records_and_its_listed_or_planned_ones() -> None:
    counts = {
        "listed": 4,
        "written": 2,
        "identical": 1,
        "gone": 0,
        "parked": 1,
        "left_behind": 0,
        "erased": 0,
        "deleted": 0,
    }
    rest = dict.fromkeys(set(Move.__dataclass_fields__) - set(counts))
    move = Move(**{**rest, **counts, "source": "s", "state": MoveState.COPYING, "planned": 10, "listed_all": False})
    [view] = progress(reading(page=(move,))).namespaces
    assert (view.done, view.parked, view.expected, view.target) == (3, 1, 10, "several namespaces")
    [view] = progress(reading(page=(replace(move, listed_all=True),))).namespaces
    assert view.expected == 4


# How far a copy is behind


def test_a_copy_that_follows_its_source_says_as_of_when() -> None:
    began = NOW - timedelta(seconds=95)
    delta = {"policies": policies(writers="delta"), "as_of": began, "source_lag_s": 5.0}
    seen = progress(reading(JobState.VERIFIED, **delta))
    assert (
        seen.lag
        == f"the targets hold what the sources held at {began - timedelta(seconds=5):%H:%M:%S UTC}, 1 min 40 s ago"
    )
    assert seen.to_json()["in_step"]["lag_seconds"] == 100.0

    left = progress(reading(JobState.VERIFIED, totals=totals(left_behind=3), **delta))
    assert (left.lag or "").endswith("ago, but for what is parked or was left behind")


@pytest.mark.parametrize(
    "given",
    [{"policies": "freeze"}, {"as_of": None}, {"cut_over_percent": 100}, {"state": JobState.FINISHED}],
    ids=["writers are stopped", "no pass has ended", "readers have moved", "it has ended"],
)
def test_nothing_is_said_to_follow_that_does_not(given: dict[str, Any]) -> None:
    usual = {"state": JobState.VERIFIED, "as_of": NOW, "policies": "delta"} | given
    usual["policies"] = policies(writers=usual["policies"])

    assert progress(reading(**usual)).lag is None


# Why it waits


def test_a_job_without_a_dispatcher_says_so() -> None:
    seen = progress(reading(led=False))
    assert seen.waits == ("no dispatcher is running: nothing new starts",)
    assert seen.next_steps == ("vecfleet dispatcher", WATCH)


def test_wake_ups_that_nobody_takes_are_a_missing_worker() -> None:
    # Given wake-ups that were sent four seconds ago, and nothing on lease
    waiting = reading(leased=0, unanswered=12, unanswered_since=NOW - timedelta(seconds=4))
    seen = progress(waiting)
    assert seen.waits == ("no worker takes the 12 batches that are due",)
    assert seen.next_steps == ("vecfleet worker", WATCH)
    # But not where they are fresh, or a worker holds others
    assert progress(replace(waiting, unanswered_since=NOW - timedelta(seconds=1))).waits == ()
    assert progress(replace(waiting, leased=1)).waits == ()


def test_redis_down_is_said_rather_than_a_missing_worker() -> None:
    waiting = reading(leased=0, unanswered=12, unanswered_since=NOW - timedelta(seconds=4))
    assert progress(waiting, broker_answers=False).waits == (
        "Redis does not answer, or takes nothing: workers cannot be woken",
    )


def test_batches_that_failed_say_with_what_since_when_and_until_when() -> None:
    waiting = [
        Waiting("Unavailable", "Pinecone said 503", 3, NOW - timedelta(minutes=2), NOW + timedelta(seconds=8)),
        Waiting("Waiting", "t does not yet give back what was written", 1, None, None),
    ]
    assert progress(reading(waiting=waiting)).waits == (
        "3 batches wait, tried since 11:58:00 UTC, again in 8 s: Unavailable: Pinecone said 503",
        "1 batch waits: t does not yet give back what was written",
    )


def test_a_job_that_rests_does_not_complain_of_missing_processes() -> None:
    for state in (JobState.VERIFIED, JobState.PAUSED, JobState.NEEDS_ATTENTION, *JOB_ENDED):
        seen = progress(reading(state, led=False), broker_answers=False)
        assert not any("dispatcher" in wait or "Redis" in wait for wait in seen.waits), state


def test_a_soak_time_says_when_it_ends_and_what_follows() -> None:
    soaking = reading(JobState.CUT_OVER, cut_over_at=STARTED, policies=policies(soak_seconds=3_600, clean_up="auto"))
    assert progress(soaking).waits == ("the soak time lasts until 2026-11-21 12:59:50 UTC; then clean-up follows",)
    over = reading(JobState.CUT_OVER, cut_over_at=STARTED)
    assert progress(over).waits == ("a person decides when the old is deleted",)


@pytest.mark.parametrize("state", [JobState.COPIED, JobState.CANCELLING])
def test_an_upsert_that_may_land_says_until_when_it_is_waited_for(state: JobState) -> None:
    waiting = progress(reading(state, landing=NOW + timedelta(seconds=40)))
    (wait,) = [one for one in waiting.waits if "was not answered" in one]
    assert "an upsert that was not answered may still take effect" in wait and "12:00:40" in wait
    over = progress(reading(state, landing=NOW))
    assert not any("was not answered" in one for one in over.waits)


# What to type


@pytest.mark.parametrize(
    ("seen", "steps"),
    [
        (reading(JobState.PLANNED), (WATCH,)),
        (reading(JobState.RUNNING), (WATCH,)),
        (reading(JobState.COPIED), (WATCH,)),
        (reading(JobState.CLEANING), (WATCH,)),
        (reading(JobState.ROLLING_BACK), (WATCH,)),
        (reading(JobState.PAUSING), (WATCH,)),
        (reading(JobState.CANCELLING), (WATCH,)),
        (reading(JobState.PAUSED), ("vecfleet resume 7", "vecfleet cancel 7")),
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
        (reading(JobState.VERIFIED), ("vecfleet cutover 7 --percent 100", "vecfleet rollback 7")),
        (reading(JobState.VERIFIED, cut_over_percent=5), ("vecfleet cutover 7 --percent 100", "vecfleet reverse 7")),
        (
            reading(JobState.VERIFIED, policies=policies(cut_over="none")),
            ("vecfleet finish 7", "vecfleet cleanup 7", "vecfleet rollback 7"),
        ),
        (
            reading(JobState.VERIFIED, policies=policies(cut_over="none"), recipe="reverse"),
            ("vecfleet cleanup 7", "vecfleet finish 7", "vecfleet rollback 7"),
        ),
        (
            reading(JobState.VERIFIED, verified_at=STARTED, policies=policies(cut_over="none", soak_seconds=3_600)),
            ("vecfleet finish 7", "vecfleet rollback 7"),
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
            ("vecfleet status 7", "vecfleet reverse 7"),
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
    ],
)
def test_each_state_has_its_next_steps(seen: Reading, steps: tuple[str, ...]) -> None:
    assert next_steps(seen) == steps


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        ({"parked_batches": 2}, ("vecfleet park list 7", "vecfleet retry 7 failed")),
        (
            {"undecided": 3},
            ("vecfleet park list 7", "vecfleet park accept 7 --all", "vecfleet retry 7 parked"),
        ),
        (
            {"undecided": 3, "conflicting": 2},
            ("vecfleet park list 7", "vecfleet park accept 7 --all", "vecfleet retry 7 parked", "vecfleet cancel 7"),
        ),
        (
            {"undecided": 3, "conflicting": 3},
            ("vecfleet park list 7", "vecfleet park accept 7 --all", "vecfleet cancel 7"),
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
    ],
)
def test_each_call_for_attention_has_its_own_way_out(given: dict[str, Any], steps: tuple[str, ...]) -> None:
    assert next_steps(reading(JobState.NEEDS_ATTENTION, **given)) == steps


@pytest.mark.parametrize("state", JobState)
def test_no_state_leaves_a_person_without_a_next_step(state: JobState) -> None:
    assert next_steps(reading(state))
    assert progress(reading(state)).to_json()["next_steps"]


@pytest.mark.parametrize(
    ("seen", "resting"),
    [
        (reading(JobState.VERIFIED), True),
        (reading(JobState.VERIFIED, policies=policies(cut_over="auto")), False),
        (reading(JobState.VERIFIED, cut_over_percent=100), False),
        (reading(JobState.VERIFIED, policies=policies(cut_over="none")), True),
        (reading(JobState.VERIFIED, policies=policies(cut_over="none", clean_up="auto")), False),
        (reading(JobState.CUT_OVER), True),
        (reading(JobState.CUT_OVER, policies=policies(clean_up="auto")), False),
        (reading(JobState.NEEDS_ATTENTION), True),
        (reading(JobState.PAUSED), True),
        (reading(JobState.PAUSING), False),
        (reading(JobState.RUNNING), False),
        *((reading(state), True) for state in sorted(JOB_ENDED)),
    ],
)
def test_a_job_rests_where_only_a_person_moves_it_on(seen: Reading, resting: bool) -> None:
    assert rests(seen) is resting


def test_counts_by_state_read_in_the_order_of_a_life() -> None:
    assert state_counts({MoveState.COPIED: 2, MoveState.PENDING: 1, MoveState.PARKED: 0}) == "1 pending, 2 copied"
