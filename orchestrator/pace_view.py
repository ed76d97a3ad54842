"""A read-only view of the fleet's pace, which the workers keep in Redis (`workers.pace` writes it)."""

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

# An unknown limit begins at half, because its use a moment ago is unknown; it climbs soon.
FIRST_FACTOR, FIRST_KEEP_S = 0.5, 1.0
# How long a deep cut is kept. A rate that was kept longer climbs more slowly, in the same proportion.
SHORT_KEEP_S = 2.0
# Windows that count bookings and refusals: long enough to be smooth, short enough to show the present.
USED_WINDOW_S, REFUSED_WINDOW_S = 10, 60

PREFIX = "vecfleet:pace:"
_PATIENCE_S = 0.5
# A few allowances for each of 12,000 namespaces take a hundred trips.
_KEYS_PER_TRIP = 1_000
_US_PER_S = 1_000_000
# Every rate is back at its whole after so many doublings.
_ANY = 64.0
_DIGEST = re.compile(r".+:[0-9a-f]{16}")


def key(name: str, scope: str) -> str:
    """Return the Redis key of an allowance. `scope`: an index's host, or host and namespace."""
    return f"{PREFIX}{name}:{scope}"


def scope_of(host: str, namespace: str) -> str:
    """Return the scope of a limit by namespace, with a digest of the name: a person's name would outlive the person."""
    return f"{host}:{hashlib.sha256(b'vecfleet pace ' + namespace.encode()).hexdigest()[:16]}"


def is_hidden(scope: str) -> bool:
    """Say whether a scope may hold a digest instead of a namespace's name."""
    return _DIGEST.fullmatch(scope) is not None


@dataclass(frozen=True, slots=True)
class Allowance:
    """One limit. `factor`: the part of the job's share that may be used now. `refused_us` changes at each 429."""

    factor: float
    refused_us: int


@dataclass(frozen=True, slots=True)
class Seen:
    """One limit of one scope, with its recent use. Rates are in its unit (requests, bytes, records) a second.

    `allowed`: the present rate of the job that asked last, None before the first booking. `ahead_s`: how far into the
    future slots are taken. `held_s`: how long nobody may call. `refused`: the 429s of the last minute.
    """

    name: str
    scope: str
    factor: float
    allowed: float | None
    used: float
    ahead_s: float
    held_s: float
    refused: int

    @property
    def busy(self) -> bool:
        """Say whether the limit was used, held or refused lately."""
        return self.used > 0 or self.held_s > 0 or self.refused > 0


def with_names(seen: Iterable[Seen], places: Iterable[tuple[str, str]]) -> list[Seen]:
    """Replace digests by names. A digest stays if none of `places` (host, namespace) has its name."""
    names = {scope_of(host, namespace): f"{host}:{namespace}" for host, namespace in places}
    return [replace(limit, scope=names.get(limit.scope, limit.scope)) for limit in seen]


class PaceReader:
    """Reader of allowances. Safe to share between threads. Loads Redis' client, which no other part of a view needs."""

    def __init__(self, redis_url: str) -> None:
        from redis import Redis, RedisError

        self._away = RedisError
        self._redis = Redis.from_url(redis_url, socket_timeout=_PATIENCE_S, socket_connect_timeout=_PATIENCE_S)

    def read(self, keys: Sequence[str]) -> dict[str, Allowance] | None:
        """Return the allowances of these keys that are in use; None if Redis does not answer."""
        try:
            with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.time()
                for name in keys:
                    pipeline.hmget(name, ["factor", "since", "keep", "hold"])
                now, *rows = pipeline.execute()
        except self._away:
            return None
        return {name: _allowance(row, _us(now)) for name, row in zip(keys, rows, strict=True) if row[0] is not None}

    def every(self) -> list[Seen] | None:
        """Return every limit that was booked within a day; None if Redis does not answer."""
        try:
            keys = sorted(name.decode() for name in self._redis.scan_iter(f"{PREFIX}*", count=_KEYS_PER_TRIP))
            trips = [self._seen(keys[at : at + _KEYS_PER_TRIP]) for at in range(0, len(keys), _KEYS_PER_TRIP)]
        except self._away:
            return None
        return [limit for limits in trips for limit in limits]

    def _seen(self, keys: Sequence[str]) -> list[Seen]:
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.time()
            for name in keys:
                pipeline.hgetall(name)
            now, *states = pipeline.execute()
        return [_state(name, state, _us(now)) for name, state in zip(keys, states, strict=True) if state]


def _us(time: tuple[int, int]) -> int:
    seconds, micros = time
    return seconds * _US_PER_S + micros


def climbed(factor: float, quiet_s: float, keep_s: float) -> float:
    """Return the usable part of a rate after `quiet_s`: kept for `keep_s`, then climbing ever faster.

    It doubles in the first second and is sixteenfold after two; a rate that was kept for a minute takes half of one to
    double. The first steps are small because the limit may be near. (`factor_at` in workers/pace.lua)
    """
    climbing_s = max(0.0, quiet_s - keep_s) * SHORT_KEEP_S / max(keep_s, SHORT_KEEP_S)
    return min(1.0, factor * math.exp2(min(climbing_s**2, _ANY)))


def _allowance(row: Sequence[bytes | None], now_us: int) -> Allowance:
    factor, since, keep, hold = row
    quiet_s = (now_us - float(since or 0)) / _US_PER_S
    return Allowance(climbed(float(factor or 0), quiet_s, float(keep or FIRST_KEEP_S)), int(float(hold or 0)))


def _state(key: str, state: Mapping[bytes, bytes], now_us: int) -> Seen:
    def number(name: str) -> float:
        return float(state.get(name.encode(), 0))

    def lately(name: str, seconds: int) -> float:
        """Return the count of the last `seconds`: the running window, and the share of the window before it."""
        windows = now_us / (seconds * _US_PER_S)
        counted_in = number(f"{name}_in")
        if counted_in == windows // 1:
            return number(name) + number(f"{name}_before") * (1 - windows % 1)
        return number(name) * (1 - windows % 1) if counted_in == windows // 1 - 1 else 0.0

    name, _, scope = key.removeprefix(PREFIX).partition(":")
    quiet_s = (now_us - number("since")) / _US_PER_S
    factor = climbed(number("factor"), quiet_s, number("keep") or FIRST_KEEP_S)
    interval_us = number("interval")
    passed_us = max(0.0, now_us - max(number("v_at"), number("hold")))
    return Seen(
        name=name,
        scope=scope,
        factor=factor,
        allowed=factor * _US_PER_S / interval_us if interval_us else None,
        used=lately("used", USED_WINDOW_S) / USED_WINDOW_S,
        ahead_s=max(0.0, (number("tat") - number("v") - passed_us * factor) / factor / _US_PER_S) if factor else 0.0,
        held_s=max(0.0, (number("hold") - now_us) / _US_PER_S),
        refused=round(lately("refused", REFUSED_WINDOW_S)),
    )
