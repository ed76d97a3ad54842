"""Booking slots on a real Redis, and when calls may go out by them."""

import time
from dataclasses import dataclass

from orchestrator.pace_view import PaceReader, Seen
from workers.pace import Limit, Pace

FETCH = Limit("fetch", "brain.local", 100.0)
HALF = 0.5  # live readers share the index: 50 a second are ours
FULL = 50.0
BURST = 5  # a tenth of a second's worth
CUT, KEPT_S = 0.985, 2.0  # of the rate, for a few 429s among many calls; and how long that is kept
CUT_FOR_SOME, DEEP_CUT = 0.96, 0.8  # where a tenth is refused; where half is: the limit is far below
NOBODY = "redis://127.0.0.1:1/0"


@dataclass(frozen=True)
class Slot:
    """The span, in seconds, in which a call may go out."""

    earliest: float
    latest: float
    waits: bool


class Since:
    """`since.now` are the seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def now(self) -> float:
        return time.monotonic() - self._began


def book_one(pace: Pace, since: Since, limit: Limit = FETCH, cost: float = 1, share: float = HALF) -> Slot:
    asked = since.now
    wait = pace.book([(limit, cost)], share).wait_s
    return Slot(asked + wait, since.now + wait, wait > 0)


def book(pace: Pace, calls: int, since: Since | None = None) -> list[Slot]:
    """Return when so many calls may go out, in the order of their booking."""
    since = since or Since()
    return [book_one(pace, since) for _ in range(calls)]


@dataclass(frozen=True)
class Rate:
    """The span in which the allowed calls a second lie."""

    at_least: float
    at_most: float

    def is_between(self, low: float, high: float) -> bool:
        """Up to a tenth."""
        return self.at_most >= low * 0.9 and self.at_least <= high * 1.1


def rate(pace: Pace, share: float = HALF) -> Rate:
    """Return how many calls a second the limit allows now: read from what lies between two bookings of many."""
    many, since = 25, Since()
    while True:
        while pace.book([(FETCH, many)], share).wait_s < 0.5:
            pass  # until slots are taken for a while: before that a burst is free
        first = book_one(pace, since, cost=many, share=share)
        second = book_one(pace, since, cost=many, share=share)
        if first.waits and second.earliest > first.latest:
            return Rate(many / (second.latest - first.earliest), many / (second.earliest - first.latest))


def most_in_a_second(slots: list[Slot]) -> int:
    """Return how many of them lie within one second, wherever each of them is."""
    starts = [slot.earliest for slot in slots]
    return max(sum(start <= slot.earliest and slot.latest < start + 1 for slot in slots) for start in starts)


def assert_filled(slots: list[Slot], seconds: float, since: Since) -> None:
    """They take so long, and no longer but by as much as nobody booked."""
    assert max(slot.latest for slot in slots) > seconds - 0.05
    assert max(slot.earliest for slot in slots) < seconds + 0.05 + since.now


def seen(redis_url: str, limit: Limit = FETCH) -> Seen:
    found = PaceReader(redis_url).every()
    assert found is not None
    [one] = [one for one in found if (one.name, one.scope) == (limit.name, limit.scope)]
    return one
