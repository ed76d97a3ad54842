"""The lane: calls that are paced, tried a few times, split where they must be, and never made without a lease."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event

import numpy as np
import pytest

from orchestrator.core.model import Lease
from orchestrator.ledger.batches import LeaseLost
from orchestrator.telemetry.counters import Counters, calls
from vecfleet import errors as e
from vecfleet.records import Record
from vecfleet.settings import FETCH_BYTES
from vecfleet.stores.base import Fetched, IndexInfo, Kind, Limits, Usage, Written
from vecfleet.stores.memory import MemoryIndex
from vecfleet.stores.room import FetchRoom
from workers import calls as calls_of
from workers import lane as lanes
from workers.lane import Lane
from workers.leases import Held
from workers.pace import Limit, Pace, Slot

DIMENSION = 8
INFO = IndexInfo("brain", Kind.DENSE, DIMENSION, "cosine", host="brain.local")
DEADLINE_S = 5.0
VALUES = np.ones(DIMENSION, "<f4").tobytes()


@dataclass
class Index(MemoryIndex):
    """A store in memory that fails as planned: `faults` are raised one a call; `poisoned` ids are refused always."""

    faults: list[Exception] = field(default_factory=list)
    poisoned: set[str] = field(default_factory=set)
    calls: list[tuple[str, int]] = field(default_factory=list)

    def __init__(self, limits: Limits | None = None) -> None:
        super().__init__(INFO, limits or Limits())
        self.faults, self.poisoned, self.calls = [], set(), []
        self.room = FetchRoom(self.limits.fetch_ids, FETCH_BYTES, len(VALUES))

    def _called(self, name: str, count: int) -> None:
        self.calls.append((name, count))
        if self.faults:
            raise self.faults.pop(0)

    @property
    def fetch_room(self) -> int:
        return self.room.ids

    def fetch(self, namespace: str, ids: Sequence[str]) -> Fetched:
        try:
            self._called("fetch", len(ids))
        except (e.TimedOut, e.TooLarge):
            self.room.was_too_much()
            raise
        return super().fetch(namespace, ids)

    def upsert(self, namespace: str, records: Sequence[Record]) -> Written:
        self._called("upsert", len(records))
        if any(record.id in self.poisoned for record in records):
            raise e.BadRequest("a record is refused")
        return super().upsert(namespace, records)

    def delete(self, namespace: str, ids: Sequence[str]) -> Usage:
        self._called("delete", len(ids))
        return super().delete(namespace, ids)

    def delete_namespace(self, name: str) -> Usage:
        self._called("delete_namespace", 1)
        return super().delete_namespace(name)


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls_of, "_FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(calls_of, "_LONGEST_WAIT_S", 0.01)


class CountedPace(Pace):
    """The pace, and how often a slot was asked for."""

    asked = 0

    def book(self, limits: Sequence[tuple[Limit, float]], share: float) -> Slot:
        self.asked += len(limits)
        return super().book(limits, share)


@pytest.fixture
def pace(redis_url: str) -> CountedPace:
    return CountedPace(redis_url)


@pytest.fixture
def lane_to(pace: Pace, redis_url: str, lease_of: Callable[..., Lease]) -> Callable[..., Lane]:
    def lane_to(index: Index, seconds: float = 60.0, counted: Counters | None = None) -> Lane:
        counted = counted or Counters(redis_url)
        return Lane(index, pace, counted, 1.0, Held(lease_of(seconds), Event()), DEADLINE_S)

    return lane_to


def records(count: int) -> list[Record]:
    return [Record(f"r{number:03d}", VALUES, metadata={"text": "hello"}) for number in range(count)]


def nothing() -> None:
    """Stand for what runs before each write, in a test that does not care."""


def sizes(index: Index, name: str = "upsert") -> list[int]:
    return [count for called, count in index.calls if called == name]


# Splitting and poison


def test_one_poisoned_record_comes_back_alone_with_its_reason(lane_to: Callable[..., Lane]) -> None:
    # Given a hundred records of which the service refuses one
    index = Index()
    index.poisoned = {"r042"}

    # When they are written
    refused = lane_to(index).upsert("t", records(100), nothing)

    # Then its neighbours are there, and it is told apart in a few requests
    assert [(record.id, why) for record, why in refused] == [("r042", "BadRequest: a record is refused")]
    assert index.namespace("t").count == 99  # type: ignore[union-attr]
    assert len(sizes(index)) <= 2 * 7 + 2


def test_what_refuses_every_record_alike_is_told_after_a_few_requests(lane_to: Callable[..., Lane]) -> None:
    # Given a namespace that takes nothing
    index = Index()
    index.poisoned = {record.id for record in records(1_000)}

    # When a thousand records are written
    with pytest.raises(e.RefusedAlike, match="each record is refused with the same answer: a record is refused"):
        lane_to(index).upsert("t", records(1_000), nothing)

    # Then it took one request for all and one for each of a few
    assert sizes(index) == [1_000, 1, 1, 1, 1, 1]
    assert index.namespace("t") is None

    # And where a person tries again, each record is tried
    refused = lane_to(index).upsert("t", records(20), nothing, each=True)
    assert len(refused) == 20


def test_records_refused_each_for_its_own_reason_are_told_apart(lane_to: Callable[..., Lane]) -> None:
    class Picky(Index):
        def upsert(self, namespace: str, records: Sequence[Record]) -> Written:
            self._called("upsert", len(records))
            raise e.BadRequest(f"{records[0].id} is refused")

    refused = lane_to(Picky()).upsert("t", records(16), nothing)
    assert [why for _, why in refused] == [f"BadRequest: r{number:03d} is refused" for number in range(16)]


def test_a_record_that_was_tried_alone_and_taken_is_not_written_twice(lane_to: Callable[..., Lane]) -> None:
    # Given a request whose first record is fine, and whose last one is not
    index = Index()
    index.poisoned = {"r015"}
    refused = lane_to(index).upsert("t", records(16), nothing)
    assert [record.id for record, _ in refused] == ["r015"]
    assert index.namespace("t").count == 15  # type: ignore[union-attr]
    taken = sum(sizes(index)) - sum(size for size in sizes(index) if size > 1)
    assert sizes(index)[:2] == [16, 1] and sizes(index)[2] == 7 and taken >= 2


def test_every_poisoned_record_is_told_apart(lane_to: Callable[..., Lane]) -> None:
    index = Index()
    index.poisoned = {"r000", "r031", "r063"}
    refused = lane_to(index).upsert("t", records(64), nothing)
    assert {record.id for record, _ in refused} == index.poisoned
    assert index.namespace("t").count == 61  # type: ignore[union-attr]


def test_what_is_too_large_is_halved(lane_to: Callable[..., Lane]) -> None:
    # Given a service that takes less at once than it says
    index = Index()
    index.faults = [e.TooLarge("413")]
    assert lane_to(index).upsert("t", records(10), nothing) == []
    assert sizes(index) == [10, 5, 5]
    assert index.namespace("t").count == 10  # type: ignore[union-attr]


def test_a_single_record_that_is_too_large_comes_back_with_its_reason(lane_to: Callable[..., Lane]) -> None:
    index = Index(Limits(upsert_bytes=10))
    ((record, why),) = lane_to(index).upsert("t", records(1), nothing)
    assert record.id == "r000"
    assert why.startswith("TooLarge: ")


@pytest.mark.parametrize("fault", [e.TimedOut("no answer"), e.TooLarge("413")], ids=["slow", "too large"])
def test_a_fetch_that_was_too_much_asks_for_fewer_ids_next(lane_to: Callable[..., Lane], fault: Exception) -> None:
    # Given records so large that an answer has room for eight
    index = Index()
    index.upsert("t", records(12))
    index.room = FetchRoom(1_000, 8_000_000, 998_000)
    index.faults = [fault]

    # When the first answer does not come, or is refused for its size
    there = lane_to(index).fetch("t", [record.id for record in records(12)])

    # Then every record is read all the same, in answers of half the size
    assert there.keys() == {record.id for record in records(12)}
    assert sizes(index, "fetch") == [8, 4, 4, 4]


def test_requests_are_filled_up_to_the_limits_and_no_further(lane_to: Callable[..., Lane]) -> None:
    # Given a service that takes seven records, or three by their size
    one = Index().request_bytes(records(1)[0])
    by_count, by_size = Index(Limits(upsert_records=7)), Index(Limits(upsert_bytes=one * 4 - 1))

    # When twenty are written, then no request is refused, and none is smaller than it need be
    lane_to(by_count).upsert("t", records(20), nothing)
    lane_to(by_size).upsert("t", records(20), nothing)
    assert sizes(by_count) == [7, 7, 6]
    assert sizes(by_size) == [3] * 6 + [2]


def test_what_fills_no_whole_number_of_requests_is_shared_out_evenly(lane_to: Callable[..., Lane]) -> None:
    """A small request left over reaches the service sooner than the large one before it: too soon for some limits."""
    one = Index().request_bytes(records(1)[0])
    index = Index(Limits(upsert_bytes=one * 11))
    lane_to(index).upsert("t", records(22), nothing)
    assert sorted(sizes(index)) == [7, 7, 8]


def test_a_fetch_asks_for_as_many_ids_as_the_store_takes(lane_to: Callable[..., Lane]) -> None:
    index = Index()
    lane = lane_to(index)
    lane.upsert("s", records(250), nothing)
    found = lane.fetch("s", [record.id for record in records(250)] + ["absent"])
    assert len(found) == 250 and "absent" not in found
    assert sizes(index, "fetch") == [100, 100, 51]


def test_a_delete_asks_for_as_many_ids_as_the_store_takes(lane_to: Callable[..., Lane]) -> None:
    index = Index(Limits(delete_ids=4))
    lane = lane_to(index)
    lane.upsert("s", records(10), nothing)
    lane.delete("s", {record.id: record for record in records(10)}, nothing)
    assert sizes(index, "delete") == [4, 4, 2]
    assert lane.fetch("s", ["r000", "r009"]) == {}


# Trying again


@pytest.mark.parametrize("error", [e.Unavailable("503"), e.TimedOut(), e.RateLimited("429", retry_after=0.001)])
def test_a_hiccup_is_tried_again(lane_to: Callable[..., Lane], error: e.Transient) -> None:
    index = Index()
    lane = lane_to(index)
    lane.upsert("s", records(1), nothing)
    index.faults = [error] * 3
    assert list(lane.fetch("s", ["r000"])) == ["r000"]
    assert len(sizes(index, "fetch")) == 4
    assert lane.usage.requests == 5


def test_after_one_429_the_next_slot_is_taken(lane_to: Callable[..., Lane], monkeypatch: pytest.MonkeyPatch) -> None:
    """The pace puts every call where it belongs; whoever waits besides leaves slots unused."""
    monkeypatch.setattr(calls_of, "_FIRST_WAIT_S", 20.0)
    monkeypatch.setattr(calls_of, "_LONGEST_PACED_S", 20.0)
    index = Index()
    index.faults = [e.RateLimited("429")]
    began = time.monotonic()
    lane_to(index).fetch("s", ["a"])
    assert len(sizes(index, "fetch")) == 2
    assert time.monotonic() - began < 8


def test_every_call_is_counted_by_its_answer(lane_to: Callable[..., Lane], counters_url: str) -> None:
    index, counted = Index(), Counters(counters_url)
    index.faults = [e.RateLimited("429", retry_after=0.001)]
    lane_to(index, counted=counted).fetch("s", ["a"])
    counted.push()
    assert calls(Counters(counters_url).read() or {}) == {("fetch", "RateLimited"): 1, ("fetch", "ok"): 1}


@pytest.mark.parametrize("error", [e.Unavailable("503"), e.TimedOut(), e.RateLimited("429")])
def test_what_does_not_pass_is_given_up_after_four_tries(lane_to: Callable[..., Lane], error: e.Transient) -> None:
    index = Index()
    index.faults = [error] * 100
    with pytest.raises(type(error)):
        lane_to(index).fetch("s", ["a"])
    assert len(sizes(index, "fetch")) == 4


@pytest.mark.parametrize(
    "error", [e.KeyRefused("401"), e.QuotaExhausted("the month's"), e.Missing("404"), e.WrongKind(), e.BadRequest()]
)
def test_what_no_retry_helps_is_not_tried_again(lane_to: Callable[..., Lane], error: Exception) -> None:
    index = Index()
    index.faults = [error]
    with pytest.raises(type(error)):
        lane_to(index).fetch("s", ["a"])
    assert len(index.calls) == 1


def test_a_429_holds_the_fleet_and_sends_the_batch_back(lane_to: Callable[..., Lane], pace: Pace) -> None:
    # Given a 429 that asks everybody to wait for a minute
    index = Index()
    index.faults = [e.RateLimited("429", retry_after=60.0)]

    # When a worker meets it, then it asks no second time, and gives the batch back with the time to come again
    with pytest.raises(e.RateLimited) as sent_away:
        lane_to(index).fetch("s", ["a"])
    assert sizes(index, "fetch") == [1]
    assert 30 < (sent_away.value.retry_after or 0) < 61

    # And every other worker waits as well, for this limit alone
    assert pace.book([(Limit("fetch", INFO.host, lanes.FETCHES), 1)], 1.0).wait_s > 30
    assert pace.book([(Limit("list", INFO.host, lanes.LISTS), 1)], 1.0).wait_s == 0


def test_a_slot_too_far_away_is_not_waited_for(lane_to: Callable[..., Lane], pace: CountedPace) -> None:
    # Given a fleet that is held for a minute
    index = Index()
    pace.throttled([(Limit("fetch", INFO.host, lanes.FETCHES), 1)], 60.0)

    # When a worker would fetch, then it is told when to come back, and neither calls nor asks a second time
    with pytest.raises(e.RateLimited) as sent_away:
        lane_to(index).fetch("s", ["a"])
    assert 30 < (sent_away.value.retry_after or 0) <= 60
    assert (index.calls, pace.asked) == ([], 1)


# The lease


def test_without_time_left_on_the_lease_no_call_is_made(lane_to: Callable[..., Lane]) -> None:
    # Given a lease that ends before a request's deadline would
    index = Index()
    index.create_namespace("s", None)
    lane = lane_to(index, seconds=DEADLINE_S - 0.5)

    # When anything is asked for, then nothing is
    for call in (
        lambda: lane.fetch("s", ["a"]),
        lambda: lane.page("s"),
        lambda: lane.upsert("s", records(1), nothing),
        lambda: lane.delete("s", {"a": Record("a", b"")}, nothing),
        lambda: lane.delete_namespace("s", None, nothing),
    ):
        with pytest.raises(LeaseLost):
            call()
    assert index.calls == []
    assert index.namespace("s") is not None


def test_the_lease_is_looked_at_before_each_try(lane_to: Callable[..., Lane]) -> None:
    # Given a call that fails, and a lease that is lost meanwhile
    index = Index()
    lane = lane_to(index)

    def lose() -> None:
        if index.calls:
            lane._calls.held.lose()

    index.faults = [e.Unavailable("503")]
    with pytest.raises(LeaseLost):
        lane.upsert("t", records(1), lose)
    assert sizes(index) == [1]


def test_before_runs_ahead_of_each_request_and_each_try(
    lane_to: Callable[..., Lane],
) -> None:
    # Given a batch that needs three requests, one of which fails at first
    index = Index(Limits(upsert_records=4))
    index.faults = [e.Unavailable("503")]
    noted: list[int] = []

    # When it is written
    lane_to(index).upsert("t", records(12), lambda: noted.append(len(index.calls)))

    # Then the note came right before each of the four calls
    assert noted == [0, 1, 2, 3]


def test_where_the_note_cannot_be_made_nothing_is_written(lane_to: Callable[..., Lane]) -> None:
    index = Index()

    def job_table_away() -> None:
        raise e.Unreachable

    with pytest.raises(e.Unreachable):
        lane_to(index).upsert("t", records(1), job_table_away)
    assert index.calls == []


# Listing


def test_all_pages_are_read_and_an_id_is_found_among_its_like(lane_to: Callable[..., Lane]) -> None:
    index = Index(Limits(list_ids=3))
    lane = lane_to(index)
    lane.upsert("s", records(10), nothing)
    assert [record_id for page in lane.ids("s") for record_id in page] == [record.id for record in records(10)]
    assert lane.is_listed("s", "r001")
    assert not lane.is_listed("s", "r00")
    assert not lane.is_listed("s", "r0010")
