"""Short waits of a call happen inside its task; longer ones go back to the job table."""

import pytest
from tenacity import RetryCallState, Retrying

from vecfleet import errors as e
from workers import calls


def waits_after(error: e.Transient) -> list[float]:
    """Return the waits before each of twenty tries, twenty times: they are drawn by lot."""
    waits = []
    for tried in range(1, 21):
        state = RetryCallState(Retrying(), None, (), {})
        state.attempt_number = tried
        state.set_exception((type(error), error, None))
        waits += [calls._wait(state) for _ in range(20)]
    return waits


def test_after_a_429_no_call_waits_longer_than_the_second_by_which_limits_count() -> None:
    waits = waits_after(e.RateLimited())
    assert 0.5 < max(waits) <= 1.0


def test_an_outage_is_waited_for_longer_and_longer() -> None:
    waits = waits_after(e.Unavailable())
    assert max(waits[:20]) <= 0.25 and 4.0 < max(waits) <= 8.0


@pytest.mark.parametrize("error", [e.RateLimited(retry_after=3.0), e.Unavailable(retry_after=3.0)], ids=["429", "503"])
def test_no_call_comes_before_the_service_said(error: e.Transient) -> None:
    assert min(waits_after(error)) == 3.0


def test_a_service_that_says_later_than_a_task_waits_is_asked_once_more_before() -> None:
    assert set(waits_after(e.RateLimited(retry_after=60.0))) == {8.0}
