"""The pace on a real Redis: what the fleet books stays inside each limit, and a 429 slows everybody once.

Slots are booked, so nothing here sleeps: the waits that were answered are what a worker would have slept.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from orchestrator.pacing import PaceReader, Seen
from workers.pace import LONGEST_WAIT_S, Limit, Pace

FETCH = Limit("fetch", "brain.local", 100.0)
HALF = 0.5  # live readers share the index: 50 a second are ours
BURST = 5  # a tenth of a second's worth
NOBODY = "redis://127.0.0.1:1/0"


@pytest.fixture
def pace(redis_url: str) -> Pace:
    return Pace(redis_url)


@pytest.fixture
def put(redis_url: str) -> Callable[..., None]:
    """Put a limit's state in Redis as a test needs it."""

    def put(limit: Limit = FETCH, **state: float) -> None:
        with redis.Redis.from_url(redis_url) as client:
            client.hset(limit.key, mapping=state)

    return put


@pytest.fixture
def full_speed(put: Callable[..., None]) -> None:
    """A limit whose rate has climbed back to the whole share."""
    put(factor=1, since=0)


def book(pace: Pace, calls: int, limit: Limit = FETCH, share: float = HALF) -> list[float]:
    """When so many calls may go out, in seconds from now, in the order of their booking."""
    began = time.monotonic()
    return [pace.reserve([(limit, 1)], share) + time.monotonic() - began for _ in range(calls)]


def rate(pace: Pace, limit: Limit = FETCH, share: float = HALF) -> float:
    """How many calls a second the limit allows now: read from what lies between two bookings of ten."""
    pace.reserve([(limit, 10)], share)
    pace.reserve([(limit, 10)], share)
    first = pace.reserve([(limit, 10)], share) + time.monotonic()
    return 10 / (pace.reserve([(limit, 10)], share) + time.monotonic() - first)


def most_in_a_second(slots: list[float]) -> int:
    slots = sorted(slots)
    return max(sum(start <= slot < start + 1 for slot in slots) for start in slots)


def test_no_second_holds_more_calls_than_the_limit_and_its_burst(pace: Pace, full_speed: None) -> None:
    slots = book(pace, 300)
    assert most_in_a_second(slots) <= 50 + BURST + 1
    # And no fewer than the limit allows: what is not used is lost.
    assert max(slots) == pytest.approx((300 - BURST) / 50, abs=0.5)


def test_the_limit_holds_for_the_whole_fleet_and_not_for_each_worker(redis_url: str, full_speed: None) -> None:
    # Given four workers that book at the same time
    with ThreadPoolExecutor(4) as pool:
        booked = list(pool.map(lambda _: book(Pace(redis_url), 60), range(4)))

    # Then all of them together stay inside the limit
    slots = [slot for worker in booked for slot in worker]
    assert most_in_a_second(slots) <= 50 + BURST + 2
    assert max(slots) == pytest.approx((240 - BURST) / 50, abs=0.5)


def test_an_idle_fleet_may_send_its_burst_at_once_and_no_more(pace: Pace, full_speed: None) -> None:
    slots = book(pace, 20)
    assert sum(slot < 0.01 for slot in slots) <= BURST + 2
    assert slots[BURST + 10] > 0.15


def test_a_costly_call_takes_the_room_of_many(pace: Pace, full_speed: None) -> None:
    # Given a megabyte a second, and a request of two megabytes
    limit = Limit("upsert_bytes", "brain.local:t", 1_000_000.0)
    pace.reserve([(limit, 1)], 1.0)
    assert pace.reserve([(limit, 2_000_000)], 1.0) < 0.1

    # When the next one comes, then it waits until those are paid for: at half the rate, for this limit is new
    assert 3.5 < pace.reserve([(limit, 1)], 1.0) < 4.0


def test_limits_do_not_share_their_room(pace: Pace, full_speed: None) -> None:
    book(pace, 100)
    assert pace.reserve([(Limit("fetch", "another.local", 100.0), 1)], HALF) == 0
    assert pace.reserve([(Limit("list", "brain.local", 200.0), 1)], HALF) == 0


def test_an_empty_redis_starts_at_half_the_rate_and_climbs_back(pace: Pace, put: Callable[..., None]) -> None:
    assert rate(pace) == pytest.approx(25, rel=0.1)

    # When it was flushed three seconds ago
    put(factor=0.5, since=(time.time() - 3) * 1_000_000)
    assert rate(pace) == pytest.approx(40, rel=0.1)
    put(factor=0.5, since=(time.time() - 60) * 1_000_000)
    assert rate(pace) == pytest.approx(50, rel=0.1)


def test_the_rate_of_an_exclusive_job_is_the_documented_one(pace: Pace, full_speed: None) -> None:
    assert rate(pace, share=1.0) == pytest.approx(100, rel=0.1)


def test_a_429_slows_everybody_once_a_flight(redis_url: str, full_speed: None) -> None:
    # Given a fleet at full speed, twenty of whose calls in flight come back as 429
    workers = [Pace(redis_url) for _ in range(4)]
    for number in range(20):
        workers[number % 4].throttled(FETCH, None)

    # Then the rate is cut once, for each of them
    for worker in workers:
        assert rate(worker) == pytest.approx(35, rel=0.1)


def test_a_429_of_the_next_flight_slows_it_again(pace: Pace, put: Callable[..., None]) -> None:
    put(factor=0.7, since=(time.time() - 1.1) * 1_000_000)
    pace.throttled(FETCH, None)
    assert rate(pace) == pytest.approx(50 * (0.7 + 0.11) * 0.7, rel=0.1)


def test_however_many_429s_come_the_fleet_does_not_stop_for_good(pace: Pace, put: Callable[..., None]) -> None:
    for _ in range(50):
        put(since=(time.time() - 1.001) * 1_000_000)
        pace.throttled(FETCH, None)
    assert rate(pace) >= 2.5


def test_a_429_on_an_empty_redis_does_not_speed_anybody_up(pace: Pace) -> None:
    pace.throttled(FETCH, None)
    assert rate(pace) <= 25 * 1.05


def test_retry_after_holds_the_whole_fleet(redis_url: str, full_speed: None) -> None:
    # Given a 429 that asks for ten seconds
    Pace(redis_url).throttled(FETCH, 10.0)

    # When any other worker books, then it waits them out; the limit's neighbours do not
    other = Pace(redis_url)
    assert 9.5 < other.reserve([(FETCH, 1)], HALF) <= 10.0
    assert other.reserve([(Limit("list", "brain.local", 200.0), 1)], HALF) == 0


def test_a_shorter_retry_after_does_not_shorten_a_longer_one(pace: Pace, full_speed: None) -> None:
    pace.throttled(FETCH, 10.0)
    pace.throttled(FETCH, 2.0)
    assert pace.reserve([(FETCH, 1)], HALF) > 9.5


def test_after_a_hold_the_fleet_does_not_come_back_all_at_once(pace: Pace, full_speed: None) -> None:
    pace.throttled(FETCH, 5.0)
    slots = book(pace, 100)
    assert min(slots) > 4.5
    assert most_in_a_second(slots) <= 50 + BURST + 1


def test_a_slot_too_far_away_is_not_booked(pace: Pace, full_speed: None, put: Callable[..., None]) -> None:
    """Whoever is sent away comes back later: the room would be lost."""
    # Given a long hold, in which a hundred calls are sent away
    pace.throttled(FETCH, LONGEST_WAIT_S + 10)
    for _ in range(100):
        assert pace.reserve([(FETCH, 1)], HALF) > LONGEST_WAIT_S

    # When the hold is over, then the room is free for those who come
    put(hold=0)
    assert pace.reserve([(FETCH, 1)], HALF) < 0.1


def test_without_redis_each_process_keeps_to_a_small_share_of_its_own() -> None:
    # Given a worker whose Redis is away
    pace = Pace(NOBODY)

    # When it books, then four such processes together stay inside the limit
    slots = book(pace, 60)
    assert most_in_a_second(slots) <= 50 / 4 + 1
    assert max(slots) == pytest.approx(59 / 12.5, abs=0.5)
    pace.throttled(FETCH, 1.0)


def test_when_redis_comes_back_its_word_counts_again(redis_url: str, full_speed: None) -> None:
    away, back = Pace(NOBODY), Pace(redis_url)
    book(away, 10)
    assert book(back, 1)[0] < 0.1


# --- what a person sees of it -----------------------------------------------------------------------------------------


def seen(redis_url: str, limit: Limit = FETCH) -> Seen:
    found = PaceReader(redis_url).every()
    assert found is not None
    [one] = [one for one in found if (one.name, one.scope) == (limit.name, limit.scope)]
    return one


def test_what_is_booked_shows_as_in_use_by_the_whole_fleet(redis_url: str, full_speed: None) -> None:
    # Given two workers that book sixty fetches within a moment
    for _ in range(30):
        for worker in (Pace(redis_url), Pace(redis_url)):
            worker.reserve([(FETCH, 1)], HALF)

    # Then they show, with how many a second are allowed and how far ahead the slots are taken
    one = seen(redis_url)
    assert one.allowed == pytest.approx(50)
    assert 5.5 <= one.used <= 6.1  # over ten seconds
    assert 0.5 < one.ahead_s <= 1.2
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
    for _ in range(3):
        pace.throttled(FETCH, 8.0)
    one = seen(redis_url)
    assert 1 <= one.refused <= 3  # fewer only where a minute ended between them
    assert one.factor == pytest.approx(0.7, abs=0.05)
    assert one.allowed == pytest.approx(35, abs=2.5)
    assert 7 < one.held_s <= 8


def test_a_429_before_the_first_booking_shows_no_rate_that_nobody_asked_for(redis_url: str, pace: Pace) -> None:
    pace.throttled(FETCH, None)
    one = seen(redis_url)
    assert one.allowed is None
    assert one.refused == 1


def test_a_redis_that_is_away_shows_nothing() -> None:
    assert PaceReader(NOBODY).every() is None
