"""A record that is deleted a moment after it was written, from a namespace that tenants share, goes although no read
showed it yet; and one that is written again stays.
"""

import asyncio
import json
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.tenancy.conftest import SMALL, MakeIndex
from vecfleet.names import Tenant
from vecfleet.records import Record
from vecfleet.settings import Settings
from vecfleet.tenancy import CachedRoutes, DelphiPineconeClient, FileRoutes, PineconeDelphiClient, Rollout
from vecfleet.tenancy.journal import FILE, Journal
from vecfleet.tenancy.places import Place, Where

SHARED, CREATOR, TWIN = "everybody", "ana", "coach"
NEW = f"creator_{CREATOR}_twin_{TWIN}"
ANAS = Tenant(CREATOR, TWIN)
PATIENCE_S = 120.0


@pytest.fixture
def index(make_index: MakeIndex, environment: Settings, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("FRESHNESS_WAIT_SECONDS", "0.05")
    return make_index()


def rollout(folder: Path, *, dual: bool) -> Rollout:
    route = {"creator": CREATOR, "old": [{"namespace": SHARED, "shared": True}], "side": "old", "dual": dual}
    routes = [{**route, "twin": twin, "new": {"namespace": f"creator_{CREATOR}_twin_{twin}"}} for twin in (TWIN, "b")]
    (folder / "routes.json").write_text(json.dumps({"routes": routes}))
    return Rollout(CachedRoutes(FileRoutes(folder / "routes.json"), cache_s=0.0), flag=False)


def make(index: str, folder: Path, *, dual: bool) -> PineconeDelphiClient:
    client = PineconeDelphiClient(index, rollout=rollout(folder, dual=dual))
    client.journal._looked = float("inf")  # the tests themselves say when to replay
    return client


@pytest.fixture(params=[False, True], ids=["one side", "both sides"])
def client(request: pytest.FixtureRequest, index: str, tmp_path: Path) -> PineconeDelphiClient:
    return make(index, tmp_path, dual=request.param)


def lag(emulator: str, seconds: float = 600) -> None:
    rule = {"operation": "fetch", "namespace": SHARED, "lag_ms": seconds * 1000}
    httpx.post(f"{emulator}/_emulator/faults", json=rule).raise_for_status()


def heal(emulator: str) -> None:
    httpx.delete(f"{emulator}/_emulator/faults").raise_for_status()


def vectors(*ids: str) -> list[dict[str, Any]]:
    return [{"id": id, "values": [1.0] * SMALL} for id in ids]


def there(client: PineconeDelphiClient) -> dict[str, set[str]]:
    index = client._index(Place(""))
    return {name: found for name in (SHARED, NEW) if (found := set(index.list_ids(name).ids))}


def until(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.05)


def test_a_deletion_that_no_read_bore_out_takes_effect_once_reads_are_fresh(
    client: PineconeDelphiClient, emulator: str
) -> None:
    lag(emulator)
    client.upsert_vectors(vectors("r", "kept"), CREATOR, TWIN)
    client.upsert_vectors(vectors("anothers"), CREATOR, "b")
    # When it is deleted while reads do not show it yet, and with it something that never was, and another one's
    assert client.delete_vectors(["r", "never", "anothers"], CREATOR, TWIN) == 0
    # Then it is remembered, by its id alone
    assert client.journal.count() == 3
    assert NEW.encode() in (client.settings.vecfleet_home / FILE).read_bytes()
    # And goes once it is seen, from wherever it was written
    heal(emulator)
    until("nothing is left to do", lambda: client.replay() == 0)
    assert there(client)[SHARED] == {"kept", "anothers"}
    assert there(client).get(NEW, set()) <= {"kept"}


def test_who_writes_the_record_again_keeps_it(client: PineconeDelphiClient, emulator: str) -> None:
    lag(emulator)
    client.upsert_vectors(vectors("r", "s"), CREATOR, TWIN)
    client.delete_vectors(["r", "s"], CREATOR, TWIN)

    client.upsert_vectors(vectors("r"), CREATOR, TWIN)

    heal(emulator)
    until("nothing is left to do", lambda: client.replay() == 0)
    assert there(client)[SHARED] == {"r"}


def test_coroutines_do_so_too(index: str, emulator: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with DelphiPineconeClient(index, rollout=rollout(tmp_path, dual=False)) as client:
            client.in_threads.journal._looked = float("inf")
            await client.upsert_vectors(vectors("r", "s"), CREATOR, TWIN)
            await client.delete_vectors(["r", "s"], CREATOR, TWIN)
            await client.upsert_vectors(vectors("s"), CREATOR, TWIN)

    lag(emulator)
    asyncio.run(work())
    heal(emulator)

    client = make(index, tmp_path, dual=False)
    until("nothing is left to do", lambda: client.replay() == 0)
    assert there(client) == {SHARED: {"s"}}


def test_writers_look_for_them_by_themselves(index: str, emulator: str, tmp_path: Path) -> None:
    client = make(index, tmp_path, dual=False)
    lag(emulator)
    client.upsert_vectors(vectors("r"), CREATOR, TWIN)
    client.delete_vectors(["r"], CREATOR, TWIN)
    heal(emulator)
    client.journal._looked = float("-inf")

    until(
        "it went with a later write",
        lambda: bool(client.upsert_vectors(vectors("s"), CREATOR, TWIN)) and there(client) == {SHARED: {"s"}},
    )
    client._threads.get().shutdown()


def test_a_namespace_of_ones_own_needs_no_second_look(index: str, emulator: str, tmp_path: Path) -> None:
    client = PineconeDelphiClient(index)
    client._index(Place(NEW)).upsert(NEW, [Record("r", struct.pack(f"<{SMALL}f", *[1.0] * SMALL))])
    client.delete_vectors(["r", "never"], CREATOR, TWIN)
    assert there(client) == {} and client.journal.count() == 0


# The rows alone


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal(tmp_path: Path, clock: Clock) -> Journal:
    return Journal(tmp_path / "j", fresh_s=60.0, abandoned_s=100.0, clock=clock)


def test_nothing_is_looked_for_before_reads_are_fresh_nor_by_two_at_once(journal: Journal, clock: Clock) -> None:
    journal.unseen.keep(ANAS, ["a", "b"])
    assert journal.unseen.claim() is None
    clock.now += 60
    sought = journal.unseen.claim()
    assert sought is not None and (sought.tenant, set(sought.ids)) == (ANAS, {"a", "b"})
    assert journal.unseen.claim() is None

    # What could not be done is due again; what was, is forgotten
    journal.unseen.settle(sought, done=False)
    clock.now += 60
    again = journal.unseen.claim()
    assert again is not None
    journal.unseen.settle(again, done=True)
    assert journal.count() == 0


def test_who_died_at_it_is_given_up(journal: Journal, clock: Clock) -> None:
    journal.unseen.keep(ANAS, ["a"])
    clock.now += 60
    assert journal.unseen.claim() is not None
    clock.now += 100
    assert journal.unseen.claim() is not None


@pytest.mark.parametrize("dual", [True, False])
def test_what_is_written_while_somebody_looks_for_it_is_not_deleted(journal: Journal, clock: Clock, dual: bool) -> None:
    journal.unseen.keep(ANAS, ["a", "b"])
    clock.now += 60
    sought = journal.unseen.claim()
    assert sought is not None
    # When it is written, once it was waited for whoever looks for it
    if dual:
        where = Where(ANAS, "old", (Place(SHARED, shared=True),), "", (Place(NEW),), dual=True)
        journal.settle(journal.note(where, ["a"]), both=True)
    else:
        journal.outdate(ANAS, ["a"])

    assert journal.unseen.still(sought, ["a", "b"]) == ["b"]


def test_a_deletion_that_is_asked_for_anew_meanwhile_is_looked_for_anew(journal: Journal, clock: Clock) -> None:
    journal.unseen.keep(ANAS, ["a"])
    clock.now += 60
    sought = journal.unseen.claim()
    assert sought is not None
    journal.unseen.keep(ANAS, ["a"])
    journal.unseen.settle(sought, done=True)
    assert journal.count() == 1


def test_an_erasure_takes_these_rows_too(journal: Journal) -> None:
    journal.unseen.keep(ANAS, ["a"])
    journal.unseen.keep(Tenant(CREATOR + "2"), ["a"])
    assert journal.forget(Tenant(CREATOR)) == 1
    assert journal.count() == 1
