"""Limits on guessing: how often one address, and all together, may try. Each failure is logged and counted."""

import copy
import math
import threading
from collections.abc import Callable
from typing import TypeVar

import structlog
from prometheus_client import CollectorRegistry, Counter

from orchestrator.core.wording import duration
from vecfleet.errors import Refused
from vecfleet.tenancy.api import RateLimit

T = TypeVar("T")
log = structlog.get_logger("vecfleet.web")

_EACH = (0.1, 10)  # from one address: failures a second, and failures at once
_ALL = (1.0, 100)  # from all addresses together
_EVERYBODY = "everybody"


class TooOften(Refused):
    """Signing in failed too often: nothing is looked at for a while."""

    def __init__(self, wait_s: float) -> None:
        self.wait_s = math.ceil(wait_s)
        super().__init__("signing in failed too often", next_step=f"try again in {duration(self.wait_s)}")


class Failures:
    """Failed attempts to sign in, and unknown tokens, by address. Per process: N processes allow N times as many."""

    def __init__(
        self, registry: CollectorRegistry, each: RateLimit | None = None, together: RateLimit | None = None
    ) -> None:
        self._each, self._together = each or RateLimit(*_EACH), together or RateLimit(*_ALL)
        self._lock = threading.Lock()
        self._counted = Counter(
            "vecfleet_sign_ins_failed", "Attempts to sign in at the page that failed", ("outcome",), registry=registry
        )
        for outcome in ("unknown", "throttled"):
            self._counted.labels(outcome)

    def apart(self) -> "Failures":
        """Return limits for another door. Both are counted together, but failures at one never close the other."""
        other = copy.copy(self)
        other._each, other._together = RateLimit(*_EACH), RateLimit(*_ALL)
        return other

    def attempt(self, address: str, sign_in: Callable[[], T | None]) -> T | None:
        """Return what this attempt gives, and note a failure: None. Raises TooOften before anything is looked at.

        One attempt after the other: of many at once, each would find the last one that is allowed still unspent.
        """
        with self._lock:
            wait_s = self.wait_s(address)
            if wait_s:
                raise TooOften(wait_s)
            result = sign_in()
            if result is None:
                self.note(address)
        return result

    def wait_s(self, address: str) -> float:
        """Return 0 where this address may try now; otherwise the seconds it has to wait, and count the attempt."""
        wait_s = max(self._each.left_s(address), self._together.left_s(_EVERYBODY))
        if wait_s:
            self._counted.labels("throttled").inc()
        return wait_s

    def note(self, address: str) -> None:
        """Note a failed attempt."""
        self._each.spend(address)
        self._together.spend(_EVERYBODY)
        self._counted.labels("unknown").inc()
        log.warning("an attempt to sign in failed", address=address)
