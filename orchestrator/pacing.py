"""The fleet's pace as anybody may see it: what the workers keep in Redis (`workers.pace` writes it), read only."""

from collections.abc import Sequence
from dataclasses import dataclass

from redis import Redis
from redis.exceptions import RedisError

_PATIENCE_S = 0.5
# As workers.pace has it: a cut allowance climbs back by so much a second.
_CLIMB_PER_S = 0.1


def key(name: str, scope: str) -> str:
    """Where an allowance is kept. `scope`: an index's host, or host and namespace."""
    return f"vecfleet:pace:{name}:{scope}"


@dataclass(frozen=True, slots=True)
class Allowance:
    """One limit. `factor` is the part of the job's share that may be used now; `refused_us` changes at each 429."""

    factor: float
    refused_us: int


class PaceReader:
    """Reads allowances. Safe to share between threads."""

    def __init__(self, redis_url: str) -> None:
        self._redis = Redis.from_url(redis_url, socket_timeout=_PATIENCE_S, socket_connect_timeout=_PATIENCE_S)

    def read(self, keys: Sequence[str]) -> dict[str, Allowance] | None:
        """Those of these allowances that are in use; None where Redis does not answer."""
        try:
            with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.time()
                for one in keys:
                    pipeline.hmget(one, ["factor", "since", "hold"])
                (seconds, micros), *rows = pipeline.execute()
        except RedisError:
            return None
        now = seconds * 1_000_000 + micros
        return {one: _allowance(row, now) for one, row in zip(keys, rows, strict=True) if row[0] is not None}


def _allowance(row: Sequence[bytes | None], now_us: int) -> Allowance:
    factor, since, hold = (float(value or 0) for value in row)
    climbed = max(0.0, (now_us - since) / 1_000_000) * _CLIMB_PER_S
    return Allowance(min(1.0, factor + climbed), int(hold))
