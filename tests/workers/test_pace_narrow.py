"""The pace of a limit that may count narrowly, as it is taken to for a minute after a 429: a call that goes late puts
off those behind it, rather than have them come too soon after it.

A call of 50 takes a second. Redis reckons when a call goes somewhere between our question and its answer, so only what
is so wherever that lies is claimed.
"""

import random
import time
from collections.abc import Callable
from threading import Thread

import pytest
from slots import FETCH, HALF, Since

from workers.pace import Limit, Pace, Turn

CALL = [(FETCH, 50.0)]
# What a call is given besides, and how far ahead of its slot it may be told to go.
MARGIN_S = 0.003 + 0.005


@pytest.fixture
def narrow(put: Callable[..., None]) -> Callable[..., None]:
    """At the whole rate, with a 429 a moment ago."""

    def narrow(limit: Limit = FETCH) -> None:
        put(limit, factor=1, since=0, refused_at=time.time() * 1_000_000)

    narrow()
    return narrow


def goes_now(pace: Pace) -> None:
    assert pace.book(CALL, HALF).goes


def wait_until(since: Since, seconds: float) -> None:
    time.sleep(max(0.0, seconds - since.now))


def test_whoever_stands_behind_a_late_call_is_put_off(pace: Pace, narrow: None) -> None:
    # Given a call that goes, and two that stand a second and two behind it
    goes_now(pace)
    since = Since()
    late, next_one = pace.book(CALL, HALF), pace.book(CALL, HALF)

    # When the first of them is late by half a second
    wait_until(since, 1.5)
    gone = Since()
    assert pace.ask(CALL, HALF, late, 0).goes

    # Then the second comes a whole second after it, and so does whoever books now after that one
    assert pace.ask(CALL, HALF, next_one, 0).wait_s > 0.99 - gone.now
    assert pace.book(CALL, HALF).wait_s > 1.99 - gone.now


def test_where_nobody_was_refused_lately_a_late_call_puts_nobody_off(pace: Pace, full_speed: None) -> None:
    goes_now(pace)
    since = Since()
    late, next_one = pace.book(CALL, HALF), pace.book(CALL, HALF)
    assert not late.narrow
    wait_until(since, 1.5)
    pace.ask(CALL, HALF, late, 0)
    assert pace.ask(CALL, HALF, next_one, 0).wait_s <= 0.5


def test_a_call_that_was_overtaken_keeps_its_distance_and_costs_nobody_a_turn(pace: Pace, narrow: None) -> None:
    # Given one that sleeps through its slot, so that the one behind it goes first
    goes_now(pace)
    since = Since()
    late, overtakes, last = (pace.book(CALL, HALF) for _ in range(3))
    wait_until(since, 2.0)
    gone = Since()
    assert pace.ask(CALL, HALF, overtakes, 0).goes

    # When it asks, then it goes a second later, and the last one a second after it
    waits = pace.ask(CALL, HALF, late, 0).wait_s
    assert 0.99 - gone.now < waits <= 1.0 + MARGIN_S
    time.sleep(waits)
    gone = Since()
    assert pace.ask(CALL, HALF, late, 0).goes
    waits = pace.ask(CALL, HALF, last, 0).wait_s
    assert 0.99 - gone.now < waits <= 1.0 + MARGIN_S


def test_a_call_asks_once_more_before_it_goes(pace: Pace, redis_url: str, narrow: None) -> None:
    # Given a call that goes, one that stands behind it, and one that waits behind both
    goes_now(pace)
    since = Since()
    late = pace.book(CALL, HALF)
    went: list[float] = []

    def take() -> None:
        Pace(redis_url).take(CALL, HALF, time.sleep)
        went.append(since.now)

    waiting = Thread(target=take)
    waiting.start()

    # When the one before it goes late, while it sleeps
    wait_until(since, 1.5)
    assert pace.ask(CALL, HALF, late, 0).goes
    gone_by = since.now
    waiting.join()

    # Then it does not go at its slot, two seconds after the first, but a second after the one before it
    assert went[0] > 2.4, f"the one before it went by {gone_by}"


def test_a_large_call_takes_its_room_before_a_small_one(pace: Pace, narrow: None) -> None:
    """A request after one of megabytes waits until that is paid for, however small it is."""
    gone = Since()
    pace.book([(FETCH, 100.0)], HALF)
    assert pace.book([(FETCH, 1.0)], HALF).wait_s > 1.99 - gone.now


def test_a_limit_that_a_call_does_not_wait_for_is_not_put_back(pace: Pace, narrow: Callable[..., None]) -> None:
    # Given five writes that stand a second apart for their bytes, and half a second for their number
    size, number = Limit("upsert_bytes", "brain.local:t", 100.0), Limit("upsert", "brain.local:t", 100.0)
    narrow(size)
    narrow(number)
    write = [(size, 50.0), (number, 25.0)]
    since = Since()
    booked = [pace.book(write, HALF) for _ in range(5)]

    # When those whose time it is have gone
    for late, slot in enumerate(booked[1:3], 1):
        wait_until(since, late)
        while not pace.ask(write, HALF, slot, 0).goes:
            pass

    # Then another call that counts to their number alone waits for what was booked of it, and no longer
    assert pace.book([(number, 1.0)], HALF).wait_s < 0.8


def test_an_earlier_version_beside_this_one_goes_as_it_did(pace: Pace, put: Callable[..., None], narrow: None) -> None:
    """It knows nothing of who really went: what it books is kept, and what we put back stays put back."""
    goes_now(pace)
    since = Since()
    late = pace.book(CALL, HALF)
    # It books a second, by itself
    put(tat=3_000_000)
    wait_until(since, 1.5)
    gone = Since()
    assert pace.ask(CALL, HALF, late, 0).goes
    assert pace.book(CALL, HALF).wait_s > 1.99 - gone.now


def test_whoever_was_put_off_again_and_again_goes_next(pace: Pace, narrow: None) -> None:
    # Given a call whose turn has come, and that others were a little faster than each time
    goes_now(pace)
    since = Since()
    slow = pace.book(CALL, HALF)
    for turn in (1, 2, 3):
        faster = pace.book(CALL, HALF)
        wait_until(since, turn + 0.1)
        while not pace.ask(CALL, HALF, faster, 0).goes:
            time.sleep(0.01)
        slow = pace.ask(CALL, HALF, slow, slow.wait_s)
        assert not slow.goes
    # When it asks once more, it goes, though the last one is not over yet
    assert pace.ask(CALL, HALF, slow, slow.wait_s).goes


def test_no_second_holds_more_than_a_narrow_limit_wherever_it_begins(pace: Pace, narrow: None) -> None:
    """A service that counts whole seconds refuses what is too much for one, though the mean is right."""
    # Given calls of many sizes, the largest of a fifth of a second
    sizes = random.Random(1)
    booked = [(cost, pace.book([(FETCH, cost)], HALF)) for cost in (float(sizes.randint(1, 10)) for _ in range(60))]

    # Then no second has more than fifty, by the limit's own clock
    times = [(slot.times[0] / 1_000_000, cost) for cost, slot in booked if slot.times]
    assert len(times) > 40
    most = max(sum(cost for at, cost in times if begin <= at < begin + 0.999) for begin, _ in times)
    assert most <= 50.1
    # And they take little longer than at the mean
    assert times[-1][0] - times[0][0] < 1.2 * sum(cost for _, cost in times) / 50


def test_a_call_that_took_unusually_long_puts_off_those_behind_it(pace: Pace, narrow: None) -> None:
    """It may have reached the service late; a punctual call behind it would come too early."""
    # Given calls that are answered after 5 ms, and one that stands a second away
    for _ in range(50):
        pace.answered(CALL, Turn(time.monotonic() - 0.005, narrow=True))
    goes_now(pace)
    behind, since = pace.book(CALL, HALF), Since()

    # When the one before it is answered after 15 ms
    pace.answered(CALL, Turn(time.monotonic() - 0.015, narrow=True))

    # Then that one is put off by what was unusual, and by no more than a fiftieth of a second for the slowest answer
    assert pace.ask(CALL, HALF, behind, 0).wait_s > behind.wait_s - since.now + 0.005
    pace.answered(CALL, Turn(time.monotonic() - 10.0, narrow=True))
    assert pace.ask(CALL, HALF, behind, 0).wait_s <= behind.wait_s + 0.05


def test_a_limit_that_is_refused_again_and_again_stays_narrow_for_longer(
    pace: Pace, put: Callable[..., None], narrow: None
) -> None:
    # Given a limit that was narrow for a minute, and is refused half a minute later
    put(refused_at=(time.time() - 90) * 1_000_000)
    pace.throttled([(FETCH, 1)], None)
    # Then it is narrow for four minutes
    put(refused_at=(time.time() - 230) * 1_000_000)
    assert pace.book([(FETCH, 1)], HALF).narrow
    put(refused_at=(time.time() - 250) * 1_000_000)
    assert not pace.book([(FETCH, 1)], HALF).narrow


def test_each_limit_of_a_refused_call_is_taken_to_be_narrow(pace: Pace, put: Callable[..., None]) -> None:
    """The service does not always say which of them was met."""
    size, number = Limit("upsert_bytes", "brain.local:t", 100.0), Limit("upsert", "brain.local:t", 100.0)
    put(size, factor=1, since=0)
    put(number, factor=1, since=0)
    pace.throttled([(number, 1), (size, 50)], None)
    assert pace.book([(number, 1)], HALF).narrow
    assert pace.book([(size, 1)], HALF).narrow
