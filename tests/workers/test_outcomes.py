"""Monitors get a state of Celery's for each batch, and a sentence that quotes nobody."""

from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.core.model import CopyOutcome, Lease, ParkedRecord
from orchestrator.core.states import BatchKind
from orchestrator.core.wording import after_another_run
from vecfleet.errors import BadRequest, RateLimited, Refused
from workers import outcomes
from workers.outcomes import Outcome, State

LEASE = Lease(
    id=1042,
    job_id=17,
    move_id=1,
    target_id=None,
    copy_id=None,
    kind=BatchKind.COPY,
    seq=3,
    generation=0,
    attempts=1,
    size=128,
    manifest=None,
    targets=(),
    intended=False,
    answered_at=None,
    age_seconds=0.0,
    until_monotonic=0.0,
    leased_at=datetime(2026, 1, 1, tzinfo=UTC),
)


@pytest.mark.parametrize(
    ("copied", "state", "text"),
    [
        ({"written": 1_250, "changed": 1_250}, State.SUCCESS, "copied 1,250, 0.8 s"),
        ({"written": 20, "changed": 3, "removed": 1}, State.SUCCESS, "copied 2, unchanged 18, removed 1, 0.8 s"),
        (
            {"written": 5, "changed": 5, "gone": 2, "left_behind": 1},
            State.SUCCESS,
            "copied 5, gone 2, left behind 1, 0.8 s",
        ),
        ({"keeps": True}, State.SUCCESS, "nothing to do, 0.8 s"),
        (
            {"written": 125, "changed": 125, "parked": (ParkedRecord("r", "why"),) * 3},
            State.FAILURE,
            "copied 125, parked 3, 0.8 s: `vecfleet park list 17` says why",
        ),
    ],
)
def test_a_copy_says_what_it_did_and_has_failed_if_records_wait_for_a_person(
    copied: dict[str, Any], state: State, text: str
) -> None:
    assert outcomes.done(LEASE, outcomes.copied(CopyOutcome(**copied)), 0.8) == Outcome(state, text, goes_on=True)


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ({"listed": 2_500}, "listed 2,500, 1.0 s"),
        ({"count": 250, "digest": "8761", "missing": 0, "different": 2}, "read back 250, different 2, 1.0 s"),
        ({"queries": [{}, {}, {}]}, "asked 3, 1.0 s"),
        ({"deleted": 12}, "deleted 12, 1.0 s"),
        ({"dropped": False}, "nothing to do, 1.0 s"),
    ],
)
def test_every_other_kind_of_work_says_what_it_did(counts: dict[str, object], text: str) -> None:
    assert outcomes.done(LEASE, counts, 1.0) == Outcome(State.SUCCESS, text, goes_on=True)


def test_a_services_words_stay_in_the_job_table_and_ours_are_told() -> None:
    quoting = BadRequest("the service says: vector 'r1' holds 'what zoe said'")
    assert outcomes.told_by(quoting, str(quoting)) == "BadRequest: The vector store refuses the content of the request"
    ours = Refused("alma lists no ids")
    assert outcomes.told_by(ours, "alma lists no ids; look") == "alma lists no ids; look"
    limited = outcomes.told_by(RateLimited("for r1"), "for r1")
    assert outcomes.again(limited, 4.4) == Outcome(
        State.RETRY, "RateLimited: A per-second limit of the vector store was reached; again in 4 s"
    )


def test_what_waits_for_a_person_names_the_command_that_goes_on() -> None:
    assert "`vecfleet retry 17 failed --batch 1042`" in outcomes.parked(LEASE, "why").text
    assert "`vecfleet resume 17`" in outcomes.pausing(LEASE, "why").text
    assert after_another_run(outcomes.parked(LEASE, "why").text) == "run again since; why; parked"
    assert {outcome(LEASE, "why").state for outcome in (outcomes.parked, outcomes.pausing)} == {State.FAILURE}
