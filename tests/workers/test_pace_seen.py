"""The pace as a person sees it: which limits are in use, how far ahead slots are taken, and what was refused."""

import time
from collections.abc import Callable

import pytest
from slots import DEEP_CUT, FETCH, FULL, HALF, KEPT_S, NOBODY, Since, book, seen

from orchestrator.pace_view import PaceReader, climbed
from workers.pace import LONGEST_WAIT_S, Pace


def test_what_is_booked_shows_as_in_use_by_the_whole_fleet(redis_url: str, full_speed: None) -> None:
    # Given two workers that book sixty fetches within a moment
    since = Since()
    workers = (Pace(redis_url), Pace(redis_url))
    for _ in range(30):
        for worker in workers:
            worker.book([(FETCH, 1)], HALF)

    # Then they show, with how many a second are allowed and how far ahead the slots are taken
    one = seen(redis_url)
    assert one.allowed == pytest.approx(50)
    assert 6 * (1 - since.now / 10) - 0.1 <= one.used <= 6.1  # over ten seconds
    assert 60 / FULL - since.now - 0.05 < one.ahead_s <= 60 / FULL + 0.05
    assert (one.held_s, one.refused) == (0, 0)


def test_a_call_that_was_sent_away_is_not_in_use(redis_url: str, pace: Pace, put: Callable[..., None]) -> None:
    put(factor=1, since=0, hold=(time.time() + LONGEST_WAIT_S + 60) * 1_000_000)
    book(pace, 10)
    one = seen(redis_url)
    assert one.used == 0
    assert one.held_s > LONGEST_WAIT_S


def test_what_was_used_in_an_earlier_minute_is_not_in_use_now(
    redis_url: str, pace: Pace, put: Callable[..., None]
) -> None:
    book(pace, 30)
    put(used_in=int(time.time() / 10) - 2, refused_in=int(time.time() / 60) - 2, refused=3)
    one = seen(redis_url)
    assert (one.used, one.refused) == (0, 0)
    assert not one.busy


def test_429s_are_counted_and_the_cut_shows(redis_url: str, pace: Pace, full_speed: None) -> None:
    book(pace, 1)
    since = Since()
    for _ in range(3):
        pace.throttled([(FETCH, 1)], 8.0)
    flights = 1 + int(since.now)
    one = seen(redis_url)
    assert 1 <= one.refused <= 3  # fewer only where a minute ended between them
    assert DEEP_CUT**flights - 0.01 < one.factor < climbed(DEEP_CUT, since.now, KEPT_S) + 0.01
    assert one.allowed == pytest.approx(FULL * one.factor)
    assert 8 - since.now <= one.held_s <= 8


def test_a_429_before_the_first_booking_shows_no_rate_that_nobody_asked_for(redis_url: str, pace: Pace) -> None:
    pace.throttled([(FETCH, 1)], None)
    one = seen(redis_url)
    assert one.allowed is None
    assert one.refused == 1


def test_a_redis_that_is_away_shows_nothing() -> None:
    assert PaceReader(NOBODY).every() is None
