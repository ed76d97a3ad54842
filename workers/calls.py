"""Calls on behalf of one lease: paced, inside a deadline, and tried a few times.

Each call first waits for a slot of the pace; then the lease must outlive the request's deadline, which is counted from
that look: a write or a deletion that is held up between the look and the network is not sent late.
"""

import random
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from orchestrator.telemetry import counters
from orchestrator.telemetry.counters import Counters
from vecfleet import clock
from vecfleet.deadlines import ending_by
from vecfleet.errors import RateLimited, StoreError, Transient
from workers.leases import Held
from workers.pace import Limit, NoSlotSoon, Pace

T = TypeVar("T")

# Tries within a task bridge short hiccups. A longer outage requeues the batch and frees the thread.
TRIES = 4
_FIRST_WAIT_S = 0.25
_LONGEST_WAIT_S = 8.0
_LONGEST_PACED_S = 1.0  # after a 429: limits count by the second


class Calls:
    """The calls of one lease. `share`: the part of the documented rates that its job may use."""

    def __init__(self, pace: Pace, counted: Counters, share: float, held: Held, deadline_s: float) -> None:
        self.held = held
        self._pace = pace
        self._counted = counted
        self._share = share
        self._deadline_s = deadline_s

    def require_soon(self, limits: Sequence[Limit]) -> None:
        """Raise NoSlotSoon if a call would not go soon: ask before work that is done in vain without the call."""
        self._pace.require_soon(limits, self._share)

    def make(
        self,
        limits: Sequence[tuple[Limit, float]],
        call: Callable[[], T],
        before: Callable[[], None] | None = None,
        *,
        tries: int = TRIES,
    ) -> T:
        """Call, and call again after a wait while the service cannot answer. `before` runs before each try of a write.

        `limits`: what the call takes from each limit; the first names the operation.
        """

        def attempt() -> T:
            turn = self._pace.take(limits, self._share, self.held.wait)
            if before is not None:
                before()
            looked_at = clock.now()
            self.held.require(self._deadline_s)
            operation = limits[0][0].name
            try:
                with nullcontext() if before is None else ending_by(looked_at + self._deadline_s):
                    answer = call()
            except StoreError as error:
                self._counted.note(counters.call(operation, type(error).__name__))
                if isinstance(error, RateLimited):
                    self._pace.throttled(limits, error.retry_after)
                raise
            self._pace.answered(limits, turn)
            self._counted.note(counters.call(operation, "ok"))
            return answer

        retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, Transient) and not isinstance(error, NoSlotSoon)),
            wait=_wait,
            stop=stop_after_attempt(tries),
            sleep=self.held.wait,
            reraise=True,
        )
        return retrying(attempt)


def _wait(state: RetryCallState) -> float:
    """Return an exponential wait with jitter, no shorter than the service's hint up to `_LONGEST_WAIT_S`.

    After a 429 the pace holds this limit as long as the hint says, so the first one is followed by the next slot.
    """
    error = state.outcome.exception() if state.outcome else None
    hint = getattr(error, "retry_after", None) or 0.0
    paced = isinstance(error, RateLimited)
    failed, longest = state.attempt_number - paced, _LONGEST_PACED_S if paced else _LONGEST_WAIT_S
    backoff = min(_FIRST_WAIT_S * 2 ** (failed - 1), longest) if failed else 0.0
    return float(max(backoff * random.uniform(0.5, 1.0), min(hint, _LONGEST_WAIT_S)))
