"""Before anything is deleted: each objection is enough by itself, and without one the way is free."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from snapshots import HOUR, JOB, MOVE, NOW, TARGET

from migrations.plan import Policies
from orchestrator.core.clean_up_guards import CleanUpFacts, against_clean_up, way_to_clean_up
from orchestrator.core.states import JobState, MoveState
from vecfleet.tenancy.routes import Route, RoutePlace

READY = CleanUpFacts(
    job=replace(JOB, state=JobState.CUT_OVER, cut_over_percent=100, cut_over_at=NOW - 25 * HOUR),
    policies=Policies(soak_seconds=86_400),
    moves=[MOVE, replace(MOVE, id=2, source="s2")],
    targets=[TARGET, replace(TARGET, id=2, namespace="t2")],
    undecided=0,
    parked_batches=0,
    claimed_elsewhere={},
    readers_moved=True,
    routed=[],
)
MOVING_ON = "vecfleet cutover 1 --percent 100"
LED = [Route("ana", RoutePlace("s"), twin=twin, side="new", job=7) for twin in ("coach", "diary")]


def with_job(**values: Any) -> CleanUpFacts:
    return replace(READY, job=replace(READY.job, **values))


def with_move(**values: Any) -> CleanUpFacts:
    return replace(READY, moves=[MOVE, replace(MOVE, source="s2", **values)])


def with_target(**values: Any) -> CleanUpFacts:
    return replace(READY, targets=[TARGET, replace(TARGET, namespace="t2", **values)])


def test_where_everything_is_proven_and_soaked_nothing_stands_against_it() -> None:
    assert against_clean_up(READY, NOW) == []


@pytest.mark.parametrize(
    ("facts", "code", "says"),
    [
        *((with_job(state=state), "not-verified", f"the job is {state}") for state in ("planned", "running", "copied")),
        (
            with_job(state=JobState.NEEDS_ATTENTION, reason="2 targets differ"),
            "attention-needed",
            "needs attention: 2 targets differ",
        ),
        (
            with_job(state=JobState.NEEDS_ATTENTION, reason="1 batch is parked", resume_to=JobState.RUNNING),
            "attention-needed",
            "needs attention: 1 batch is parked",
        ),
        (with_job(cut_over_percent=0, cut_over_at=None), "readers-on-source", "cut over at 0 %, not 100 %"),
        (with_job(cut_over_percent=99), "readers-on-source", "cut over at 99 %, not 100 %"),
        (with_job(cut_over_at=None), "readers-on-source", "not 100 %"),
        (
            with_job(cut_over_at=NOW - 24 * HOUR + timedelta(seconds=1)),
            "soak-time",
            "the soak time lasts until 2026-02-11 12:00:01",
        ),
        *(
            (with_move(state=state), "source-unverified", f"s2 is {state.replace('_', ' ')}, not verified")
            for state in ("pending", "listing", "copying", "copied", "mismatched", "repairing", "rolled_back")
        ),
        (with_move(written=5), "accounts-open", "s2: 10 listed but 9 accounted for"),
        (with_move(written=7), "accounts-open", "s2: 10 listed but 11 accounted for"),
        (with_move(listed=11), "accounts-open", "s2: 11 listed but 10 accounted for"),
        *(
            (with_target(check_state=state), "verdict-missing", "t2 has no verdict")
            for state in ("waiting", "checking", "mismatched")
        ),
        (with_target(verdict_at=None), "verdict-missing", "t2 has no verdict"),
        (with_target(sequence=4), "verdict-void", "the verdict on t2 is void"),
        (with_target(check_sequence=None), "verdict-void", "the verdict on t2 is void"),
        (with_target(check_state="empty", sequence=4), "verdict-void", "the verdict on t2 is void"),
        (
            with_target(verdict_at=NOW - 24 * HOUR - timedelta(seconds=1)),
            "verdict-old",
            "the verdict on t2 is more than 24 hours old",
        ),
        (
            with_target(lands_by=NOW + HOUR),
            "upsert-may-land",
            "an upsert to t2 was not answered and may take effect until 13:00:00 UTC",
        ),
        (
            with_target(lands_by=NOW - HOUR / 2),  # its verdict is an hour old
            "upsert-landed",
            "t2 is to be checked again: a late upsert may have taken effect there",
        ),
        (with_target(lands_by=NOW), "upsert-landed", "t2 is to be checked again"),
        (with_target(lands_by=NOW - HOUR, verdict_at=None), "upsert-landed", "t2 is to be checked again"),
        (replace(READY, undecided=1), "records-parked", "1 parked record waits for a decision"),
        (replace(READY, parked_batches=2), "batches-parked", "2 batches are parked"),
        (replace(READY, claimed_elsewhere={"s": 3}), "source-claimed", "job 3 works on s"),
        (
            replace(READY, routed=LED),
            "tenants-routed",
            "routes of job 7 lead 2 tenants to what would be deleted: creator_ana_twin_coach, creator_ana_twin_diary",
        ),
    ],
)
def test_each_objection_alone_is_enough(facts: CleanUpFacts, code: str, says: str) -> None:
    (only,) = against_clean_up(facts, NOW)
    assert only.code == code
    assert says in only


@pytest.mark.parametrize(
    ("facts", "command"),
    [
        (replace(READY, undecided=1), "vecfleet park list 1"),
        (replace(READY, parked_batches=1), "vecfleet park list 1"),
        (with_job(state=JobState.RUNNING), "vecfleet status 1 --watch"),
        (with_job(state=JobState.VERIFIED, cut_over_percent=50), MOVING_ON),
        (with_job(cut_over_at=NOW), "vecfleet status 1"),
        (with_target(verdict_at=NOW - 25 * HOUR), "vecfleet verify 1 --watch"),
        (replace(READY, claimed_elsewhere={"s2": 3}), "vecfleet status 3"),
        (with_job(state=JobState.VERIFIED, cut_over_at=NOW), "vecfleet status 1"),  # it waits for its soak time
    ],
)
def test_a_refusal_names_the_command_that_takes_the_first_objection_away(facts: CleanUpFacts, command: str) -> None:
    assert against_clean_up(facts, NOW)
    assert way_to_clean_up(facts, NOW, MOVING_ON) == command


def test_who_is_led_there_by_a_route_is_led_elsewhere_first() -> None:
    way = way_to_clean_up(replace(READY, routed=LED), NOW, MOVING_ON)
    assert "`vecfleet plan index digital-twin-brain NEW --list FILE`" in way and "`vecfleet finish 1`" in way


def test_all_objections_are_told_at_once() -> None:
    facts = replace(with_job(cut_over_percent=5), undecided=1, parked_batches=1, claimed_elsewhere={"s": 3, "s2": 4})
    assert len(against_clean_up(facts, NOW)) == 5


@pytest.mark.parametrize(
    ("of_target", "says"),
    [
        ({"check_state": "waiting"}, "30 targets have no verdict that they hold everything: t0, t1, t10, t11, t12 and"),
        ({"sequence": 9}, "30 targets were written to since their verdicts, which are void: t0, t1,"),
        ({"verdict_at": NOW - 25 * HOUR}, "the verdicts on 30 targets are more than 24 hours old: t0, t1,"),
        ({"lands_by": NOW + HOUR}, "30 targets had an upsert that was not answered and may still take effect: t0,"),
    ],
)
def test_one_cause_is_told_once_however_many_targets_it_concerns(of_target: dict[str, Any], says: str) -> None:
    targets = [replace(TARGET, id=n, namespace=f"t{n}", **of_target) for n in range(30)]
    (only,) = against_clean_up(replace(READY, targets=targets), NOW)
    assert says in only


def test_one_cause_is_told_once_however_many_sources_it_concerns() -> None:
    """A refused clean-up of thirty namespaces printed sixty lines."""
    unverified = [replace(MOVE, source=f"s{n}", state=MoveState.COPIED) for n in range(30)]
    held = {f"s{n}": 3 + n % 2 for n in range(30)}
    told = against_clean_up(replace(READY, moves=unverified, claimed_elsewhere=held), NOW)
    assert [str(objection) for objection in told] == [
        "30 sources are not verified: s0, s1, s10, s11, s12 and 25 more",
        "job 3 works on 15 sources: s0, s10, s12, s14, s16 and 10 more",
        "job 4 works on 15 sources: s1, s11, s13, s15, s17 and 10 more",
    ]


def test_at_the_very_end_of_the_soak_time_it_is_over() -> None:
    assert against_clean_up(with_job(cut_over_at=NOW - 24 * HOUR), NOW) == []


def test_a_verdict_of_a_day_is_still_good() -> None:
    assert against_clean_up(with_target(verdict_at=NOW - 24 * HOUR), NOW) == []


def test_a_verdict_made_once_a_late_upsert_could_no_longer_land_is_good() -> None:
    assert against_clean_up(with_target(lands_by=NOW - HOUR, verdict_at=NOW - HOUR), NOW) == []


def test_a_plan_without_readers_needs_no_cut_over() -> None:
    facts = with_job(state=JobState.VERIFIED, cut_over_percent=0, cut_over_at=None)
    assert against_clean_up(replace(facts, policies=Policies(cut_over="none"), readers_moved=False), NOW) == []
    assert against_clean_up(facts, NOW) != []


@pytest.mark.parametrize(
    ("job", "code"),
    [
        ({"state": JobState.VERIFIED, "cut_over_percent": 25, "cut_over_at": None}, "readers-on-source"),
        ({"state": JobState.VERIFIED, "cut_over_percent": 0, "cut_over_at": None}, "readers-on-source"),
        ({"cut_over_at": NOW}, "soak-time"),
    ],
)
def test_readers_that_a_person_moved_count_although_the_plan_moves_none(job: dict[str, Any], code: str) -> None:
    """A clean-up deleted both sources while the route of one still led its readers there."""
    moved = replace(with_job(**job), policies=Policies(cut_over="none"), readers_moved=True)
    assert [objection.code for objection in against_clean_up(moved, NOW)] == [code]


def test_a_target_to_which_nothing_was_written_needs_no_proof() -> None:
    assert against_clean_up(with_target(check_state="empty"), NOW) == []


def test_a_clean_up_that_was_stopped_may_go_on() -> None:
    stopped = with_job(state=JobState.NEEDS_ATTENTION, resume_to=JobState.CLEANING, reason="a guard refused")
    cleaned = [replace(MOVE, state=MoveState.CLEANED), replace(MOVE, source="s2", state=MoveState.PARKED)]
    assert against_clean_up(replace(stopped, moves=cleaned), NOW) == []
