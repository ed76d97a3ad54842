"""From when on a look shows the last write that a plan permits: a table of policies."""

from dataclasses import replace
from datetime import timedelta

import pytest
from snapshots import JOB, NOW

from migrations.plan import Policies
from orchestrator.core.freshness import (
    fresh_from,
    last_permitted_write,
    next_look_s,
    next_pass_at,
    readable_from,
    reading_shows,
)
from orchestrator.core.model import Job

LAG_S, ROUTES_S = 60.0, 30.0
FROZEN, CUT_OVER, CLEANING = (NOW + timedelta(hours=hours) for hours in (1, 2, 3))
ROW = replace(
    JOB,
    cut_over_at=CUT_OVER,
    cleaning_at=CLEANING,
    source_lag_s=LAG_S,
    routes_stale_s=ROUTES_S,
)
ROUTES, LAG = timedelta(seconds=ROUTES_S), timedelta(seconds=LAG_S)


@pytest.mark.parametrize(
    ("writers", "cut_over", "last"),
    [
        ("freeze", "none", NOW),
        ("delta", "none", CLEANING + ROUTES),
        ("dual", "none", CLEANING + ROUTES),
        ("freeze", "operator", CUT_OVER + ROUTES),
        ("delta", "operator", CUT_OVER + ROUTES),
        ("dual", "auto", CUT_OVER + ROUTES),
    ],
)
def test_a_source_reads_as_it_was_left_one_lag_after_the_last_permitted_write(
    writers: str, cut_over: str, last: object
) -> None:
    policies = Policies(writers=writers, cut_over=cut_over)  # type: ignore[arg-type]
    row = replace(ROW, cut_over_at=None) if cut_over == "none" else ROW
    assert last_permitted_write(row, policies) == last
    assert fresh_from(row, policies) == last + LAG  # type: ignore[operator]


def test_a_cut_over_that_the_plan_did_not_ask_for_lets_writers_go_on_like_any_other() -> None:
    assert last_permitted_write(ROW, Policies(cut_over="none")) == CUT_OVER + ROUTES


def test_while_readers_are_on_the_old_side_no_look_is_fresh() -> None:
    assert fresh_from(replace(ROW, cut_over_at=None), Policies(cut_over="operator")) is None


def test_a_job_that_froze_the_routes_counts_from_when_no_client_may_use_older_ones() -> None:
    frozen = replace(ROW, frozen_at=FROZEN, cut_over_at=None)
    assert last_permitted_write(frozen, Policies(cut_over="none")) == FROZEN + ROUTES


@pytest.mark.parametrize(
    ("row", "writers", "readable"),
    [
        (ROW, "freeze", NOW + LAG),
        (replace(ROW, frozen_at=FROZEN), "freeze", FROZEN + ROUTES + LAG),
        (ROW, "delta", None),
        (ROW, "dual", None),
    ],
)
def test_what_is_read_once_is_read_when_reads_show_the_last_write(row: Job, writers: str, readable: object) -> None:
    assert readable_from(row, Policies(writers=writers)) == readable  # type: ignore[arg-type]


def test_a_store_whose_reads_do_not_lag_is_not_waited_for() -> None:
    assert fresh_from(replace(ROW, source_lag_s=0.0, cut_over_at=None), Policies(cut_over="none")) == NOW


def test_a_small_job_looks_often_for_its_deletion_and_a_large_one_once() -> None:
    # Given a store whose reads lag 13 s at most, and a deletion that was answered just now
    looks: dict[bool, list[float]] = {True: [], False: []}
    for often, times in looks.items():
        while not times or times[-1] < 13:
            now = times[-1] if times else 0.0
            times.append(now + next_look_s(now, 13, often=often))

    # Then both look when reads must show it, and only the small job sooner
    assert looks == {True: [0.5, 1, 2, 4, 8, 13], False: [13]}


def test_a_reading_shows_what_was_seen_one_lag_before_it_began() -> None:
    lag_s = LAG.total_seconds()
    assert reading_shows(NOW, NOW + LAG, lag_s) and reading_shows(NOW, NOW, 0)
    assert not reading_shows(NOW, NOW + LAG - timedelta(seconds=1), lag_s)
    assert not reading_shows(None, NOW, 0) and not reading_shows(NOW, None, 0)


def test_two_quiet_passes_are_at_least_one_lag_apart() -> None:
    assert next_pass_at(replace(ROW, pass_ended_at=NOW)) == NOW + LAG
