"""Sentences about one are in the singular; states are said as people say them."""

import pytest

from orchestrator.core.states import JobState
from orchestrator.core.wording import being, duration, elapsed, in_days, in_namespaces, leading, with_left_behind


@pytest.mark.parametrize(
    ("sides", "aliases", "said"),
    [
        (["new", "old", "old"], 0, "1 of 3 routes leads to the new namespaces"),
        (["new"], 1, "1 of 1 route leads to the new namespaces; 1 alias leads where its readers are"),
        (["old"], 2, "0 of 1 route lead to the new namespaces; 2 aliases lead where their readers are"),
    ],
)
def test_where_readers_are_led(sides: list[str], aliases: int, said: str) -> None:
    assert leading(sides, aliases) == said


def test_one_of_anything_is_no_plural() -> None:
    assert (in_namespaces(1, 1), in_namespaces(2, 3)) == ("1 record in 1 namespace", "2 records in 3 namespaces")
    assert (in_days(1.0), in_days(2.5)) == ("1 day", "2.5 days")


def test_no_state_is_said_as_it_is_written_in_the_job_table() -> None:
    assert being(JobState.NEEDS_ATTENTION) == "needs attention"
    assert being(JobState.CUT_OVER) == "is cut over"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (200, "3 min 20 s"),
        (180, "3 min"),
        (7_200, "2 h"),
        (7_500, "2 h 5 min"),
        (86_399.7, "1 day"),
        (86_400, "1 day"),
        (180_000, "2 days 2 h"),
    ],
)
def test_a_duration_is_told_as_people_say_it(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_a_state_names_what_it_does_not_cover() -> None:
    """A namespace of which thirty records were parked stood as verified, and nothing more."""
    assert with_left_behind("verified", 0, 30) == "verified, 30 parked"
    assert with_left_behind("verified", 5, 30) == "verified, 5 left behind, 30 parked"
    assert with_left_behind("parked", 0, 30) == "parked"


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.5, "0.5 s"), (1.43, "1.4 s"), (30.0, "30 s"), (60, "1 min"), (200.4, "3 min 20 s")]
)
def test_a_short_time_that_passed_is_told_to_the_tenth(seconds: float, said: str) -> None:
    assert elapsed(seconds) == said
