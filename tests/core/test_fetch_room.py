"""The room of a fetch: an answer stays within its bytes, whatever the records are like."""

from hypothesis import given
from hypothesis import strategies as st

from vecfleet.stores.room import FetchRoom

MEGABYTE = 1_000_000
VALUES = 4 * 3_072


def test_a_first_fetch_leaves_room_for_metadata() -> None:
    # Given an index of 3,072 dimensions, of which nothing was read yet
    room = FetchRoom(1_000, 12 * MEGABYTE, VALUES)

    # Then even records with 2 KB of metadata fit
    assert 800 < room.ids <= 12 * MEGABYTE / (VALUES + 2_000)


def test_small_records_fill_the_request() -> None:
    assert FetchRoom(1_000, 12 * MEGABYTE, 4 * 8).ids == 1_000


@given(st.integers(100, 60_000), st.integers(100, 60_000))
def test_the_room_follows_the_records(earlier: int, later: int) -> None:
    # Given an index whose records were of one size, and are of another now
    room = FetchRoom(1_000, 12 * MEGABYTE, VALUES)
    for size in (earlier, later):
        for _ in range(8):
            records = room.ids
            room.answered(records, records * size)

    # Then an answer holds its bytes again, within a tenth
    assert room.ids == 1_000 or 0.9 * 12 * MEGABYTE <= room.ids * later <= 1.1 * 12 * MEGABYTE


def test_a_slow_answer_halves_the_room_and_answers_in_time_give_it_back() -> None:
    room = FetchRoom(1_000, 12 * MEGABYTE, VALUES)
    whole = room.ids
    room.was_too_much()
    assert room.ids in (whole // 2, whole // 2 + 1)
    for _ in range(15):
        room.answered(0, 0)
    assert room.ids == whole


def test_the_room_never_closes() -> None:
    room = FetchRoom(1_000, 12 * MEGABYTE, VALUES)
    for _ in range(100):
        room.was_too_much()
    assert room.ids > 10
    room.answered(1, 40 * MEGABYTE)
    assert room.ids == 1


def test_a_room_that_is_small_from_the_start_does_not_grow_by_a_failure() -> None:
    # Given a worker of so many threads that each holds little
    room = FetchRoom(1_000, 300_000, VALUES)
    before = room.ids
    room.was_too_much()
    assert room.ids == before
