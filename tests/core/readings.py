"""Readings of the job table, as tests of what people are shown need them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from migrations.plan import Estimate, Policies
from orchestrator.core.guards import Proof, TakenBack
from orchestrator.core.reading import JobRow, Reading, Totals
from orchestrator.core.states import JobState

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
