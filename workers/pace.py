"""The pace: one allowance per limit, shared by all workers through Redis. Slots are booked, not polled for.

`take` books the next free slot of a limit and sleeps until it, so a waiting fleet asks Redis about once a call. Each
limit has a clock of its own, on which its slots are booked. The clock runs at the part of the rate that may be used now
(`factor`), and stands still while a `Retry-After` holds the fleet. When the rate is cut or climbs, waiting calls go
later or sooner, in the order of booking. The booking is the generic cell rate algorithm: `tat` is the time on that
clock at which all booked slots will have passed.

A 429 cuts the factor once a flight: a little if few calls are refused, because the rate is then about right; deeply if
many are refused. A cut factor is kept for a while, and longer each time the limit proves to be where it was expected;
then the factor climbs back ever faster. `Retry-After` holds that limit for every worker. An empty Redis restarts at
half the rate. Without Redis each process keeps to a small share of its own.

For a minute after a 429 a limit is assumed to count narrowly. There is no burst, and a call whose slot has come asks
once more before it goes. The call waits one full interval after the previous call was really sent. If the call is late,
all later calls shift by as much, because a punctual call right behind a late one would be refused.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import structlog
from redis import Redis
from redis.exceptions import RedisError

from orchestrator.pace_view import FIRST_FACTOR, FIRST_KEEP_S, REFUSED_WINDOW_S, USED_WINDOW_S, key
from vecfleet.errors import RateLimited

# Calls sent before a cut was known are one flight: they may all come back as 429 and count as one.
_FLIGHT_S = 1.0
# If a few calls since the last cut were refused, the rate is about right; if a tenth, it is too high; if half, it is
# far too high, or there is a storm.
_CUT, _CUT_FOR_SOME, _CUT_FOR_MANY = 0.98, 0.96, 0.8
_SOME, _MANY = 0.1, 0.5
_LOWEST = 0.1
# How long a cut rate is kept: short after a deep cut, which is a storm or a guess; four times as long each time the
# rate climbed and was refused again, because each try above the limit costs a few refusals; short again after a long
# time without refusals. A refusal while the rate is kept lowers it a little more but keeps it no longer: other clients
# may be too fast.
_SHORT_KEEP_S, _LONGER, _LONGEST_KEEP_S, _FORGOTTEN_S = 2.0, 4, 60.0, 120.0
# After an idle moment the calls of a tenth of a second may go back to back; none within a minute of a 429, because the
# service may count more narrowly than in whole seconds.
_BURST_S, _NARROW_S = 0.1, 60.0
# A waiting call asks again after this time: the clock may have been slowed, held or sped up meanwhile.
_ASK_AGAIN_S = 1.0
# A call that was put off so often although its turn had come goes next. Otherwise a worker far from Redis would wait
# for ever, because it learns later than its peers that the limit is free. At worst its call goes one call too soon.
_PUT_OFF_OFTEN = 3
# A slot further away than this is not booked: the batch is requeued.
LONGEST_WAIT_S = 15.0
# Without Redis a process does not know its peers: with a quarter of the rate each, four processes keep within it.
_SHARE_ALONE = 0.25
# How much longer than announced a booked slot may take before it is given up.
_SLACK_S = 15.0
# No worker books so far ahead: such a `tat` is a time of day that a worker of an earlier version wrote.
_NOT_OURS_S = 3_600.0
# A batch requeued for want of a slot is tried again after this time at most: the pace may have changed by then.
_LONGEST_AWAY_S = 60.0
_US = 1_000_000

# State of a limit, a Redis hash. `v`: its clock (µs), as of `v_at`. `tat`: the time on that clock at which all booked
# slots will have passed. `free`: the time on that clock before which a narrow limit takes no further call. `factor`:
# the part of the rate in use, cut at `since` and kept for `keep` s. `hold`: until then the service takes no call.
# `counted`: add to the count of this window of time; the window before it is kept, to say how much came lately.
# `read_limit`: read a limit's state and bring its clock up to now. Between two looks the mean of the factor counts.
# `begin_call`: a call goes. At a narrow limit no call goes before `free`. The clock is put back by the call's lateness,
# but by no more than the call's interval, or the next slot would come before the limit is free. A call with several
# limits is as late as at the limit that it waited for longest: at the others its turn came earlier.
_COMMON = f"""
local t = redis.call('TIME'); local now = t[1] * {_US} + t[2]

local function counted(window_s, seen, count, before, more)
  local window = math.floor(now / (window_s * {_US}))
  if seen ~= window then
    before = seen == window - 1 and count or 0
    count = 0
  end
  return window, count + more, before
end

local function factor_at(s, at)
  local climbed_s = (at - s.since) / {_US} - s.keep
  if climbed_s <= 0 then return s.factor end
  return math.min(1, s.factor * 2 ^ (climbed_s * climbed_s))
end

local function read_limit(key)
  local names = {{'factor', 'since', 'keep', 'hold', 'v', 'v_at', 'tat', 'refused_at', 'cut_at', 'free'}}
  local found, s = redis.call('HMGET', key, unpack(names)), {{}}
  for n, name in ipairs(names) do s[name] = tonumber(found[n]) end
  if not s.factor then
    s.factor, s.since = {FIRST_FACTOR}, now
    redis.call('HSET', key, 'factor', s.factor, 'since', string.format('%.0f', now))
  end
  s.keep, s.hold = s.keep or {FIRST_KEEP_S}, s.hold or 0
  s.v, s.v_at, s.tat, s.refused_at = s.v or 0, s.v_at or now, s.tat or 0, s.refused_at or 0
  s.cut_at, s.key, s.narrow = s.cut_at or 0, key, now - s.refused_at < {_NARROW_S * _US}
  s.free = s.narrow and s.free or 0
  if s.tat - s.v > {_NOT_OURS_S * _US} then s.tat = s.v end
  local from = math.max(s.v_at, s.hold)
  if now > from then s.v = s.v + (now - from) * (factor_at(s, from) + factor_at(s, now)) / 2 end
  s.now_factor, s.held = factor_at(s, now), math.max(s.hold - now, 0)
  redis.call('HSET', key, 'v', string.format('%.0f', s.v), 'v_at', string.format('%.0f', now))
  redis.call('PEXPIRE', key, 86400000)
  return s
end

local function wait_for(s, slot, goes_next)
  local free = goes_next and 0 or s.free
  return s.held + math.max(slot - s.v, free - s.v, 0) / s.now_factor
end

local function begin_call(states, slots)
  local late = math.huge
  for n, s in ipairs(states) do late = math.min(late, math.max(s.v - slots[n], 0) / s.now_factor) end
  for n, s in ipairs(states) do
    if s.narrow then
      local takes = tonumber(ARGV[2 * n - 1]) * tonumber(ARGV[2 * n])
      s.v = s.v - math.min(late * s.now_factor, takes)
      redis.call('HSET', s.key, 'v', string.format('%.0f', s.v), 'free', string.format('%.0f', s.v + takes))
    end
  end
end

local function answer(states, slots, wait)
  local asks = 0
  for _, s in ipairs(states) do if s.narrow then asks = 1 end end
  wait = math.floor(wait)
  if wait == 0 then begin_call(states, slots) end
  return {{wait, asks, unpack(slots)}}
end
"""

_BOOK = (
    _COMMON
    + f"""
local wait, slots, states = 0, {{}}, {{}}
for n, key in ipairs(KEYS) do
  local s = read_limit(key)
  local burst = s.narrow and 0 or {_BURST_S * _US}
  s.tat = math.max(s.tat, s.v, s.free)
  states[n], slots[n] = s, math.floor(s.tat - burst)
  wait = math.max(wait, wait_for(s, slots[n]))
end
if wait > {LONGEST_WAIT_S * _US} then return {{math.floor(wait), 0}} end
for n, key in ipairs(KEYS) do
  local interval, cost = tonumber(ARGV[2 * n - 1]), tonumber(ARGV[2 * n])
  local used = redis.call('HMGET', key, 'used_in', 'used', 'used_before')
  local window, count, before =
    counted({USED_WINDOW_S}, tonumber(used[1]), tonumber(used[2]) or 0, tonumber(used[3]) or 0, cost)
  redis.call('HSET', key, 'tat', string.format('%.0f', states[n].tat + interval * cost), 'interval', interval,
    'used_in', window, 'used', count, 'used_before', before)
  redis.call('HINCRBY', key, 'sent_since', 1)
end
return answer(states, slots, wait)
"""
)

# A slot beyond `tat` was booked before Redis was emptied, on a clock that is gone.
_ASK = (
    _COMMON
    + """
local wait, slots, states = 0, {}, {}
local goes_next = ARGV[3 * #KEYS + 1] == '1'
for n, key in ipairs(KEYS) do
  local s, slot = read_limit(key), tonumber(ARGV[2 * #KEYS + n])
  if slot > s.tat then return {-1, 0} end
  states[n], slots[n] = s, slot
  wait = math.max(wait, wait_for(s, slot, goes_next))
end
return answer(states, slots, wait)
"""
)

_THROTTLED = (
    _COMMON
    + f"""
local hold = now + tonumber(ARGV[1])
local key, s
for _, one in ipairs(KEYS) do
  local o = read_limit(one)
  if not s or o.tat - o.v > s.tat - s.v then key, s = one, o end
end
local refused = redis.call('HMGET', key, 'refused_in', 'refused', 'refused_before')
local window, count, before =
  counted({REFUSED_WINDOW_S}, tonumber(refused[1]), tonumber(refused[2]) or 0, tonumber(refused[3]) or 0, 1)
redis.call('HSET', key, 'refused_in', window, 'refused', count, 'refused_before', before,
  'refused_at', string.format('%.0f', now))
local sent, lost = tonumber(redis.call('HGET', key, 'sent_since')) or 0, redis.call('HINCRBY', key, 'refused_since', 1)
if now - s.cut_at >= {_FLIGHT_S * _US} then
  local cut, quiet = lost > 2 and lost >= sent * {_SOME} and {_CUT_FOR_SOME} or {_CUT}, (now - s.since) / {_US}
  if lost > 1 and lost >= sent * {_MANY} then
    cut, s.keep, s.since = {_CUT_FOR_MANY}, {_SHORT_KEEP_S}, now
  elseif quiet > {_FORGOTTEN_S} then
    s.keep, s.since = {_SHORT_KEEP_S}, now
  elseif quiet > s.keep then
    s.keep, s.since = math.min({_LONGER} * s.keep, {_LONGEST_KEEP_S}), now
  end
  redis.call('HSET', key, 'factor', math.max({_LOWEST}, s.now_factor * cut), 'keep', s.keep,
    'since', string.format('%.0f', s.since), 'cut_at', string.format('%.0f', now), 'sent_since', 0, 'refused_since', 0)
end
if hold > s.hold then redis.call('HSET', key, 'hold', string.format('%.0f', hold)) end
"""
)

log = structlog.get_logger("vecfleet.pace")


class NoSlotSoon(RateLimited):
    """The fleet's pace has no slot soon."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One documented limit: what it counts, where, and how many a second."""

    name: str
    scope: str  # index host, or index host and namespace
    per_second: float

    @property
    def key(self) -> str:
        return key(self.name, self.scope)


@dataclass(frozen=True, slots=True)
class Slot:
    """A call's place: how long to wait as things are now, and its booked time on each limit's clock.

    `asks`: after the wait the call asks again, and goes only if no wait is left. `put_off`: how often the call's turn
    had come and it had to wait all the same.
    """

    wait_s: float
    times: tuple[int, ...] = ()
    asks: bool = False
    put_off: int = 0


class Pace:
    """The fleet's pace as one process sees it. Safe to share between threads."""

    def __init__(self, redis_url: str) -> None:
        self._redis = Redis.from_url(redis_url, socket_timeout=2, socket_connect_timeout=2)
        self._book = self._redis.register_script(_BOOK)
        self._ask = self._redis.register_script(_ASK)
        self._throttled = self._redis.register_script(_THROTTLED)
        self._alone: dict[str, float] = {}
        self._lock = threading.Lock()

    def take(self, limits: Sequence[tuple[Limit, float]], share: float, sleep: Callable[[float], None]) -> None:
        """Wait for the slot of one call: its cost at each limit, at `share` of the documented rates.

        Raises `NoSlotSoon` if no slot is near: at once, or when cuts and holds put a booked slot off for long (it then
        passes unused).
        """
        slot, waited_s = self.book(limits, share), 0.0
        while slot.wait_s > 0:
            not_booked = slot.wait_s > LONGEST_WAIT_S and not slot.times
            if not_booked or waited_s > LONGEST_WAIT_S + _SLACK_S:
                raise NoSlotSoon(retry_after=min(slot.wait_s, _LONGEST_AWAY_S))
            now_s = min(slot.wait_s, _ASK_AGAIN_S)
            sleep(now_s)
            waited_s += now_s
            if slot.wait_s <= now_s and not slot.asks:
                return
            slot = self.ask(limits, share, slot, now_s)

    def require_soon(self, limits: Sequence[Limit], share: float) -> None:
        """Raise `NoSlotSoon` if a call that asks now would not go soon. Books nothing."""
        slot = self.book([(limit, 0.0) for limit in limits], share)
        if slot.wait_s > LONGEST_WAIT_S:
            raise NoSlotSoon(retry_after=min(slot.wait_s, _LONGEST_AWAY_S))

    def book(self, limits: Sequence[tuple[Limit, float]], share: float) -> Slot:
        """Book a slot at every limit; at none if one has no slot within `LONGEST_WAIT_S`. Wait 0: the call goes."""
        try:
            return _slot(self._book(keys=[limit.key for limit, _ in limits], args=_costs(limits, share)))
        except RedisError as error:
            log.warning("no Redis: keeping a small pace alone", why=type(error).__name__)
            return Slot(max(self._book_alone(limit, cost, share) for limit, cost in limits))

    def ask(self, limits: Sequence[tuple[Limit, float]], share: float, slot: Slot, slept_s: float) -> Slot:
        """Return the slot with the wait that is left (0: the call goes), or another slot if Redis forgot this one."""
        if slot.times:
            try:
                arguments = [*_costs(limits, share), *slot.times, int(slot.put_off >= _PUT_OFF_OFTEN)]
                asked = _slot(self._ask(keys=[limit.key for limit, _ in limits], args=arguments))
            except RedisError as error:
                log.warning("no Redis: waiting as long as it last said", why=type(error).__name__)
            else:
                put_off = slot.put_off + (slot.wait_s <= slept_s)
                return replace(asked, put_off=put_off) if asked.wait_s >= 0 else self.book(limits, share)
        return Slot(slot.wait_s - slept_s, slot.times)

    def throttled(self, limits: Sequence[tuple[Limit, float]], retry_after: float | None) -> None:
        """Slow a limit of this call down for everybody after a 429, and hold it for `retry_after` seconds.

        The service does not always name the limit that was reached. We take the one with most slots booked.
        """
        try:
            self._throttled(keys=[limit.key for limit, _ in limits], args=[int((retry_after or 0) * _US)])
        except RedisError as error:
            log.warning("no Redis: the fleet does not learn of this 429", why=type(error).__name__)

    def _book_alone(self, limit: Limit, cost: float, share: float) -> float:
        with self._lock:
            now = time.monotonic()
            start = max(self._alone.get(limit.key, now), now)
            if start - now <= LONGEST_WAIT_S:
                self._alone[limit.key] = start + cost / (limit.per_second * share * _SHARE_ALONE)
            return start - now


def _costs(limits: Sequence[tuple[Limit, float]], share: float) -> list[float]:
    """Return for each limit the time on its clock that a unit takes (µs), and how many units."""
    return [number for limit, cost in limits for number in (_US / (limit.per_second * share), cost)]


def _slot(answer: Sequence[int]) -> Slot:
    wait_us, asks, *times = answer
    return Slot(wait_us / _US, tuple(times), bool(asks))
