"""Sentences about one are in the singular; states are said as people say them."""

import pytest

from orchestrator.core.states import JobState
from orchestrator.core.wording import being, in_days, in_namespaces, leading


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
