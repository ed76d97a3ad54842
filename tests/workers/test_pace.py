"""The pace on a real Redis: what the fleet books stays inside each limit, and a 429 slows everybody once.

Slots are booked, so nothing here sleeps: the waits that were answered are what a worker would have slept. Redis reckons
them from its own now, which lies somewhere between our question and its answer: on a busy machine these are far apart,
and only what is so wherever it lies is claimed.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

import pytest
import redis
from slots import (
    BURST,
    CUT,
    CUT_FOR_SOME,
    DEEP_CUT,
    FETCH,
    FULL,
    HALF,
    KEPT_S,
    NOBODY,
    Since,
    assert_filled,
    book,
    book_one,
    most_in_a_second,
    rate,
    seen,
)

from orchestrator.pace_view import FIRST_KEEP_S, climbed
from workers.pace import LONGEST_WAIT_S, Limit, NoSlotSoon, Pace


def test_no_second_holds_more_calls_than_the_limit_and_its_burst(pace: Pace, full_speed: None) -> None:
    since = Since()
    slots = book(pace, 300, since)
    assert most_in_a_second(slots) <= 50 + BURST + 1
    # And no fewer than the limit allows: what is not used is lost.
    assert_filled(slots, (300 - BURST) / 50, since)


def test_the_limit_holds_for_the_whole_fleet_and_not_for_each_worker(redis_url: str, full_speed: None) -> None:
    # Given four workers that book at the same time
    since = Since()
    with ThreadPoolExecutor(4) as pool:
        booked = list(pool.map(book, [Pace(redis_url) for _ in range(4)], repeat(60), repeat(since)))

    # Then all of them together stay inside the limit
    slots = [slot for worker in booked for slot in worker]
    assert most_in_a_second(slots) <= 50 + BURST + 2
    assert_filled(slots, (240 - BURST) / 50, since)


def test_an_idle_fleet_may_send_its_burst_at_once_and_no_more(pace: Pace, full_speed: None) -> None:
    slots = book(pace, 20)
    assert sum(slot.latest < 0.01 for slot in slots) <= BURST + 2
    assert slots[BURST + 10].latest > 0.15


def test_a_costly_call_takes_the_room_of_many(pace: Pace, full_speed: None) -> None:
    # Given a megabyte a second, and a request of two megabytes
    limit = Limit("upsert_bytes", "brain.local:t", 1_000_000.0)
    since = Since()
    book_one(pace, since, limit, share=1.0)
    assert pace.book([(limit, 2_000_000)], 1.0).wait_s < 0.1

    # When the next one comes, then it waits until those are paid for: at half the rate, for this limit is new
    slot = book_one(pace, since, limit, share=1.0)
    assert slot.latest > (2 - 0.1) / climbed(0.5, since.now, FIRST_KEEP_S) - 0.05
    assert slot.earliest < 4.0 + since.now


def test_limits_do_not_share_their_room(pace: Pace, full_speed: None) -> None:
    book(pace, 100)
    assert pace.book([(Limit("fetch", "another.local", 100.0), 1)], HALF).wait_s == 0
    assert pace.book([(Limit("list", "brain.local", 200.0), 1)], HALF).wait_s == 0


def test_an_empty_redis_starts_at_half_the_rate_and_climbs_back_ever_faster(
    pace: Pace, put: Callable[..., None]
) -> None:
    since = Since()
    assert rate(pace).is_between(25, FULL * climbed(0.5, since.now, FIRST_KEEP_S))

    # When it was flushed so many seconds ago: half a second into its climb it has hardly begun, after one it is back
    for seconds, at_least in ((0.5, 25), (1.5, 25 * 2**0.25), (2.0, FULL), (60.0, FULL)):
        since = Since()
        put(factor=0.5, since=(time.time() - seconds) * 1_000_000)
        assert rate(pace).is_between(at_least, FULL * climbed(0.5, seconds + since.now, FIRST_KEEP_S))


def test_a_rate_that_was_kept_for_a_minute_climbs_slowly(pace: Pace, put: Callable[..., None]) -> None:
    """The limit was found there again and again: a step beyond it is to cost few refusals."""
    since = Since()
    put(factor=0.5, keep=60, since=(time.time() - 63) * 1_000_000)
    assert rate(pace).is_between(25, FULL * 0.5 * 1.02 * climbed(1, since.now, 60))
    since = Since()
    put(factor=0.5, keep=60, since=(time.time() - 90) * 1_000_000)
    assert rate(pace).is_between(FULL, FULL)


def test_the_rate_of_an_exclusive_job_is_the_documented_one(pace: Pace, full_speed: None) -> None:
    assert rate(pace, share=1.0).is_between(100, 100)


def test_a_429_slows_everybody_once_a_flight(redis_url: str, full_speed: None) -> None:
    # Given a fleet at full speed, twenty of whose calls in flight come back as 429
    workers = [Pace(redis_url) for _ in range(4)]
    since = Since()
    for number in range(20):
        workers[number % 4].throttled([(FETCH, 1)], None)
    flights = 1 + int(since.now)

    # Then the rate is cut once, for each of them: deeply, for nothing else was answered
    for worker in workers:
        assert rate(worker).is_between(FULL * DEEP_CUT**flights, FULL * climbed(DEEP_CUT, since.now, KEPT_S))


def test_a_429_now_and_then_is_the_price_of_using_a_limit_whole(
    pace: Pace, put: Callable[..., None], redis_url: str
) -> None:
    """A punctual call behind a late one comes too early, at whatever rate."""
    # Given a thousand calls, of which two were refused
    put(factor=0.9, keep=60, since=time.time() * 1_000_000, sent_since=1_000, refused_since=2)
    # When another one is, then the rate stays
    pace.throttled([(FETCH, 1)], None)
    assert seen(redis_url).factor == pytest.approx(0.9)
    # When two more are at once, then it is cut
    pace.throttled([(FETCH, 1)], None)
    pace.throttled([(FETCH, 1)], None)
    assert seen(redis_url).factor == pytest.approx(0.9 * CUT)


def test_where_many_of_the_calls_are_refused_it_is_slowed_deeply(pace: Pace, put: Callable[..., None]) -> None:
    # Given a rate that was cut a moment ago, and is still too high: of forty calls twenty were refused since
    since = Since()
    put(factor=0.7, keep=2, since=(time.time() - 1.1) * 1_000_000, refused_at=1, sent_since=40, refused_since=19)
    pace.throttled([(FETCH, 1)], None)
    assert rate(pace).is_between(FULL * 0.7 * DEEP_CUT, FULL * climbed(0.7 * DEEP_CUT, since.now, KEPT_S))


def test_a_429_among_many_calls_slows_it_a_little(pace: Pace, put: Callable[..., None]) -> None:
    since = Since()
    put(factor=0.7, keep=2, since=(time.time() - 1.1) * 1_000_000, refused_at=1, sent_since=400, refused_since=9)
    pace.throttled([(FETCH, 1)], None)
    assert rate(pace).is_between(FULL * 0.7 * CUT, FULL * climbed(0.7 * CUT, since.now, KEPT_S))


def test_the_cut_is_the_deeper_the_more_calls_are_refused(pace: Pace, put: Callable[..., None], redis_url: str) -> None:
    for refused, cut in ((9, CUT), (49, CUT_FOR_SOME), (249, DEEP_CUT)):
        put(factor=0.7, keep=60, since=time.time() * 1_000_000, cut_at=0, sent_since=400, refused_since=refused)
        pace.throttled([(FETCH, 1)], None)
        assert seen(redis_url).factor == pytest.approx(0.7 * cut)


def test_of_two_limits_of_a_call_the_one_that_binds_is_slowed(redis_url: str, pace: Pace) -> None:
    """The service says that a write was too much, and not always whether in requests or in bytes."""
    # Given writes of which the bytes are what the fleet waits for
    requests, size = Limit("upsert", "brain.local:t", 100.0), Limit("upsert_bytes", "brain.local:t", 1_000_000.0)
    call = [(requests, 1.0), (size, 500_000.0)]
    for _ in range(4):
        pace.book(call, HALF)

    # When one is refused, then it is the bytes that are cut
    pace.throttled(call, None)
    assert (seen(redis_url, requests).refused, seen(redis_url, size).refused) == (0, 1)


def test_a_limit_found_where_it_was_thought_to_be_is_looked_for_less_and_less_often(
    pace: Pace, put: Callable[..., None], redis_url: str
) -> None:
    """Each look beyond it costs a few refusals."""
    kept = []
    for _ in range(5):
        # When the cut rate was kept, had begun to climb, and was refused again
        before = kept[-1] if kept else KEPT_S
        climbing = (time.time() - before - 0.1) * 1_000_000
        put(factor=0.5, keep=before, cut_at=0, since=climbing, sent_since=1_000, refused_since=9)
        pace.throttled([(FETCH, 1)], None)
        with redis.Redis.from_url(redis_url) as client:
            kept.append(float(client.hget(FETCH.key, "keep") or 0))  # type: ignore[arg-type]

    # Then it is kept four times as long each time, up to a minute
    assert kept == [8, 32, 60, 60, 60]


def test_however_many_429s_come_the_fleet_does_not_stop_for_good(pace: Pace, put: Callable[..., None]) -> None:
    for _ in range(50):
        put(since=(time.time() - 1.001) * 1_000_000)
        pace.throttled([(FETCH, 1)], None)
    assert rate(pace).at_most >= FULL / 10


def test_a_429_on_an_empty_redis_does_not_speed_anybody_up(pace: Pace) -> None:
    since = Since()
    pace.throttled([(FETCH, 1)], None)
    assert rate(pace).at_least <= FULL * climbed(0.5, since.now, FIRST_KEEP_S)


def test_retry_after_holds_the_whole_fleet(redis_url: str, full_speed: None) -> None:
    # Given a 429 that asks for ten seconds
    Pace(redis_url).throttled([(FETCH, 1)], 10.0)

    # When any other worker books, then it waits them out; the limit's neighbours do not
    other = Pace(redis_url)
    assert 5 < other.book([(FETCH, 1)], HALF).wait_s <= 10.0
    assert other.book([(Limit("list", "brain.local", 200.0), 1)], HALF).wait_s == 0


def test_a_shorter_retry_after_does_not_shorten_a_longer_one(pace: Pace, full_speed: None) -> None:
    pace.throttled([(FETCH, 1)], 10.0)
    pace.throttled([(FETCH, 1)], 2.0)
    assert pace.book([(FETCH, 1)], HALF).wait_s > 5


def test_after_a_hold_the_fleet_does_not_come_back_all_at_once(pace: Pace, full_speed: None) -> None:
    since = Since()
    pace.throttled([(FETCH, 1)], 5.0)
    slots = book(pace, 100, since)
    assert min(slot.latest for slot in slots) > 4.99
    assert most_in_a_second(slots) <= 50 + BURST + 1


def test_whoever_waits_goes_sooner_when_the_rate_climbs_and_later_when_it_is_cut(
    pace: Pace, put: Callable[..., None]
) -> None:
    # Given a rate of five a second after a storm, and a call that stands ten seconds away, less its burst
    put(factor=0.1, keep=1_000, since=time.time() * 1_000_000)
    pace.book([(FETCH, 50)], HALF)
    slot, since = pace.book([(FETCH, 1)], HALF), Since()
    assert 8.5 < slot.wait_s <= 10.1

    # When the whole rate is back, then it is a second away; and nobody who books after it overtakes it
    put(factor=1, since=0, keep=1)
    back = pace.ask([(FETCH, 1)], HALF, slot, since.now)
    assert back.wait_s <= 1.1
    assert pace.book([(FETCH, 1)], HALF).wait_s >= back.wait_s - since.now

    # When the service holds the fleet, then those who wait are held as well
    pace.throttled([(FETCH, 1)], 12.0)
    assert pace.ask([(FETCH, 1)], HALF, slot, since.now).wait_s > 10


def test_a_call_waits_for_its_slot_and_no_longer(pace: Pace, put: Callable[..., None]) -> None:
    # Given a call that stands ten seconds away
    put(factor=0.1, keep=1_000, since=time.time() * 1_000_000)
    pace.book([(FETCH, 50)], HALF)
    slept: list[float] = []

    # When the whole rate comes back while it sleeps for the first time
    def sleep(seconds: float) -> None:
        slept.append(seconds)
        put(factor=1, since=0, keep=1)
        time.sleep(seconds)

    pace.take([(FETCH, 1)], HALF, sleep)

    # Then it does not sleep the ten seconds that it was told first
    assert sum(slept) < 3


def test_a_call_that_waits_while_redis_is_emptied_books_anew(
    pace: Pace, put: Callable[..., None], redis_url: str
) -> None:
    """The time that it had booked is one of a clock that is gone: it may lie days ahead on the new one."""
    # Given a fleet that has worked for days, and a call that stands ten seconds away
    put(factor=1, since=0, v=1e12, v_at=time.time() * 1_000_000, tat=1e12)
    pace.book([(FETCH, 500)], HALF)
    slot = pace.book([(FETCH, 1)], HALF)
    assert 9 < slot.wait_s < 11

    # When Redis is emptied, then it is soon its turn
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
    assert pace.ask([(FETCH, 1)], HALF, slot, 1.0).wait_s < 1


def test_what_an_earlier_version_kept_in_redis_holds_nobody_up(pace: Pace, put: Callable[..., None]) -> None:
    """It kept the time of the day, in microseconds, where the limit's own clock is now."""
    put(factor=1, since=0, tat=time.time() * 1_000_000)
    assert pace.book([(FETCH, 1)], HALF).wait_s == 0
    assert pace.book([(FETCH, 1)], HALF).wait_s < 1


def test_workers_of_an_earlier_version_slow_this_one_only_while_they_work(pace: Pace, put: Callable[..., None]) -> None:
    pace.book([(FETCH, 1)], HALF)
    put(tat=time.time() * 1_000_000)
    assert pace.book([(FETCH, 1)], HALF).wait_s < 1


def test_refusals_that_are_not_our_rates_fault_do_not_slow_it_down_for_good(
    pace: Pace, put: Callable[..., None], redis_url: str
) -> None:
    """Live readers share the index: their burst is answered 429 to us, however slow we are."""
    # Given a limit that was found where it was thought to be, often, and is kept for a minute
    put(factor=0.9, keep=60, refused_at=1, since=(time.time() - 30) * 1_000_000, sent_since=1_500, refused_since=9)

    # When a call is refused while the rate stands still
    since = Since()
    pace.throttled([(FETCH, 1)], None)
    assert rate(pace).is_between(FULL * 0.9 * CUT, FULL * 0.9 * CUT)

    # Then it climbs when it would have: half a minute later
    with redis.Redis.from_url(redis_url) as client:
        kept, began = (float(one or 0) for one in client.hmget(FETCH.key, ["keep", "since"]))  # type: ignore[union-attr]
    assert time.time() - since.now + 29 < began / 1_000_000 + kept < time.time() + 31


def test_a_batch_is_not_sent_away_for_as_long_as_a_hold_says(pace: Pace, put: Callable[..., None]) -> None:
    """A figure in Redis may be wrong, or taken back; what a batch is told is kept in the job table."""
    put(factor=1, since=0, hold=(time.time() + 86_400) * 1_000_000)
    with pytest.raises(NoSlotSoon) as sent_away:
        pace.take([(FETCH, 1)], HALF, time.sleep)
    assert sent_away.value.retry_after == 60


def test_a_fleet_that_is_held_again_and_again_gives_its_slots_up(pace: Pace, full_speed: None) -> None:
    # Given a call that waits, and a service that holds the fleet for another ten seconds whenever a second passed
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        pace.throttled([(FETCH, 1)], 10.0)

    pace.throttled([(FETCH, 1)], 10.0)
    # Then it is not waited for without end
    with pytest.raises(NoSlotSoon):
        pace.take([(FETCH, 1)], HALF, sleep)
    assert sum(slept) <= 2 * LONGEST_WAIT_S + 2


def test_a_slot_too_far_away_is_not_booked(pace: Pace, full_speed: None, put: Callable[..., None]) -> None:
    """Whoever is sent away comes back later: the room would be lost."""
    # Given a long hold, in which a hundred calls are sent away
    pace.throttled([(FETCH, 1)], LONGEST_WAIT_S + 10)
    for _ in range(100):
        assert pace.book([(FETCH, 1)], HALF).wait_s > LONGEST_WAIT_S

    # When the hold is over, then the room is free for those who come
    put(hold=0)
    assert pace.book([(FETCH, 1)], HALF).wait_s < 0.1


def test_without_redis_each_process_keeps_to_a_small_share_of_its_own() -> None:
    # Given a worker whose Redis is away
    pace = Pace(NOBODY)

    # When it books, then four such processes together stay inside the limit
    since = Since()
    slots = book(pace, 60, since)
    assert most_in_a_second(slots) <= 50 / 4 + 1
    assert_filled(slots, 59 / 12.5, since)
    pace.throttled([(FETCH, 1)], 1.0)


def test_when_redis_comes_back_its_word_counts_again(redis_url: str, full_speed: None) -> None:
    away, back = Pace(NOBODY), Pace(redis_url)
    book(away, 10)
    assert back.book([(FETCH, 1)], HALF).wait_s < 0.1
