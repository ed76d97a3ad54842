"""A worker held up between the look at its lease and the network, frozen or without a processor, sends nothing late."""

from collections.abc import Callable
from threading import Event
from uuid import uuid4

import httpx
import pytest

from orchestrator.core.model import Lease
from orchestrator.telemetry.counters import Counters
from tests.contracts.making import like, pinecone_store
from vecfleet import clock
from vecfleet.errors import TimedOut
from vecfleet.records import Record
from vecfleet.stores.base import Index, Kind
from workers.calls import Calls
from workers.lane import DELETES
from workers.leases import Held
from workers.pace import Limit, Pace

DEADLINE_S = 30.0
RECORD = Record("a", b"\0\0\x80?" * 4)

CALLS: dict[str, Callable[[Index], object]] = {
    "upsert": lambda index: index.upsert("s", [RECORD]),
    "delete": lambda index: index.delete("s", ["a"]),
    "delete_namespace": lambda index: index.delete_namespace("s"),
}


@pytest.fixture(params=["grpc", "rest"])
def index(request: pytest.FixtureRequest, emulator: str) -> Index:
    """An index with one record, whose client has a connection already."""
    store = pinecone_store(emulator, pinecone_transport=request.param, request_deadline_seconds=DEADLINE_S)
    index = store.open(store.create_like(f"held-up-{uuid4().hex[:8]}", like(Kind.DENSE), None, None))
    index.upsert("s", [RECORD])
    return index


@pytest.fixture
def calls(redis_url: str, lease_of: Callable[..., Lease]) -> Calls:
    return Calls(Pace(redis_url), Counters(redis_url), 1.0, Held(lease_of(2 * DEADLINE_S), Event()), DEADLINE_S)


@pytest.fixture
def hold_up(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let so many seconds pass at once."""

    def hold_up(seconds: float) -> None:
        real = clock.now
        monkeypatch.setattr(clock, "now", lambda: real() + seconds)

    return hold_up


@pytest.mark.parametrize("name", CALLS)
def test_what_is_held_up_beyond_its_deadline_does_not_leave(
    name: str, index: Index, calls: Calls, hold_up: Callable[[float], None], emulator: str
) -> None:
    def sent() -> int:
        return len(httpx.get(f"{emulator}/_emulator/calls").json()["calls"])

    # Given a call whose lease lasted long enough when it was looked at
    before = sent()

    def call() -> object:
        hold_up(DEADLINE_S)  # and the lease may be another worker's by now
        return CALLS[name](index)

    # When it goes on after its time
    with pytest.raises(TimedOut):
        calls.make([(Limit("held up", "s", DELETES), 1.0)], call, lambda: None, tries=1)

    # Then the service never hears of it
    assert sent() == before


def test_the_time_of_one_call_is_not_that_of_the_next(
    index: Index, calls: Calls, hold_up: Callable[[float], None]
) -> None:
    limits = [(Limit("held up", "s", DELETES), 1.0)]

    def held_up() -> object:
        hold_up(DEADLINE_S)
        return index.upsert("s", [RECORD])

    with pytest.raises(TimedOut):
        calls.make(limits, held_up, lambda: None, tries=1)

    # Given calls since: of nobody's lease, and of one that was looked at anew
    assert list(index.fetch("s", ["a"]).records) == ["a"]
    calls.held.extend(clock.now() + 2 * DEADLINE_S)
    assert calls.make(limits, lambda: index.delete("s", ["a"]), lambda: None, tries=1).requests == 1
