"""The pace: one allowance per limit, shared by all workers through Redis. Slots are booked, not polled for.

`reserve` books the next free slot of a limit and says how long to sleep until it; so a waiting fleet asks Redis once a
call. A 429 cuts the rate of that limit once a flight and holds the whole fleet for `Retry-After`; the rate then climbs
back by itself. An empty Redis restarts at half the rate. Without Redis each process keeps to a small share of its own.

The booking is the generic cell rate algorithm: `tat` is the time at which all booked slots will have passed.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from redis import Redis
from redis.exceptions import RedisError

from orchestrator.pacing import CLIMB_PER_S, REFUSED_WINDOW_S, USED_WINDOW_S, key

# A cut to 0.7 is back at full rate after 3 s: the limits are per second, so a longer penance only wastes them.
_CUT = 0.7
_LOWEST = 0.05
# Calls sent before a cut was known are one flight: they may all come back as 429 and count as one.
_FLIGHT_S = 1.0
# How many calls may go out back to back after an idle moment: a tenth of a second's worth.
_BURST_S = 0.1
# A slot further away than this is not booked, and not waited for in a task: the batch goes back and is sent again.
LONGEST_WAIT_S = 15.0
# Without Redis a process does not know its peers: a quarter of the rate keeps four of them inside it.
_SHARE_ALONE = 0.25

# What was booked, and refused, is counted in this window of time and the one before it: enough to say how much lately.
_COUNT = """
local function counted(state, at, now, length, more)
  local window = math.floor(now / length)
  local seen, count, before = tonumber(state[at]), tonumber(state[at + 1]) or 0, tonumber(state[at + 2]) or 0
  if seen ~= window then
    before = seen == window - 1 and count or 0
    count = 0
  end
  return window, count + more, before
end
"""

_RESERVE = (
    _COUNT
    + """
local t = redis.call('TIME'); local now = t[1] * 1000000 + t[2]
local burst, climb, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local length = tonumber(ARGV[4])
local first, booked, states = now, {}, {}
for n, key in ipairs(KEYS) do
  local interval, cost = tonumber(ARGV[3 + 2 * n]), tonumber(ARGV[4 + 2 * n])
  local state = redis.call('HMGET', key, 'tat', 'factor', 'since', 'hold', 'used_in', 'used', 'used_before')
  states[n] = state
  local factor, since = tonumber(state[2]), tonumber(state[3])
  if not factor then
    factor, since = 0.5, now
    redis.call('HSET', key, 'factor', factor, 'since', string.format('%.0f', since))
  end
  factor = math.min(1, factor + (now - since) / 1000000 * climb)
  local tat, hold = tonumber(state[1]) or now, tonumber(state[4]) or 0
  if tat < now then tat = now end
  first = math.max(first, tat - burst, hold)
  booked[n] = string.format('%.0f', math.max(tat, hold) + interval * cost / factor)
  redis.call('PEXPIRE', key, 86400000)
end
if first - now <= longest then
  for n, key in ipairs(KEYS) do
    local window, used, before = counted(states[n], 5, now, length, tonumber(ARGV[4 + 2 * n]))
    redis.call('HSET', key, 'tat', booked[n], 'interval', ARGV[3 + 2 * n],
      'used_in', window, 'used', used, 'used_before', before)
  end
end
return math.floor(first - now)
"""
)

_THROTTLED = (
    _COUNT
    + """
local t = redis.call('TIME'); local now = t[1] * 1000000 + t[2]
local flight, cut, climb, lowest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local state = redis.call('HMGET', KEYS[1], 'factor', 'since', 'hold', 'refused_in', 'refused', 'refused_before')
local window, refused, before = counted(state, 4, now, tonumber(ARGV[6]), 1)
redis.call('HSET', KEYS[1], 'refused_in', window, 'refused', refused, 'refused_before', before)
local factor, since = tonumber(state[1]), tonumber(state[2])
if not factor then factor, since = 0.5, now - flight end
if now - since >= flight then
  factor = math.min(1, factor + (now - since) / 1000000 * climb)
  redis.call('HSET', KEYS[1], 'factor', math.max(lowest, factor * cut), 'since', string.format('%.0f', now))
end
local until_ = now + tonumber(ARGV[5])
if until_ > (tonumber(state[3]) or 0) then redis.call('HSET', KEYS[1], 'hold', string.format('%.0f', until_)) end
redis.call('PEXPIRE', KEYS[1], 86400000)
"""
)

log = structlog.get_logger("vecfleet.pace")


@dataclass(frozen=True, slots=True)
class Limit:
    """One documented limit: what it counts, where, and how many a second."""

    name: str
    scope: str  # index host, or index host and namespace
    per_second: float

    @property
    def key(self) -> str:
        return key(self.name, self.scope)


class Pace:
    """The fleet's pace as one process sees it. Safe to share between threads."""

    def __init__(self, redis_url: str) -> None:
        self._redis = Redis.from_url(redis_url, socket_timeout=2, socket_connect_timeout=2)
        self._reserve = self._redis.register_script(_RESERVE)
        self._throttled = self._redis.register_script(_THROTTLED)
        self._alone: dict[str, float] = {}
        self._lock = threading.Lock()

    def reserve(self, limits: Sequence[tuple[Limit, float]], share: float) -> float:
        """Book one call: of each limit its cost, at `share` of the documented rates. Returns the seconds to wait.

        Nothing is booked of any limit where one of them has no slot within `LONGEST_WAIT_S`.
        """
        arguments = [_BURST_S * 1_000_000, CLIMB_PER_S, LONGEST_WAIT_S * 1_000_000, USED_WINDOW_S * 1_000_000]
        for limit, cost in limits:
            arguments += (1_000_000 / (limit.per_second * share), cost)
        try:
            return int(self._reserve(keys=[limit.key for limit, _ in limits], args=arguments)) / 1_000_000
        except RedisError as error:
            log.warning("no Redis: keeping a small pace alone", why=type(error).__name__)
            return max(self._reserve_alone(limit, cost, share) for limit, cost in limits)

    def throttled(self, limit: Limit, retry_after: float | None) -> None:
        """The service answered 429: slow this limit down for everybody, and hold it for `retry_after` seconds."""
        hold_us = int((retry_after or 0) * 1_000_000)
        arguments = [_FLIGHT_S * 1_000_000, _CUT, CLIMB_PER_S, _LOWEST, hold_us, REFUSED_WINDOW_S * 1_000_000]
        try:
            self._throttled(keys=[limit.key], args=arguments)
        except RedisError as error:
            log.warning("no Redis: the fleet does not learn of this 429", why=type(error).__name__)

    def _reserve_alone(self, limit: Limit, cost: float, share: float) -> float:
        with self._lock:
            now = time.monotonic()
            start = max(self._alone.get(limit.key, now), now)
            if start - now <= LONGEST_WAIT_S:
                self._alone[limit.key] = start + cost / (limit.per_second * share * _SHARE_ALONE)
            return start - now
