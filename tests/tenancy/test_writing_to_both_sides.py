"""On a dual route the client writes to both sides, and what one of them did not get arrives, also after a crash."""

import asyncio
import json
import os
import random
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.tenancy.conftest import SMALL, MakeIndex
from vecfleet.enriching import PREVIOUS
from vecfleet.errors import Unreachable
from vecfleet.names import Tenant
from vecfleet.records import Record
from vecfleet.settings import Settings
from vecfleet.tenancy import CachedRoutes, DelphiPineconeClient, FileRoutes, PineconeDelphiClient, Rollout
from vecfleet.tenancy.fences import HttpBooks, NoBooks
from vecfleet.tenancy.journal import FILE
from vecfleet.tenancy.places import Place

OLD, NEW, OTHERS = "5698a809", "creator_ana_twin_coach", "creator_ana_twin_other"
CREATOR, TWIN = "ana", "coach"
PATIENCE_S = 120.0
# By how much the clock of the tests' own client is ahead: a writer that died before is given up at once.
AHEAD_S = 3_600.0

# An application that writes one record: by threads or by coroutines, as its first argument says.
APPLICATION = """
import asyncio, sys
from vecfleet.tenancy import CachedRoutes, DelphiPineconeClient, FileRoutes, PineconeDelphiClient, Rollout

rollout = Rollout(CachedRoutes(FileRoutes(sys.argv[2])), flag=False)
vectors = [{"id": "r", "values": [2.0] * 8, "metadata": {"text": "the second"}}]
if sys.argv[1] == "threads":
    PineconeDelphiClient("small", rollout=rollout).upsert_vectors(vectors, "ana", "coach")
else:
    asyncio.run(DelphiPineconeClient("small", rollout=rollout).upsert_vectors(vectors, "ana", "coach"))
"""


# One that writes and deletes a few records from four threads until it is killed.
BUSY = """
import random, sys, threading
from vecfleet.tenancy import CachedRoutes, FileRoutes, PineconeDelphiClient, Rollout

client = PineconeDelphiClient("small", rollout=Rollout(CachedRoutes(FileRoutes(sys.argv[1])), flag=False))

def work(number):
    chance = random.Random(int(sys.argv[2]) * 10 + number)
    while True:
        ids = [f"r-{n}" for n in chance.sample(range(12), 3)]
        if chance.random() < 0.3:
            client.delete_vectors(ids, "ana", "coach")
        else:
            vectors = [{"id": id, "values": [chance.random() + 0.1] * 8, "metadata": {}} for id in ids]
            client.upsert_vectors(vectors, "ana", "coach")

client.upsert_vectors([{"id": "r-0", "values": [1.0] * 8}], "ana", "coach")
print("writing", flush=True)
for number in range(4):
    threading.Thread(target=work, args=(number,)).start()
"""


class Routes:
    """A file of routes with one dual route, read anew for every call."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.write()

    def write(self, side: str = "old", *, old_index: str | None = None, **more: Any) -> None:
        old = {"namespace": OLD} | ({"index": old_index} if old_index else {})
        route = {"creator": CREATOR, "twin": TWIN, "old": [old], "new": {"namespace": NEW}, "side": side, "dual": True}
        self.file.write_text(json.dumps({"routes": [route | more]}))

    def rollout(self) -> Rollout:
        return Rollout(CachedRoutes(FileRoutes(self.file), cache_s=0.0), flag=False)


@pytest.fixture
def routes(tmp_path: Path) -> Routes:
    return Routes(tmp_path / "routes.json")


@pytest.fixture
def small_index(make_index: MakeIndex, environment: Settings, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("FRESHNESS_WAIT_SECONDS", "0.01")  # the emulator's answers do not lag
    return make_index()


@pytest.fixture
def client(small_index: str, routes: Routes) -> Iterator[PineconeDelphiClient]:
    found = PineconeDelphiClient(small_index, rollout=routes.rollout())
    found.journal._looked = float("inf")  # the tests themselves say when to replay
    found.journal._clock = lambda: time.time() + AHEAD_S
    yield found
    found._threads.get().shutdown()


def vectors(*ids: str, value: float = 1.0, text: str = "a secret text") -> list[dict[str, Any]]:
    return [{"id": id, "values": [value] * SMALL, "metadata": {"text": text}} for id in ids]


def there(client: PineconeDelphiClient, namespace: str, index: str | None = None) -> dict[str, tuple[bytes, Any]]:
    """Return what a namespace holds, the added keys taken off."""
    opened = client._index(Place(namespace, index))
    found = opened.fetch(namespace, opened.list_ids(namespace).ids).records
    added = {"migrated_from", PREVIOUS}
    return {
        id: (one.values, {key: value for key, value in one.metadata.items() if key not in added})
        for id, one in found.items()
    }


def refuse(emulator: str, namespace: str, operation: str = "upsert") -> None:
    rule = {"operation": operation, "namespace": namespace, "status": 507}  # one that the SDK does not try again
    httpx.post(f"{emulator}/_emulator/faults", json=rule).raise_for_status()


def heal(emulator: str) -> None:
    httpx.delete(f"{emulator}/_emulator/faults").raise_for_status()


def until(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.05)


def test_both_sides_hold_what_was_written_the_new_one_as_a_migration_would_have_made_it(
    client: PineconeDelphiClient,
) -> None:
    given = vectors("r")

    assert client.upsert_vectors(given, CREATOR, TWIN) == 1

    (old,) = client.data.fetch(OLD, ["r"]).records.values()
    (new,) = client.data.fetch(NEW, ["r"]).records.values()
    assert old.metadata == {"text": "a secret text", "creator_id": CREATOR, "twin_id": TWIN}
    assert (new.values, new.metadata["migrated_from"]) == (old.values, OLD)
    assert json.loads(str(new.metadata[PREVIOUS])) == {"creator_id": CREATOR, "twin_id": TWIN}
    assert client.journal.count() == 0 and given == vectors("r")


def test_coroutines_write_to_both_sides_too(client: PineconeDelphiClient, routes: Routes, emulator: str) -> None:
    async def write() -> None:
        async with DelphiPineconeClient("small", rollout=routes.rollout()) as coroutines:
            await coroutines.upsert_vectors(vectors("a", "b"), CREATOR, TWIN)
            refuse(emulator, NEW)
            assert await coroutines.upsert_vectors(vectors("c"), CREATOR, TWIN) == 1
            heal(emulator)
            assert await coroutines.delete_vectors(["a"], CREATOR, TWIN) == 1

    asyncio.run(write())

    until("what the new side was owed arrives", lambda: client.replay() == 0)
    assert set(there(client, OLD)) == {"b", "c"} and there(client, OLD) == there(client, NEW)


@pytest.mark.parametrize("dense_field", ["_values", "embedding"], ids=["vectors", "documents"])
def test_old_and_new_may_be_two_indexes(
    client: PineconeDelphiClient, routes: Routes, make_index: MakeIndex, dense_field: str
) -> None:
    routes.write(old_index=make_index("brain", dense_field=dense_field))
    client.upsert_vectors(vectors("r"), CREATOR, TWIN)
    assert there(client, OLD, "brain") == there(client, NEW) and set(there(client, NEW)) == {"r"}


def test_texts_are_written_to_both_sides_of_an_index_that_embeds_them(
    client: PineconeDelphiClient, routes: Routes, emulator: str
) -> None:
    embed = {"model": "multilingual-e5-large", "field_map": {"text": "chunk_text"}}
    body = {"name": "digitalminds", "cloud": "aws", "region": "us-east-1", "embed": embed}
    httpx.post(f"{emulator}/indexes/create-for-model", json=body, headers={"Api-Key": "any"}).raise_for_status()
    integrated = PineconeDelphiClient("digitalminds", rollout=routes.rollout())

    integrated.upsert_texts([{"id": "r", "text": "baking bread", "page": 2}], CREATOR, TWIN)

    assert there(integrated, OLD) == there(integrated, NEW)
    (new,) = integrated.data.fetch(NEW, ["r"]).records.values()
    assert new.metadata["migrated_from"] == OLD and new.metadata["chunk_text"] == "baking bread"


def test_a_side_that_is_away_is_owed_and_gets_it_and_the_journal_tells_no_text(
    client: PineconeDelphiClient, emulator: str, capfd: pytest.CaptureFixture[str]
) -> None:
    client.upsert_vectors(vectors("kept", "goes"), CREATOR, TWIN)
    refuse(emulator, NEW)
    refuse(emulator, NEW, "delete")
    # When the application writes, writes again, and deletes, while the new side refuses
    assert client.upsert_vectors(vectors("r", value=1.0), CREATOR, TWIN) == 1
    assert client.upsert_vectors(vectors("r", "kept", value=3.0, text="another secret"), CREATOR, TWIN) == 2
    assert client.delete_vectors(["goes"], CREATOR, TWIN) == 1
    # Then the journal names what is owed, and nothing of what it says
    assert client.journal.count() == 3
    kept = (client.settings.vecfleet_home / FILE).read_bytes()
    assert NEW.encode() in kept and b"secret" not in kept
    assert "secret" not in "".join(capfd.readouterr())
    # And once the new side is back, both are equal
    heal(emulator)
    until("all is levelled", lambda: client.replay() == 0)
    assert set(there(client, OLD)) == {"kept", "r"} and there(client, OLD) == there(client, NEW)


def test_writers_level_by_themselves_what_is_owed(small_index: str, routes: Routes, emulator: str) -> None:
    client = PineconeDelphiClient(small_index, rollout=routes.rollout())
    refuse(emulator, NEW)
    client.upsert_vectors(vectors("r"), CREATOR, TWIN)
    heal(emulator)

    until(
        "it came with a later write",
        lambda: bool(client.upsert_vectors(vectors("s"), CREATOR, TWIN)) and "r" in there(client, NEW),
    )
    client._threads.get().shutdown()
    assert there(client, NEW) == there(client, OLD) and set(there(client, NEW)) == {"r", "s"}


@pytest.mark.parametrize("way", ["threads", "coroutines"])
def test_an_application_killed_between_the_two_writes_leaves_both_sides_equal_in_the_end(
    way: str, client: PineconeDelphiClient, routes: Routes, emulator: str
) -> None:
    client.upsert_vectors(vectors("r", text="the first"), CREATOR, TWIN)
    # Given an application whose second write hangs
    rule = {"operation": "upsert", "namespace": NEW, "hang": True}
    httpx.post(f"{emulator}/_emulator/faults", json=rule).raise_for_status()
    killed = subprocess.Popen([sys.executable, "-c", APPLICATION, way, str(routes.file)])
    until("its first write is there", lambda: there(client, OLD)["r"][1]["text"] == "the second")
    # When it is killed there
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    heal(emulator)
    assert there(client, NEW)["r"][1]["text"] == "the first"
    # Then whoever comes next on this machine makes up for it
    assert client.journal.count() == 1
    until("the replay has levelled it", lambda: client.replay() == 0)
    assert there(client, NEW)["r"][1]["text"] == "the second" and there(client, OLD) == there(client, NEW)


def test_an_application_killed_again_and_again_anywhere_leaves_both_sides_equal_in_the_end(
    client: PineconeDelphiClient, routes: Routes
) -> None:
    chance = random.Random(17)
    for life in range(4):
        busy = subprocess.Popen([sys.executable, "-c", BUSY, str(routes.file), str(life)], stdout=subprocess.PIPE)
        assert busy.stdout is not None and busy.stdout.readline() == b"writing\n"
        time.sleep(chance.uniform(0.0, 0.3))  # not waited for: wherever it is by then
        busy.kill()
        busy.communicate()

    until("all is levelled", lambda: client.replay() == 0)

    assert there(client, OLD) == there(client, NEW) and there(client, OLD)


def test_many_writers_of_one_record_leave_both_sides_equal(client: PineconeDelphiClient) -> None:
    def write(number: int) -> None:
        for value in range(4):
            client.upsert_vectors(vectors("r", value=10.0 * number + value + 1), CREATOR, TWIN)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    until("all is levelled", lambda: client.replay() == 0)
    assert there(client, OLD) == there(client, NEW)


def test_what_was_owed_before_the_cut_over_comes_from_the_side_that_had_it(
    client: PineconeDelphiClient, routes: Routes, emulator: str
) -> None:
    refuse(emulator, NEW)
    client.upsert_vectors(vectors("before"), CREATOR, TWIN)
    heal(emulator)
    routes.write("new")
    refuse(emulator, OLD)
    client.upsert_vectors(vectors("after"), CREATOR, TWIN)
    heal(emulator)

    until("all is levelled", lambda: client.replay() == 0)

    assert set(there(client, NEW)) == {"before", "after"} and there(client, OLD) == there(client, NEW)


def test_once_the_old_side_is_cleaned_up_it_is_owed_nothing(
    client: PineconeDelphiClient, routes: Routes, emulator: str
) -> None:
    routes.write("new")
    refuse(emulator, OLD)
    client.upsert_vectors(vectors("r"), CREATOR, TWIN)
    heal(emulator)
    routes.write("new", cleaned=True)
    client.upsert_vectors(vectors("s"), CREATOR, TWIN)

    until("nothing is owed", lambda: client.replay() == 0)

    assert set(there(client, NEW)) == {"r", "s"} and there(client, OLD) == {}


def test_nothing_is_deleted_on_account_of_a_side_that_is_not_there(
    client: PineconeDelphiClient, routes: Routes, emulator: str
) -> None:
    client.upsert_vectors(vectors("r", "s"), CREATOR, TWIN)
    refuse(emulator, NEW)
    client.upsert_vectors(vectors("r", value=2.0), CREATOR, TWIN)
    heal(emulator)
    client.data.delete_namespace(OLD)

    client.journal._clock = lambda: time.time() + 2 * AHEAD_S
    assert client.replay() == 1
    assert set(there(client, NEW)) == {"r", "s"}


def test_an_erased_tenant_leaves_the_journal_and_is_replayed_by_nobody(
    client: PineconeDelphiClient, emulator: str
) -> None:
    # Given an erasure from elsewhere, which this machine has only the fence of
    client.books = Fenced()
    refuse(emulator, NEW)
    client.upsert_vectors(vectors("r"), CREATOR, TWIN)
    heal(emulator)
    until("its rows go", lambda: client.replay() == 0)
    assert there(client, NEW) == {}
    # And one from here
    client.books = NoBooks()
    refuse(emulator, NEW)
    client.upsert_vectors(vectors("r"), CREATOR, TWIN)
    heal(emulator)
    assert client.delete_creator(CREATOR)
    assert client.journal.count() == 0
    assert CREATOR.encode() not in (client.settings.vecfleet_home / FILE).read_bytes()


def test_an_erasure_without_its_fence_leaves_what_is_owed(client: PineconeDelphiClient, emulator: str) -> None:
    refuse(emulator, NEW)
    client.upsert_vectors(vectors("r"), CREATOR, TWIN)
    heal(emulator)
    # When somebody asks to erase the tenant, and no fence can be raised
    client.books = HttpBooks("http://127.0.0.1:1", "token")
    with pytest.raises(Unreachable):
        client.delete_creator(CREATOR)
    # Then its last write still reaches the other side
    client.books = NoBooks()
    until("all is levelled", lambda: client.replay() == 0)
    assert set(there(client, OLD)) == {"r"} and there(client, OLD) == there(client, NEW)


def test_a_replay_asks_the_fence_before_each_attempt(
    client: PineconeDelphiClient, routes: Routes, emulator: str
) -> None:
    # Given a side that is owed a record, and refuses it once more
    refuse(emulator, NEW)
    client.upsert_vectors(vectors("r"), CREATOR, TWIN)
    heal(emulator)
    rule = {"operation": "upsert", "namespace": NEW, "status": 503, "count": 1}
    httpx.post(f"{emulator}/_emulator/faults", json=rule).raise_for_status()
    # When the tenant is erased between the two attempts of a replay
    client.books = FencedMeanwhile(iter([False]))
    client.replay()
    # Then the second is not made
    assert there(client, NEW) == {}


@dataclass(frozen=True)
class FencedMeanwhile(NoBooks):
    """Books whose fence stands once these answers are given."""

    before: Iterator[bool]

    def fenced(self, tenant: Tenant) -> bool:
        return next(self.before, True)


class Fenced(NoBooks):
    def fenced(self, tenant: Tenant) -> bool:
        return tenant == Tenant(CREATOR, TWIN)


def test_of_a_namespace_that_tenants_share_only_own_records_are_deleted(
    client: PineconeDelphiClient, routes: Routes
) -> None:
    table = {
        "creator": CREATOR,
        "twin": TWIN,
        "old": [{"namespace": OLD, "shared": True}],
        "new": {"namespace": NEW},
        "side": "old",
        "dual": True,
    }
    routes.file.write_text(json.dumps({"routes": [table, {**table, "twin": "other", "new": {"namespace": OTHERS}}]}))
    client.upsert_vectors(vectors("hers"), CREATOR, "other")

    assert client.delete_vectors(["hers"], CREATOR, TWIN) == 0

    assert set(there(client, OLD)) == {"hers"} == set(there(client, OTHERS))


def test_a_journal_that_cannot_be_written_stops_the_write_before_anything_is_sent(
    client: PineconeDelphiClient,
) -> None:
    home = client.settings.vecfleet_home
    home.mkdir(parents=True, exist_ok=True)
    (home / "journal").write_text("a file where a folder should be")

    with pytest.raises(Unreachable, match="journal"):
        client.upsert_vectors(vectors("r"), CREATOR, TWIN)

    assert there(client, OLD) == there(client, NEW) == {}


def test_a_replay_ends_at_a_side_that_is_away(client: PineconeDelphiClient, emulator: str) -> None:
    refuse(emulator, NEW)
    client.upsert_vectors(vectors("r"), CREATOR, TWIN)

    # It says what is owed still, instead of trying for as long as that lasts
    assert client.replay() == 1

    heal(emulator)
    until("what the new side was owed arrives", lambda: client.replay() == 0)
    assert there(client, OLD) == there(client, NEW)


def test_a_record_is_written_in_the_old_place_where_it_is(client: PineconeDelphiClient, routes: Routes) -> None:
    # Given a twin with two old places, and a record in the second
    routes.write()
    second = "a7f0c2de"
    client._index(Place(second)).upsert(second, [Record("r", struct.pack(f"<{SMALL}f", *[1.0] * SMALL))])
    routes.write(old=[{"namespace": OLD}, {"namespace": second}])

    client.upsert_vectors(vectors("r", "s", value=2.0), CREATOR, TWIN)

    assert set(there(client, second)) == {"r"} and set(there(client, OLD)) == {"s"}
    assert set(there(client, NEW)) == {"r", "s"}
    assert there(client, second)["r"][0] == there(client, NEW)["r"][0]
