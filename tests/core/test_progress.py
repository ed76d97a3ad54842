"""Progress as people see it: how far, how fast, why it waits. Made from a reading of the job table."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from readings import NOW, STARTED, WATCH, policies, reading, totals

from migrations.window import Window
from orchestrator.core.model import Move
from orchestrator.core.progress import headline, progress, state_counts
from orchestrator.core.reading import Reading, Undoing, Waiting
from orchestrator.core.states import JOB_ENDED, JobState, MoveState
from orchestrator.core.waiting import rests

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
        "until then, too, its plan keeps writers out of its sources",
    )
    assert seen.eta_seconds is None
    # Where writers go on, it keeps nobody out
    going_on = policies(window=window, writers="delta")
    assert len(progress(reading(policies=going_on, begins_until=STARTED, leased=0)).waits) == 1
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
    # And at its beginning
    undoing = Undoing((0, 4), (0, 4), (0, 2), lingering=0, since=None, not_before=NOW + timedelta(seconds=60))
    (wait,) = progress(reading(JobState.ROLLING_BACK, undoing=undoing)).waits
    assert wait == "nothing is taken back before reads show what was written last: at 12:01:00 UTC"


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
    assert view.standing == "copying, 1 parked"


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


def test_wake_ups_that_nobody_takes_are_told_with_what_may_be_the_cause() -> None:
    # Given wake-ups that were sent four seconds ago, and nothing on lease
    waiting = reading(leased=0, unanswered=12, unanswered_since=NOW - timedelta(seconds=4))
    seen = progress(waiting)
    why = "none runs, or `vecfleet doctor` names a queue or a rate limit that is in the way"
    assert seen.waits == (f"no worker takes the 12 batches that are due: {why}",)
    assert progress(replace(waiting, unanswered=1)).waits == (f"no worker takes the batch that is due: {why}",)
    # Then the command that most often helps comes next, and then the one that knows: a worker may run all the same
    assert seen.next_steps == ("vecfleet worker", "vecfleet doctor", WATCH)
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


def test_a_long_wait_is_told_in_minutes() -> None:
    later = Waiting("Unavailable", "503", 1, STARTED, NOW + timedelta(seconds=150))
    assert "again in 2 min 30 s" in progress(reading(waiting=(later,))).waits[0]


def test_a_job_that_rests_does_not_complain_of_missing_processes() -> None:
    for state in (JobState.VERIFIED, JobState.PAUSED, JobState.NEEDS_ATTENTION, *JOB_ENDED):
        seen = progress(reading(state, led=False), broker_answers=False)
        assert not any("dispatcher" in wait or "Redis" in wait for wait in seen.waits), state


def test_a_soak_time_says_when_it_ends_and_what_follows() -> None:
    soaking = reading(JobState.CUT_OVER, cut_over_at=STARTED, policies=policies(soak_seconds=3_600, clean_up="auto"))
    assert progress(soaking).waits == ("the soak time lasts until 2026-11-21 12:59:50 UTC; then clean-up follows",)


@pytest.mark.parametrize(
    ("clean_up", "says"),
    [
        ("auto", "the soak time lasts until 2026-11-21 12:59:50 UTC; then clean-up follows"),
        ("operator", "a person decides whether both sides stay or the old is deleted"),
    ],
)
def test_without_a_cut_over_only_the_policy_waits_for_the_soak_time(clean_up: str, says: str) -> None:
    plans = policies(cut_over="none", soak_seconds=3_600, clean_up=clean_up)
    assert progress(reading(JobState.VERIFIED, verified_at=STARTED, policies=plans)).waits == (says,)
    over = reading(JobState.CUT_OVER, cut_over_at=STARTED)
    assert progress(over).waits == ("a person decides when the old is deleted",)


def test_a_copy_that_follows_its_source_waits_for_no_deletion() -> None:
    plans = policies(cut_over="none", writers="delta")
    seen = progress(reading(JobState.VERIFIED, verified_at=STARTED, policies=plans))
    assert seen.waits == ("another `vecfleet pass 7` takes along what writers did since",)
    assert not any("cleanup" in step for step in seen.next_steps)


def test_readers_that_a_person_split_are_told_although_the_plan_moves_none() -> None:
    split = reading(JobState.VERIFIED, policies=policies(cut_over="none", dwell_seconds=0), cut_over_percent=25)
    assert progress(split).waits == ("a person decides when readers move to the new namespaces (25 % so far)",)


def test_while_moved_readers_are_watched_it_is_told_until_when() -> None:
    watched = reading(JobState.VERIFIED, cut_over_percent=25, watched_until=NOW + timedelta(hours=1))
    until = "the 25 % of the readers that moved are watched until 2026-11-21 13:00:00 UTC"
    assert progress(watched).waits == (f"{until}; then a person decides when the others follow",)


@pytest.mark.parametrize("recipe", ["creators", "namespaces"])
def test_how_long_moved_readers_are_watched_is_told_before_any_moves(recipe: str) -> None:
    """A person learned of it from the refusal of the next step."""
    before = reading(JobState.VERIFIED, recipe=recipe, policies=policies(dwell_seconds=3_600))
    [said] = progress(before).waits
    assert said.endswith("; from 25 % on, readers are watched for 1 h at each step")


def test_nobody_is_waited_for_once_all_readers_have_moved() -> None:
    """A job whose targets were checked again after its cut-over asked for a decision at `100 % so far`."""
    moved = progress(reading(JobState.VERIFIED, cut_over_percent=100))
    assert moved.waits == ("its readers are on the new namespaces already: it is cut over again in a moment",)


def test_of_a_copy_that_nobody_reads_by_the_routes_a_person_decides_what_becomes() -> None:
    copy = progress(reading(JobState.VERIFIED, recipe="namespaces", policies=policies(dwell_seconds=0)))
    assert copy.waits == ("a person decides whether both sides stay, or readers move to the new namespaces",)


@pytest.mark.parametrize("state", [JobState.COPIED, JobState.CANCELLING])
def test_an_upsert_that_may_land_says_until_when_it_is_waited_for(state: JobState) -> None:
    waiting = progress(reading(state, landing=NOW + timedelta(seconds=40)))
    (wait,) = [one for one in waiting.waits if "was not answered" in one]
    assert "an upsert that was not answered may still take effect" in wait and "12:00:40" in wait
    over = progress(reading(state, landing=NOW))
    assert not any("was not answered" in one for one in over.waits)


BOTH_AUTO = policies(cut_over="auto", clean_up="auto")
HELD = (
    (JobState.VERIFIED, "the policy waits: held by the hook before-cut-over at 100 %: not yet"),
    (JobState.CUT_OVER, "the policy waits: held by the hook before-clean-up: not yet"),
    (JobState.CUT_OVER, "the policy waits: waits for two persons for the clean-up"),
)


@pytest.mark.parametrize(("state", "reason"), HELD)
def test_a_held_policy_is_told_with_what_a_person_types_and_nothing_to_watch(state: JobState, reason: str) -> None:
    seen = progress(reading(state, policies=BOTH_AUTO, reason=reason))
    assert seen.next_steps[0].startswith("vecfleet cutover 7" if state is JobState.VERIFIED else "vecfleet cleanup 7")
    assert WATCH not in seen.next_steps and "clean-up follows" not in seen.waits


@pytest.mark.parametrize(
    ("seen", "resting"),
    [
        (reading(JobState.VERIFIED), True),
        (reading(JobState.VERIFIED, policies=policies(cut_over="auto")), False),
        (reading(JobState.VERIFIED, cut_over_percent=100), False),
        (reading(JobState.VERIFIED, policies=policies(cut_over="none")), True),
        (reading(JobState.VERIFIED, policies=policies(cut_over="none", clean_up="auto")), False),
        (
            reading(JobState.VERIFIED, policies=policies(cut_over="none", clean_up="auto"), cut_over_percent=25),
            True,
        ),
        (reading(JobState.CUT_OVER), True),
        (reading(JobState.CUT_OVER, policies=policies(clean_up="auto")), False),
        *((reading(state, policies=BOTH_AUTO, reason=reason), True) for state, reason in HELD),
        (reading(JobState.VERIFIED, policies=BOTH_AUTO, reason="the policy waits: asks the hook x"), False),
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
