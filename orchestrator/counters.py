"""What the processes of the fleet count together, in Redis: calls to the stores, leases that ran out, waits for reads.

Kept where the pace is, for the same reason: there are several workers, and whoever is scraped must tell of all. An
empty Redis begins at nothing, as a restarted process does; a process that is killed takes its last second with it.
"""

import threading
import time
from collections import Counter
from functools import cache

import structlog
from redis import Redis
from redis.exceptions import RedisError

_KEY = "vecfleet:counters"
_PATIENCE_S = 0.5
# A scrape comes every few seconds; a call of its own for each count would cost more than what is counted.
_PUSH_EVERY_S = 1.0
LEASES_EXPIRED, FRESHNESS_WAITS, FRESHNESS_WAIT_MS = "leases_expired", "freshness_waits", "freshness_wait_ms"
MESSAGES_SET_ASIDE = "messages_set_aside"
_CALL = "call:"

log = structlog.get_logger("vecfleet.counters")


@cache
def call(operation: str, answer: str) -> str:
    """The counter of calls of one operation with one answer: `ok`, or the class of the error."""
    return f"{_CALL}{operation}:{answer}"


class Counters:
    """One process's view: it notes, a thread adds up in Redis, anybody reads. Safe to share between threads."""

    def __init__(self, redis_url: str) -> None:
        self._redis = Redis.from_url(
            redis_url, socket_timeout=_PATIENCE_S, socket_connect_timeout=_PATIENCE_S, decode_responses=True
        )
        self._noted: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._one_at_a_time = threading.Lock()
        self._pushing = False

    def note(self, name: str, amount: int = 1) -> None:
        with self._lock:
            self._noted[name] += amount
            if not self._pushing:
                self._pushing = True
                threading.Thread(target=self._push_on, name="counters", daemon=True).start()

    def push(self) -> None:
        """Add what was noted to what all have: done when this returns, whichever thread had begun with it. Where Redis
        does not answer it is kept for the next time.

        A request that was carried out though its answer got lost counts twice: these are figures, not accounts.
        """
        with self._one_at_a_time:
            self._push()

    def _push(self) -> None:
        with self._lock:
            noted, self._noted = self._noted, Counter()
        if not noted:
            return
        try:
            with self._redis.pipeline(transaction=True) as pipeline:
                for name, amount in noted.items():
                    pipeline.hincrby(_KEY, name, amount)
                pipeline.execute()
        except Exception as error:  # noqa: BLE001 - figures end nothing, and what broke the connection is told elsewhere
            log.debug("no Redis: counted later", why=type(error).__name__)
            with self._lock:
                self._noted.update(noted)

    def read(self) -> dict[str, int] | None:
        """Every counter; None where Redis does not answer."""
        try:
            return {str(name): int(count) for name, count in self._redis.hgetall(_KEY).items()}
        except RedisError:
            return None

    def _push_on(self) -> None:
        while True:
            time.sleep(_PUSH_EVERY_S)
            self.push()


def calls(counted: dict[str, int]) -> dict[tuple[str, str], int]:
    """By operation and answer, of what `read` gave."""
    found = {}
    for name, count in counted.items():
        if name.startswith(_CALL):
            operation, _, answer = name.removeprefix(_CALL).partition(":")
            found[operation, answer] = count
    return found
