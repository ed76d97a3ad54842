"""Counters that the processes of a fleet share in Redis: calls to the stores, expired leases, waits for reads.

They are beside the pace for the same reason: a scrape of one process must show the counts of all. An empty Redis
starts at zero, as a restarted process does. A killed process loses its last second of counts.
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
# A scrape comes every few seconds; one Redis call for each count would cost more than the counted work.
_PUSH_EVERY_S = 1.0
LEASES_EXPIRED, FRESHNESS_WAITS, FRESHNESS_WAIT_MS = "leases_expired", "freshness_waits", "freshness_wait_ms"
MESSAGES_SET_ASIDE = "messages_set_aside"
_CALL = "call:"

log = structlog.get_logger("vecfleet.counters")


@cache
def call(operation: str, answer: str) -> str:
    """Return the counter's name for one operation and one answer: `ok` or the class of the error."""
    return f"{_CALL}{operation}:{answer}"


class Counters:
    """Counters of one process: it notes, a thread adds to Redis, anybody reads. Safe to share between threads."""

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
        """Add the noted counts to Redis: all of them are there on return, even if another thread had begun.

        If Redis does not answer, the counts wait for the next push. If only the answer is lost, they count twice:
        these are figures, not accounts.
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
        except Exception as error:  # noqa: BLE001 - figures must end nothing, and others report the broken connection
            log.debug("no Redis: counted later", why=type(error).__name__)
            with self._lock:
                self._noted.update(noted)

    def read(self) -> dict[str, int] | None:
        """Return every counter; None if Redis does not answer."""
        try:
            return {str(name): int(count) for name, count in self._redis.hgetall(_KEY).items()}
        except RedisError:
            return None

    def _push_on(self) -> None:
        while True:
            time.sleep(_PUSH_EVERY_S)
            self.push()


def calls(counted: dict[str, int]) -> dict[tuple[str, str], int]:
    """Return the counters of calls in the answer of `read`, by operation and answer."""
    by_call = {}
    for name, count in counted.items():
        if name.startswith(_CALL):
            operation, _, answer = name.removeprefix(_CALL).partition(":")
            by_call[operation, answer] = count
    return by_call
