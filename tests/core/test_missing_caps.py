"""Caps on records that are gone, or missing where readers have moved to: above them a person is asked."""

from dataclasses import replace

import pytest
from snapshots import JOB, MOVE

from orchestrator.core.guards import (
    MissingAt,
    against_empty,
    against_leaving_behind,
    against_missing,
    missing_cap,
    removal_cap,
)


@pytest.mark.parametrize(
    ("records", "may_be_removed", "may_be_missing"),
    [(1, 10, 0), (2, 10, 1), (7, 10, 3), (20, 10, 10), (1_000, 10, 10), (5_000, 50, 50)],
)
def test_how_many_may_go_without_a_word(records: int, may_be_removed: int, may_be_missing: int) -> None:
    assert (removal_cap(records), missing_cap(records)) == (may_be_removed, may_be_missing)


@pytest.mark.parametrize(
    ("missing", "written", "of_job", "said", "holds_nothing", "goes"),
    [
        (10, 1_000, None, None, False, True),
        (11, 1_000, None, None, False, False),
        (50, 5_000, None, None, False, True),
        (4, 9, None, None, False, True),  # few, and less than half
        (5, 9, None, None, False, False),
        (1, 1, None, None, False, False),
        (40, 100, 60, None, False, True),  # said of the job: so many, as long as they are no most of it
        (51, 100, 60, None, False, False),
        (1, 100, 60, None, True, False),  # empty or gone: only what was said of it counts
        (100, 100, 0, 100, True, True),
        (100, 100, 200, 99, True, False),
    ],
)
def test_what_may_be_missing_at_a_target(
    missing: int, written: int, of_job: int | None, said: int | None, holds_nothing: bool, goes: bool
) -> None:
    at = MissingAt("creator ana", missing, written, said, holds_nothing)
    why = against_missing(replace(JOB, id=7, missing_allowed=of_job), MOVE, 0, [at])
    assert (why is None) is goes
    assert goes or f"`vecfleet set 7 missing {written if holds_nothing else missing} --target 'creator ana'`" in str(
        why
    )


def test_many_empty_targets_are_told_in_one_sentence() -> None:
    (alone,) = against_empty({"t": 1})
    assert alone == "t is empty: 1 record meant for it was left behind, and its readers would find nothing"
    (only,) = against_empty({f"t{n}": 10 for n in range(30)})
    assert only == (
        "30 targets are empty: 300 records meant for them were left behind, and their readers would find nothing: "
        "t0, t1, t10, t11, t12 and 25 more"
    )


def test_of_many_sources_that_leave_much_behind_a_few_are_named() -> None:
    left = [replace(MOVE, source=f"s{n}", listed=20, left_behind=15) for n in range(30)]
    assert against_leaving_behind(left[:2]) == [f"15 of the 20 records of s{n} would stay behind" for n in range(2)]
    *few, rest = against_leaving_behind(left)
    assert len(few) == 5 and rest == "375 of the 500 records of 25 more sources would stay behind"
