"""The pace: one allowance per limit, shared by all workers through Redis. Slots are booked, not polled for.

`take` books the next free slot of a limit and sleeps until it, so a waiting fleet asks Redis about once a call. Each
limit books its slots on a clock of its own. The clock runs at the part of the rate that may be used now (`factor`), and
stands still while the service holds the fleet. So when the rate is cut or climbs, waiting calls go later or sooner, in
the order of booking. The booking is the generic cell rate algorithm; it happens in Redis (`pace.lua`).

More 429s than a few of a thousand calls cut the factor, once a flight: a little, because the limit is about here;
deeply if many calls are refused. The factor then stays as it is, longer each time the limit is found where it was
expected, and climbs back. `Retry-After` holds that limit for every worker. An empty Redis restarts at half the rate.
Without Redis each process keeps to a small share of its own.

After a 429 a limit is taken to count narrowly, for a minute at first: no second may hold more than the limit, no call
may follow the one before it too soon, and there is no burst. So a call asks once more shortly before its slot, and is
told when it goes to the millisecond. A call that goes late puts off those behind it; so does one that took unusually
long (`answered`): it may have reached the service late.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
from redis import Redis
from redis.exceptions import RedisError

from orchestrator.pace_view import (
    FIRST_FACTOR,
    FIRST_KEEP_S,
    REFUSED_WINDOW_S,
    SHORT_KEEP_S,
    USED_WINDOW_S,
    key,
)
from vecfleet.errors import RateLimited

_US = 1_000_000
# A waiting call asks again after this time: the clock may have been slowed, held or sped up meanwhile.
_ASK_AGAIN_S = 1.0
# At a narrow limit a call asks again so long before its slot, and is told when it goes if that is within the second
# time: a trip to Redis is between the two.
_ASKS_AHEAD_S, _GRANTED_S = 0.003, 0.005
# A call that was put off so often although its turn had come goes next. Otherwise a worker far from Redis would wait
# for ever, because it learns later than its peers that the limit is free. At worst its call goes one call too soon.
_PUT_OFF_OFTEN = 3
# A slot further away than this is not booked: the batch is requeued.
LONGEST_WAIT_S = 15.0
# Without Redis a process does not know its peers: with a quarter of the rate each, four processes keep within it.
_SHARE_ALONE = 0.25
# How much longer than announced a booked slot may take before it is given up.
_SLACK_S = 15.0
# A batch requeued for want of a slot is tried again after this time at most: the pace may have changed by then.
_LONGEST_AWAY_S = 60.0
# A call is late if it took longer than calls of its kind do, by more than half of what they differ by. It puts off
# those behind it by no more than the last of these: what is longer was spent in the service.
_NEWEST, _DIFFERING, _LATE_S, _LATEST_S = 0.05, 0.5, 0.0005, 0.02

_SHARED = {
    "US": _US,
    "FIRST_FACTOR": FIRST_FACTOR,
    "FIRST_KEEP_S": FIRST_KEEP_S,
    "SHORT_KEEP_S": SHORT_KEEP_S,
    "USED_WINDOW_S": USED_WINDOW_S,
    "REFUSED_WINDOW_S": REFUSED_WINDOW_S,
    "LONGEST_WAIT_S": LONGEST_WAIT_S,
    "ASK_AGAIN_US": _ASK_AGAIN_S * _US,
    "GRANTED_US": _GRANTED_S * _US,
}
_LUA = "".join(f"local {name} = {value:g}\n" for name, value in _SHARED.items()) + (
    Path(__file__).with_suffix(".lua").read_text(encoding="utf-8")
)
_BOOK, _ASK, _LATE, _THROTTLED = (f"{_LUA}\nreturn {name}()" for name in ("book", "ask", "late", "throttled"))

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

    `goes`: after the wait the call goes; else it asks again, at a `narrow` limit a little before. `put_off`: how often
    its turn had come and it was told to wait.
    """

    wait_s: float
    times: tuple[int, ...] = ()
    goes: bool = False
    narrow: bool = False
    put_off: int = 0

    @property
    def asks_after_s(self) -> float:
        return min(max(self.wait_s - _ASKS_AHEAD_S, 0.0) if self.narrow else self.wait_s, _ASK_AGAIN_S)


@dataclass(frozen=True, slots=True)
class Turn:
    """The time at which a call was to go (`time.monotonic`). `narrow`: one of its limits counts narrowly."""

    due_s: float
    narrow: bool


class Pace:
    """The fleet's pace as one process sees it. Safe to share between threads."""

    def __init__(self, redis_url: str) -> None:
        self._redis = Redis.from_url(redis_url, socket_timeout=2, socket_connect_timeout=2)
        self._book = self._redis.register_script(_BOOK)
        self._ask = self._redis.register_script(_ASK)
        self._late = self._redis.register_script(_LATE)
        self._throttled = self._redis.register_script(_THROTTLED)
        self._alone: dict[str, float] = {}
        self._took: dict[str, tuple[float, float]] = {}  # by the name of a limit: the mean, and how calls differ
        self._lock = threading.Lock()

    def take(self, limits: Sequence[tuple[Limit, float]], share: float, sleep: Callable[[float], None]) -> Turn:
        """Wait for the slot of one call: its cost at each limit, at `share` of the documented rates.

        Raises `NoSlotSoon` if no slot is near: at once, or when cuts and holds put a booked slot off for long (it then
        passes unused).
        """
        slot, heard_s, waited_s = self.book(limits, share), time.monotonic(), 0.0
        while not slot.goes:
            not_booked = slot.wait_s > LONGEST_WAIT_S and not slot.times
            if not_booked or waited_s > LONGEST_WAIT_S + _SLACK_S:
                raise NoSlotSoon(retry_after=min(slot.wait_s, _LONGEST_AWAY_S))
            now_s = slot.asks_after_s
            sleep(now_s)
            waited_s += now_s
            slot, heard_s = self.ask(limits, share, slot, now_s), time.monotonic()
        if slot.wait_s > 0:
            sleep(slot.wait_s)
        return Turn(heard_s + slot.wait_s, slot.narrow)

    def require_soon(self, limits: Sequence[Limit], share: float) -> None:
        """Raise `NoSlotSoon` if a call that asks now would not go soon. Books nothing."""
        slot = self.book([(limit, 0.0) for limit in limits], share)
        if slot.wait_s > LONGEST_WAIT_S:
            raise NoSlotSoon(retry_after=min(slot.wait_s, _LONGEST_AWAY_S))

    def book(self, limits: Sequence[tuple[Limit, float]], share: float) -> Slot:
        """Book a slot at every limit, or at none if one has no slot within `LONGEST_WAIT_S`."""
        try:
            return _slot(self._book(keys=[limit.key for limit, _ in limits], args=_costs(limits, share)))
        except RedisError as error:
            log.warning("no Redis: keeping a small pace alone", why=type(error).__name__)
            return _alone(max(self._book_alone(limit, cost, share) for limit, cost in limits))

    def ask(self, limits: Sequence[tuple[Limit, float]], share: float, slot: Slot, slept_s: float) -> Slot:
        """Return the same slot with its wait by now, or another slot if Redis forgot it."""
        if slot.times:
            try:
                arguments = [*_costs(limits, share), *slot.times, int(slot.put_off >= _PUT_OFF_OFTEN)]
                asked = _slot(self._ask(keys=[limit.key for limit, _ in limits], args=arguments))
            except RedisError as error:
                log.warning("no Redis: waiting as long as was said before", why=type(error).__name__)
            else:
                put_off = slot.put_off + (slot.wait_s - _ASKS_AHEAD_S <= slept_s)
                return replace(asked, put_off=put_off) if asked.wait_s >= 0 else self.book(limits, share)
        return _alone(slot.wait_s - slept_s, slot.times)

    def answered(self, limits: Sequence[tuple[Limit, float]], turn: Turn) -> None:
        """Note how long a call took from its turn to its answer. At a narrow limit a late one puts off others.

        Only what is unusual counts, because what the service needed is no lateness, and nothing tells the two apart.
        """
        name, took_s = limits[-1][0].name, time.monotonic() - turn.due_s
        with self._lock:
            mean_s, differing_s = self._took.get(name, (took_s, took_s / 4))
            differs_s = took_s - mean_s
            self._took[name] = (
                mean_s + _NEWEST * differs_s,
                differing_s + _NEWEST * (abs(differs_s) - differing_s),
            )
        if not turn.narrow or differs_s < _DIFFERING * differing_s + _LATE_S:
            return
        try:
            self._late(keys=[limit.key for limit, _ in limits], args=[int(min(differs_s, _LATEST_S) * _US)])
        except RedisError as error:
            log.warning("no Redis: the fleet does not learn of a late call", why=type(error).__name__)

    def throttled(self, limits: Sequence[tuple[Limit, float]], retry_after: float | None) -> None:
        """Slow a limit of this call down for everybody after a 429, and hold it for `retry_after` seconds.

        The service does not always say which of its limits was met: the one with most booked is taken for it.
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
    wait_us, goes, narrow, *times = answer
    return Slot(wait_us / _US, tuple(times), bool(goes), bool(narrow))


def _alone(wait_s: float, times: tuple[int, ...] = ()) -> Slot:
    """Return a slot as a process knows it without Redis."""
    return Slot(max(wait_s, 0.0), times, goes=wait_s <= _ASK_AGAIN_S)
