"""Limits on the requests of one user: a bucket each, in this process. Several processes allow as many times as much."""

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from vecfleet.tenancy.api.problems import Refusal

PER_SECOND = 20.0  # the seeds' load of all readers; one user of the API rarely needs it
BURST = 40
USERS = 10_000  # remembered at once; a forgotten user starts with a full bucket


class RateLimit:
    def __init__(
        self, per_second: float = PER_SECOND, burst: int = BURST, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second, self._burst, self._clock = per_second, burst, clock
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def left_s(self, user: str) -> float:
        """Return what `spend` would return, and count nothing."""
        with self._lock:
            left, at = self._buckets.get(user, (float(self._burst), self._clock()))
        left += (self._clock() - at) * self._per_second
        return 0.0 if left >= 1 else (1 - left) / self._per_second

    def spend(self, user: str) -> float:
        """Count one request and return 0 if it may go on; else return the seconds to wait, and count nothing."""
        now = self._clock()
        with self._lock:
            left, at = self._buckets.get(user, (float(self._burst), now))
            left = min(float(self._burst), left + (now - at) * self._per_second)
            allowed = left >= 1
            self._buckets[user] = (left - 1 if allowed else left, now)
            self._buckets.move_to_end(user)
            while len(self._buckets) > USERS:
                self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - left) / self._per_second

    def require(self, token: str) -> None:
        """Count one request of this token. Raises Refusal with 429 if it asks too often."""
        wait_s = self.spend(token)
        if wait_s:
            raise Refusal(
                429,
                "this token asks too often",
                next_step=f"ask again in {wait_s:.1f} s",
                headers={"Retry-After": str(math.ceil(wait_s))},
            )
