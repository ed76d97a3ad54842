"""A write rests on routes that are young, or is refused: by then the old side may be cleaned up, or readers moved."""

import json
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.tenancy.conftest import SMALL, MakeIndex
from tests.tenancy.told import CLIENTS, Client, Clock, Told, client_of
from vecfleet.errors import RoutesTooOld, Unreachable
from vecfleet.records import Record
from vecfleet.settings import Settings
from vecfleet.stores.pinecone import serving
from vecfleet.tenancy import CachedRoutes, FileRoutes, HttpRoutes, PineconeDelphiClient, Rollout
from vecfleet.tenancy.places import Place
from vecfleet.tenancy.providers import AGE

OLD, NEW = "coach", "creator_ana_twin_coach"
STALE_S = 60.0
UNOWNED = Record("unowned", struct.pack(f"<{SMALL}f", *[1.0] * SMALL))
WRITES: dict[str, Callable[[Client], Any]] = {
    "upsert": lambda client: client.upsert_vectors([{"id": "a", "values": [1.0] * SMALL}], "ana", "coach"),
    "texts": lambda client: client.upsert_texts([{"id": "a", "text": "hello"}], "ana", "coach"),
    "delete": lambda client: client.delete_vectors(["a"], "ana", "coach"),
}


def route(side: str = "old", **more: Any) -> dict[str, Any]:
    return {
        "creator": "ana",
        "twin": "coach",
        "old": [{"namespace": OLD}],
        "new": {"namespace": NEW},
        "side": side,
    } | more


@pytest.fixture
def index(make_index: MakeIndex, environment: Settings, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("FRESHNESS_WAIT_SECONDS", "0.01")
    return make_index()


@pytest.fixture
def fault(emulator: str) -> Callable[..., None]:
    def post(**rule: Any) -> None:
        httpx.post(f"{emulator}/_emulator/faults", json=rule).raise_for_status()

    return post


@pytest.fixture
def written(emulator: str) -> Callable[[], list[str]]:
    """The namespaces that a call of a write named, each as often."""

    def read() -> list[str]:
        calls = httpx.get(f"{emulator}/_emulator/calls").json()["calls"]
        return [one["namespace"] for one in calls if one["operation"] in ("upsert", "upsert_records", "delete")]

    return read


@pytest.fixture
def during_a_call(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """`during_a_call(what)`: it happens after a request of a write has left, and before its answer is heard."""

    def arrange(what: Callable[[], object]) -> None:
        translated = serving.translated

        @contextmanager
        def meanwhile(doing: str) -> Iterator[None]:
            with translated(doing):
                try:
                    yield
                finally:
                    if doing.startswith("upsert"):
                        what()

        monkeypatch.setattr(serving, "translated", meanwhile)

    return arrange


def lost(provider: Told, clock: Clock) -> None:
    """The provider answers no more, and what it said is too old."""
    provider.table = None
    clock.now += STALE_S


def rollout(provider: Told, clock: Clock, stale_s: float = STALE_S) -> Rollout:
    return Rollout(CachedRoutes(provider, 5.0, stale_s, clock), flag=False)


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
@pytest.mark.parametrize("dual", [False, True], ids=["one side", "both sides"])
def test_a_client_whose_routes_are_too_old_refuses_to_write_and_goes_on_reading(
    index: str, kind: type[Client], write: Callable[[Client], Any], dual: bool, written: Callable[[], list[str]]
) -> None:
    # Given a client that knows the routes, and a provider that is lost
    provider, clock = Told(routes=[route(dual=dual)]), Clock()
    client = client_of(kind, index, rollout(provider, clock))
    client.query(vector=[1.0] * SMALL, creator_id="ana", twin_id="coach")
    provider.table = None

    # When the routes are as old as they may be
    clock.now += STALE_S

    # Then no write is sent, and the error says what to do; a query is answered
    with pytest.raises(RoutesTooOld, match="ROUTES_STALE_SECONDS") as refused:
        write(client)
    assert refused.value.next_step == "check VECFLEET_ROUTES, then write it again"
    assert written() == []
    assert client.query(vector=[1.0] * SMALL, creator_id="ana", twin_id="coach").namespace == OLD


@pytest.mark.parametrize("kind", CLIENTS)
def test_the_same_write_passes_once_the_routes_are_read_again(
    index: str, kind: type[Client], written: Callable[[], list[str]]
) -> None:
    provider, clock = Told(routes=[route()]), Clock()
    client = client_of(kind, index, rollout(provider, clock))
    WRITES["upsert"](client)
    provider.table = None
    clock.now += STALE_S
    with pytest.raises(RoutesTooOld):
        WRITES["upsert"](client)

    provider.table = {"routes": [route("new")]}
    clock.now += 5

    assert WRITES["upsert"](client) == 1
    assert written() == [OLD, NEW]


def test_a_client_that_was_quiet_reads_the_routes_before_it_writes(
    index: str, written: Callable[[], list[str]]
) -> None:
    provider, clock = Told(routes=[route()]), Clock()
    client = PineconeDelphiClient(index, rollout=rollout(provider, clock))
    WRITES["upsert"](client)

    provider.table = {"routes": [route("new")]}
    clock.now += 10 * STALE_S
    WRITES["upsert"](client)

    assert written() == [OLD, NEW]


def test_the_age_of_routes_counts_from_the_question_and_not_from_the_answer() -> None:
    provider, clock = Told(routes=[route()]), Clock()
    provider.meanwhile = lambda: setattr(clock, "now", clock.now + 50.0)

    where = rollout(provider, clock).where("ana", "coach")

    assert where.until == 1_000.0 + STALE_S
    assert clock.now == 1_050.0


def test_the_age_of_a_table_that_was_cached_at_its_source_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"routes": [route()]}, headers={AGE: "12.5", "ETag": '"1"'})

    provider = HttpRoutes("http://127.0.0.1:1/delphi/routes")
    monkeypatch.setattr(provider._clients, "_make", lambda: httpx.Client(transport=httpx.MockTransport(answer)))

    where = Rollout(CachedRoutes(provider, 5.0, STALE_S, Clock()), flag=False).where("ana", "coach")

    assert where.until == 1_000.0 + STALE_S - 12.5


@pytest.mark.parametrize("age", ["nan", "-1", "inf", "young"])
def test_a_table_that_says_nonsense_about_its_age_is_not_believed(age: str, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = HttpRoutes("http://127.0.0.1:1/delphi/routes")
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json={}, headers={AGE: age}))
    monkeypatch.setattr(provider._clients, "_make", lambda: httpx.Client(transport=transport))

    with pytest.raises(Unreachable):
        provider.read()


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_write_that_waits_to_be_sent_again_asks_once_more_whether_it_may(
    index: str,
    kind: type[Client],
    fault: Callable[..., None],
    during_a_call: Callable[[Callable[[], object]], None],
    written: Callable[[], list[str]],
) -> None:
    # Given a store that refuses for a moment, and routes that grow too old meanwhile
    provider, clock = Told(routes=[route()]), Clock()
    fault(operation="upsert", status=503, count=1)
    during_a_call(lambda: lost(provider, clock))

    with pytest.raises(RoutesTooOld):
        WRITES["upsert"](client_of(kind, index, rollout(provider, clock)))

    # Then it was not sent a second time
    assert written() == [OLD]


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_write_that_is_answered_too_late_does_not_count(
    index: str, kind: type[Client], during_a_call: Callable[[Callable[[], object]], None]
) -> None:
    provider, clock = Told(routes=[route()]), Clock()
    during_a_call(lambda: lost(provider, clock))

    with pytest.raises(RoutesTooOld, match="does not count"):
        WRITES["upsert"](client_of(kind, index, rollout(provider, clock)))


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_write_under_way_while_its_routes_come_to_lead_elsewhere_is_to_be_made_again(
    index: str,
    kind: type[Client],
    fault: Callable[..., None],
    during_a_call: Callable[[Callable[[], object]], None],
    written: Callable[[], list[str]],
) -> None:
    # Given a cut-over while the store refuses a write for a moment
    provider, clock = Told(routes=[route()]), Clock()
    client = client_of(kind, index, rollout(provider, clock))
    fault(operation="upsert", status=503, count=1)

    def cut_over() -> None:
        if provider.table != {"routes": [route("new")]}:
            provider.table = {"routes": [route("new")]}
            clock.now += STALE_S

    during_a_call(cut_over)
    with pytest.raises(RoutesTooOld, match="lead elsewhere") as refused:
        WRITES["upsert"](client)

    assert refused.value.next_step == "write it again"
    WRITES["upsert"](client)
    assert written() == [OLD, NEW]


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_long_write_goes_on_for_as_long_as_the_routes_are_read(
    index: str, kind: type[Client], during_a_call: Callable[[Callable[[], object]], None]
) -> None:
    # Given a write of three requests, each of which takes longer than routes may be old
    provider, clock = Told(routes=[route()]), Clock()
    client = client_of(kind, index, rollout(provider, clock))
    during_a_call(lambda: setattr(clock, "now", clock.now + 2 * STALE_S))

    taken = client.upsert_vectors([{"id": f"{n}", "values": [1.0] * SMALL} for n in range(3_000)], "ana", "coach")

    assert taken == 3_000
    assert provider.asked == 4


def test_a_flag_does_not_stand_in_for_routes_that_cannot_be_read(index: str, written: Callable[[], list[str]]) -> None:
    provider = Told()
    provider.table = None
    client = PineconeDelphiClient(index, rollout=Rollout(CachedRoutes(provider, 5.0, STALE_S, Clock()), flag=True))

    with pytest.raises(RoutesTooOld):
        WRITES["upsert"](client)

    assert written() == []


def test_a_replay_waits_for_young_routes(index: str, emulator: str, written: Callable[[], list[str]]) -> None:
    # Given a write that the other side is owed
    provider, clock = Told(routes=[route(dual=True)]), Clock()
    client = PineconeDelphiClient(index, rollout=rollout(provider, clock))
    client.journal._looked = float("inf")
    rule = {"operation": "upsert", "namespace": NEW, "status": 507}
    httpx.post(f"{emulator}/_emulator/faults", json=rule).raise_for_status()
    WRITES["upsert"](client)
    httpx.delete(f"{emulator}/_emulator/faults").raise_for_status()
    before = written()

    # When the routes are too old, nothing is sent and nothing is forgotten
    provider.table, table = None, provider.table
    clock.now += STALE_S
    client.journal._clock = map(float, count(10**12, 10**6)).__next__  # whatever is waited for, it is over
    assert client.replay() == 1
    assert written() == before

    # And once they are read again it arrives
    provider.table = table
    clock.now += 5
    assert client.replay() == 0
    assert written() == [*before, NEW]


def test_an_erasure_trusts_no_old_routes_about_whose_a_namespace_is(index: str, tmp_path: Path) -> None:
    # Given a namespace that the routes gave to a twin
    provider, clock = Told(routes=[route()]), Clock()
    client = PineconeDelphiClient(index, rollout=rollout(provider, clock))
    WRITES["upsert"](client)
    client._index(Place(OLD)).upsert(OLD, [UNOWNED])

    # When the routes are too old: what names the tenant goes, the rest is said to be left
    provider.table = None
    clock.now += STALE_S
    erased = client.erase("ana", "coach")
    assert not erased.confirmed
    assert erased.left == ("the old namespaces: the routes that name them cannot be read",)
    assert [one.id for one in client._index(Place(OLD)).fetch(OLD, ["a", "unowned"]).records.values()] == ["unowned"]


def test_a_file_that_stands_still_stays_young(tmp_path: Path) -> None:
    file, clock = tmp_path / "routes.json", Clock()
    file.write_text(json.dumps({"routes": [route()]}))
    found = Rollout(CachedRoutes(FileRoutes(file), 5.0, STALE_S, clock), flag=False)
    found.where("ana", "coach")

    clock.now += 10 * STALE_S

    assert found.where("ana", "coach", to_write=True).until == clock.now + STALE_S
