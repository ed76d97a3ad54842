"""Notes on the service's conversions and imports: each begins before its job, so the job table has none of them.

The `apply` that waits writes one to Redis at each look. A note ends with the waiting, or soon after its process died.
"""

from dataclasses import dataclass

import orjson
from redis import Redis, RedisError

from vecfleet.stores.base import Filling

PREFIX = "vecfleet:filling:"
_LASTS_S = 30
_PATIENCE_S = 0.5


@dataclass(frozen=True, slots=True)
class Told:
    """The last words of the service on the filling for a plan. `by`: who applied the plan."""

    plan_digest: str
    doing: str
    so_far: str
    percent: float
    records: int
    status: str
    by: str

    def __str__(self) -> str:
        return f"the service {self.doing}: {self.so_far}; the job of {self.by} begins when it is complete"


class Fillings:
    """The notes. Where Redis is away there are none: nothing rests on them."""

    def __init__(self, redis_url: str) -> None:
        self._redis = Redis.from_url(redis_url, socket_timeout=_PATIENCE_S, socket_connect_timeout=_PATIENCE_S)

    def note(self, plan_digest: str, by: str, filling: Filling) -> None:
        told = Told(plan_digest, filling.doing, filling.so_far, filling.percent, filling.records, filling.status, by)
        try:
            self._redis.set(PREFIX + plan_digest, orjson.dumps(told), ex=_LASTS_S)
        except RedisError:
            return

    def forget(self, plan_digest: str) -> None:
        try:
            self._redis.delete(PREFIX + plan_digest)
        except RedisError:
            return

    def every(self) -> list[Told]:
        """Return what was noted lately, in the order of the plans' digests."""
        try:
            names = sorted(self._redis.scan_iter(f"{PREFIX}*"))
            texts = self._redis.mget(names) if names else []
        except RedisError:
            return []
        return [Told(**orjson.loads(text)) for text in texts if text is not None]
