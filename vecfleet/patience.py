"""Retries for a command or a request that somebody waits for. The fleet's workers retry by the job table instead."""

import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_attempt,
    stop_when_event_set,
    wait_exponential_jitter,
)

from vecfleet.errors import RateLimited, Transient

T = TypeVar("T")

ATTEMPTS = 6
_LONGEST_WAIT_S = 60.0  # somebody waits: a service that asks for an hour is reported
_TRANSIENT = retry_if_exception_type(Transient)
_backoff = wait_exponential_jitter(multiplier=0.5, max=30.0)


def patiently(call: Callable[[], T], attempts: int = ATTEMPTS, ended: threading.Event | None = None) -> T:
    """Call, and call again after a wait while the store cannot answer. Only for calls that may run twice.

    Once `ended` is set, nobody waits for the answer: there is neither another wait nor another call.
    """
    ended = ended or threading.Event()
    return Retrying(
        retry=_TRANSIENT,
        stop=stop_after_attempt(attempts) | stop_when_event_set(ended),
        sleep=sleep_using_event(ended),
        wait=_wait,
        reraise=True,
    )(call)


async def patiently_async(call: Callable[[], Awaitable[T]], attempts: int = ATTEMPTS) -> T:
    """Do as `patiently` does, for coroutines."""
    return await AsyncRetrying(retry=_TRANSIENT, stop=stop_after_attempt(attempts), wait=_wait, reraise=True)(call)


def once_unless_refused(call: Callable[[], T]) -> T:
    """Call once; call again only after a refusal with 429, because then the store did nothing. At most `ATTEMPTS`.

    Meant for deletions. A deletion without an answer may still be carried out, and a second one would delete records
    that came since.
    """
    return Retrying(
        retry=retry_if_exception_type(RateLimited), stop=stop_after_attempt(ATTEMPTS), wait=_wait, reraise=True
    )(call)


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    told = error.retry_after if isinstance(error, Transient) else None
    return min(max(told or 0.0, _backoff(state)), _LONGEST_WAIT_S)
