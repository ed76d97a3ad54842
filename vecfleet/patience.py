"""Trying again for a command or a request that somebody waits for. The fleet does its own waiting, by the job table."""

from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from vecfleet.errors import Transient

T = TypeVar("T")

ATTEMPTS = 6
_backoff = wait_exponential_jitter(multiplier=0.5, max=30.0)


def patiently(call: Callable[[], T]) -> T:
    """Do it, and again after a wait where the store could not answer just now. Only for calls that may run twice."""
    return Retrying(
        retry=retry_if_exception_type(Transient), stop=stop_after_attempt(ATTEMPTS), wait=_wait, reraise=True
    )(call)


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    told = error.retry_after if isinstance(error, Transient) else None
    return max(told or 0.0, _backoff(state))
