"""A report adds up its figures, and claims no more than they show."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from readings import reading

from migrations.estimating import Prices
from orchestrator.core.model import Target
from orchestrator.core.states import BatchKind, JobState
from orchestrator.ledger.status import Spent
from orchestrator.services.report import add_up, busy_seconds, dollars, holding, verdicts, way_back

START = datetime(2026, 11, 21, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def spent(began: float | None = None, ended: float | None = None, **given: Any) -> Spent:
    usual = {"requests": 0, "read_units": 0.0, "write_units": 0.0, "egress_bytes": 0}
    return Spent(
        **{**usual, **given},
        began=None if began is None else at(began),
        ended=None if ended is None else at(ended),
    )


def target(state: str, *, sequence: int = 3, checked: int | None = 3, expected: int = 10) -> Target:
    rest = dict.fromkeys(Target.__dataclass_fields__)
    what = {"sequence": sequence, "check_state": state, "check_sequence": checked, "verdict": {"expected": expected}}
    return Target(**{**rest, **what})


@pytest.mark.parametrize(
    ("namespaces", "creator_based"),
    [
        ({"creator_ana_twin_one": 5, "creator_ana": 1}, True),
        ({"creator_ana_twin_one": 5, "public": 2}, True),  # public is nobody's, and belongs there
        ({"creator_ana_twin_one": 5, "__default__": 2}, False),
        ({"creator_": 5}, False),  # begins like a tenant's, and is none
        ({"creator_ana_twin_": 5}, False),
    ],
)
def test_creator_based_is_what_the_codec_says(namespaces: dict[str, int], creator_based: bool) -> None:
    assert holding(namespaces).creator_based is creator_based


def test_only_a_verdict_on_what_is_there_now_counts_as_verified() -> None:
    found = verdicts(
        [
            target("verified"),
            target("verified", sequence=4),  # written to since
            target("mismatched"),
            target("checking", checked=None),
            target("empty", expected=0),
        ]
    )
    assert (found.verified, found.mismatched, found.empty, found.unverified, found.records) == (1, 1, 1, 2, 10)


def test_what_steps_spent_adds_up() -> None:
    total = add_up(
        [
            spent(0, 4, requests=2, read_units=1.5, egress_bytes=10),
            spent(2, 9, requests=3, write_units=5.0),
            spent(),
        ]
    )
    assert total == spent(0, 9, requests=5, read_units=1.5, write_units=5.0, egress_bytes=10)


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [
        ([], 0.0),
        ([(0, 4)], 4.0),
        ([(0, 4), (2, 6)], 6.0),  # a verification that begins while others still copy
        ([(0, 10), (2, 6)], 10.0),
        ([(0, 4), (100, 103)], 7.0),  # a person slept on the clean-up
    ],
)
def test_time_counts_where_something_was_at_work(spans: list[tuple[float, float]], seconds: float) -> None:
    kinds = dict(zip(BatchKind, (spent(*span) for span in spans), strict=False))
    assert busy_seconds(kinds) == seconds


def test_dollars_are_units_and_egress_at_their_prices() -> None:
    cost = spent(read_units=1_000_000.0, write_units=2_000_000.0, egress_bytes=3_000_000_000)
    assert dollars(cost, Prices(read_million=16.0, write_million=4.0, egress_gb=0.1)) == pytest.approx(24.3)


@pytest.mark.parametrize(
    ("written", "erased", "told"),
    [
        (10, 0, "`vecfleet plan reverse 1`"),
        (6, 4, "`vecfleet plan reverse 1`; erased records do not come back"),
        (0, 10, "none: nothing that it moved is left, and erased records do not come back"),
    ],
)
def test_no_way_back_leads_to_what_was_erased(written: int, erased: int, told: str) -> None:
    # Given a job that was cleaned up, and a tenant of it that was erased afterwards
    report: Any = SimpleNamespace(
        job=SimpleNamespace(
            id=1,
            state=JobState.CLEANED,
            way_back="until clean-up `vecfleet rollback`; after it `vecfleet plan reverse`",
        ),
        reading=SimpleNamespace(totals=SimpleNamespace(written=written, identical=0, erased=erased)),
    )
    assert way_back(report) == told


def test_whose_readers_were_moved_takes_them_back_first() -> None:
    way = "until clean-up `vecfleet rollback`; after it `vecfleet plan reverse`"
    moved = reading(JobState.CUT_OVER, cut_over_percent=25, way_back=way)
    report: Any = SimpleNamespace(job=moved.job, reading=moved)
    assert way_back(report).startswith("until clean-up `vecfleet reverse 7`, then `vecfleet rollback 7`; after it")


@pytest.mark.parametrize(("percent", "told"), [(0, "`vecfleet rollback 7`"), (100, "`vecfleet plan reverse 7`")])
def test_the_way_back_of_a_finished_job_is_a_command_that_it_takes(percent: int, told: str) -> None:
    report: Any = SimpleNamespace(
        job=reading(JobState.FINISHED, cut_over_percent=percent).job, reading=reading(JobState.FINISHED)
    )
    assert way_back(report) == told
