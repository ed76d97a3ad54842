"""Erasure through the client: whatever names a tenant's records is enough to find them, and nobody else's go."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from tests.tenancy.conftest import MakeIndex
from vecfleet.errors import Unreachable
from vecfleet.names import Tenant
from vecfleet.stores.parquet import ParquetStore
from vecfleet.tenancy import CachedRoutes, FileRoutes, PineconeDelphiClient
from vecfleet.tenancy.fences import NO_FENCE, Begun, Here, HttpBooks, NoBooks
from vecfleet.tenancy.rollout import Rollout

FLAT = [1.0] * 8
ANA, BOB = "ana", "bob"


@pytest.fixture(params=["_values", "embedding"], ids=["vectors", "documents"])
def dense_field(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def write(client: PineconeDelphiClient, namespace: str, *ids: str, **metadata: Any) -> None:
    vectors = [{"id": id, "values": FLAT, "metadata": metadata} for id in ids]
    path, body = "vectors/upsert", {"namespace": namespace, "vectors": vectors}
    if "embedding" in client.serving.info.schema["fields"]:
        path = f"namespaces/{namespace or '__default__'}/documents/upsert"
        body = {"documents": [{"_id": id, "embedding": FLAT, **metadata} for id in ids]}
    headers = {"Api-Key": "any", "X-Pinecone-Api-Version": "2026-07"}
    httpx.post(f"{address(client)}/{path}", json=body, headers=headers).raise_for_status()


def address(client: PineconeDelphiClient) -> str:
    host = client.serving.info.host
    return host if "://" in host else f"https://{host}"


def ids(client: PineconeDelphiClient, namespace: str) -> list[str]:
    return client.data.list_ids(namespace).ids


def test_records_among_others_go_one_by_one_and_are_confirmed_gone(small: PineconeDelphiClient) -> None:
    small.upsert_vectors([{"id": "a", "values": FLAT}], ANA, "coach")
    for namespace in ("__default__", "public", "review"):
        write(small, namespace, "hers", "hers-too", creator_id=ANA)
        write(small, namespace, "his", creator_id=BOB)
        write(small, namespace, "nobodys")
    write(small, "__default__", "alike", creator_id="ana2")

    erased = small.erase(ANA)

    assert erased.confirmed and erased.records == 7
    assert {(one.name, one.whole) for one in erased.deleted} == {
        ("creator_ana_twin_coach", True),
        ("__default__", False),
        ("public", False),
        ("review", False),
    }
    assert ids(small, "__default__") == ["alike", "his", "nobodys"]
    assert ids(small, "public") == ids(small, "review") == ["his", "nobodys"]
    assert small.verify_deletion(ANA) and not small.verify_deletion(BOB)


def test_a_twin_goes_without_its_creator_also_from_the_creator_wide_namespace(small: PineconeDelphiClient) -> None:
    write(small, "creator_ana", "of-the-twin", creator_id=ANA, twin_id="coach")
    write(small, "creator_ana", "of-all", creator_id=ANA)
    small.upsert_vectors([{"id": "a", "values": FLAT}], ANA, "coach")
    small.upsert_vectors([{"id": "b", "values": FLAT}], ANA, "writer")

    assert small.delete_twin(ANA, "coach")

    assert ids(small, "creator_ana") == ["of-all"]
    assert small.list_creator_twins(ANA) == ["writer"]


def test_a_name_of_two_tenants_is_deleted_only_where_it_is_the_erased_tenants(
    small: PineconeDelphiClient, make_index: MakeIndex, tmp_path: Path
) -> None:
    # Given two indexes with a namespace of the same name, each of another tenant by its route
    brain = PineconeDelphiClient(make_index("brain"))
    old = {ANA: [{"namespace": "alma"}], BOB: [{"namespace": "alma", "index": "brain"}]}
    # And the new place of one of them in the other index, so that an erasure looks there, too
    new = {who: {"namespace": f"creator_{who}_twin_t", "index": "brain"} for who in (ANA, BOB)}
    routes = [{"creator": who, "twin": "t", "old": old[who], "new": new[who], "side": "old"} for who in (ANA, BOB)]
    (tmp_path / "routes.json").write_text(json.dumps({"routes": routes}))
    write(small, "alma", "says-so", creator_id=ANA)
    write(small, "alma", "says-nothing")
    write(brain, "alma", "his")
    client = PineconeDelphiClient("small", rollout=Rollout(CachedRoutes(FileRoutes(tmp_path / "routes.json"))))

    erased = client.erase(ANA)

    # Then hers is gone with all that was in it, and his is as it was
    assert erased.confirmed and [(one.index, one.name, one.whole) for one in erased.deleted] == [
        ("small", "alma", True)
    ]
    assert ids(brain, "alma") == ["his"]


def test_where_an_application_and_the_books_differ_on_one_place_the_books_are_right(
    small: PineconeDelphiClient, tmp_path: Path
) -> None:
    # Given routes from before a namespace was given to another tenant
    route = {"creator": ANA, "twin": "t", "old": [{"namespace": "alma"}, {"namespace": "anna"}]}
    table = {"routes": [{**route, "new": {"namespace": "creator_ana_twin_t"}, "side": "old"}]}
    (tmp_path / "routes.json").write_text(json.dumps(table))
    write(small, "alma", "his")
    write(small, "anna", "hers")
    rollout = Rollout(CachedRoutes(FileRoutes(tmp_path / "routes.json")))
    books = Told(Begun(indexes={"small": Here(others=("alma",))}))

    erased = PineconeDelphiClient("small", rollout=rollout, books=books).erase(ANA)

    assert erased.confirmed and [one.name for one in erased.deleted] == ["anna"]
    assert ids(small, "alma") == ["his"]


@pytest.mark.parametrize(
    ("answer", "gone", "left"),
    [
        # By index, and what names alone would tell is for who asks from before that
        ({"legacy": ["a", "b", "c"], "indexes": {"small": {"legacy": ["a"], "others": ["b"]}}}, ["a"], ["b", "c"]),
        # A job never saw this index: only look-ups count
        ({"legacy": ["a", "b"], "twins": {"c": "c"}, "indexes": {"brain": {"legacy": ["a"]}}}, ["c"], ["a", "b"]),
        # A server from before that: a name that is one tenant's here and another's there speaks of neither
        ({"legacy": ["a", "b"], "others": ["b", "c"]}, ["a"], ["b", "c"]),
    ],
)
def test_books_tell_by_index_whose_a_namespace_is_and_older_ones_by_name(
    small: PineconeDelphiClient, answer: dict[str, Any], gone: list[str], left: list[str]
) -> None:
    for namespace in "abc":
        write(small, namespace, namespace)
    small.books = Told(msgspec.convert(answer, Begun))

    erased = small.erase(ANA)

    assert [one.name for one in erased.deleted] == gone
    assert [name for name in "abc" if ids(small, name)] == left


@pytest.mark.parametrize("namespace", ["__default__", "public"])
def test_records_of_a_namespace_given_whole_are_the_tenants_unless_they_name_another(
    small: PineconeDelphiClient, namespace: str
) -> None:
    # Given the default namespace as one tenant's by plan, and somebody else who has written there since
    write(small, namespace, "hers", creator_id=ANA)
    write(small, namespace, "says-nothing", "nor-this")
    write(small, namespace, "his", creator_id=BOB)
    write(small, namespace, "looked-up", twin_id="777")
    small.books = Told(Begun(indexes={"small": Here(legacy=(namespace,))}))

    erased = small.erase(ANA)

    assert erased.confirmed and [(one.name, one.whole, one.count) for one in erased.deleted] == [(namespace, False, 4)]
    assert ids(small, namespace) == ["his"]


@dataclass(frozen=True)
class Told(NoBooks):
    """Books that know something of a tenant."""

    begun: Begun

    def begin(self, tenant: Tenant, who: str) -> Begun:
        return self.begun


@dataclass(frozen=True)
class Slow(NoBooks):
    """Books that let an erasure wait for what is under way, while an application goes on."""

    meanwhile: Iterator[None]

    def begin(self, tenant: Tenant, who: str) -> Begun:
        return Begun(number=1)

    def wait_s(self, number: int) -> float:
        next(self.meanwhile, None)
        return 0.0


def test_writes_during_an_erasure_are_erased_and_later_ones_are_in_the_certificate(
    small: PineconeDelphiClient,
) -> None:
    small.upsert_vectors([{"id": "before", "values": FLAT}], ANA, "coach")
    small.books = Slow(write(small, "creator_ana_twin_coach", id) for id in ("meanwhile",))

    erased = small.erase(ANA)
    assert erased.confirmed and small.verify_deletion(ANA)
    # And when the application was never stopped, its later records are there, and another erasure deletes them
    small.upsert_vectors([{"id": "after", "values": FLAT}], ANA, "coach")

    assert any("after `ended`" in said for said in erased.certificate["residual"])
    assert small.erase(ANA).records == 1 and small.verify_deletion(ANA)


def test_a_deletion_that_was_not_answered_takes_nothing_that_is_written_after_the_certificate(
    small: PineconeDelphiClient, emulator: str
) -> None:
    # Given a deletion that is dropped, asked for again, and carried out two seconds later all the same
    update = {"request_deadline_seconds": 2.5, "freshness_wait_seconds": 0.5}
    small.settings = small.settings.model_copy(update=update)
    small.upsert_vectors([{"id": "before", "values": FLAT}], ANA, "coach")
    rule = {"operation": "delete_namespace", "late_ms": 2_000, "count": 1}
    httpx.post(f"{emulator}/_emulator/faults", json=rule).raise_for_status()

    # When the tenant is erased and certified, and then comes back
    assert small.erase(ANA).certificate
    small.upsert_vectors([{"id": "after", "values": FLAT}], ANA, "coach")

    # Then what it writes stays
    until = time.monotonic() + 60
    while not landed_late(emulator):
        assert time.monotonic() < until, "the late deletion was never carried out"
        time.sleep(0.05)
    assert ids(small, "creator_ana_twin_coach") == ["after"]


def landed_late(emulator: str) -> bool:
    calls = httpx.get(f"{emulator}/_emulator/calls").raise_for_status().json()["calls"]
    return any(call["fault"] == "landed late" for call in calls)


def test_a_namespace_that_only_ownership_tells_the_owner_of_goes_whole(small: PineconeDelphiClient) -> None:
    write(small, "5698a809", "x")
    write(small, "777", "y", creator_id=ANA)  # known as another's: not even looked into
    owners = {"5698a809": ANA, "777": BOB}
    client = PineconeDelphiClient("small", rollout=Rollout(legacy_owner=owners.get))

    erased = client.erase(ANA)

    assert [(one.name, one.whole, one.count) for one in erased.deleted] == [("5698a809", True, 1)]
    assert ids(client, "777") == ["y"]


def test_without_a_fence_the_answer_says_so(small: PineconeDelphiClient) -> None:
    assert small.erase(ANA).fence == NO_FENCE == "no fence: a running job may write again"


def test_a_fence_that_is_named_and_does_not_answer_leaves_everything_as_it_was(small: PineconeDelphiClient) -> None:
    small.upsert_vectors([{"id": "a", "values": FLAT}], ANA)
    small.books = HttpBooks("http://127.0.0.1:9", "token", timeout_s=1)

    with pytest.raises(Unreachable, match="fence"):
        small.erase(ANA)

    assert ids(small, "creator_ana") == ["a"]


@pytest.mark.parametrize(("repoint", "left"), [({}, {}), ({"live": "creator_bob"}, {"live": "creator_bob"})])
def test_aliases_of_what_is_erased_are_removed_or_led_elsewhere_first(
    small: PineconeDelphiClient, repoint: dict[str, str], left: dict[str, str]
) -> None:
    small.upsert_vectors([{"id": "a", "values": FLAT}], ANA)
    small.upsert_vectors([{"id": "b", "values": FLAT}], BOB)
    httpx.post(
        f"{address(small)}/namespace-aliases", json={"name": "live", "target_namespace": "creator_ana"}
    ).raise_for_status()

    erased = small.erase(ANA, repoint=repoint)

    assert erased.confirmed and len(erased.aliases) == 1
    assert small.data.aliases() == left  # type: ignore[attr-defined]


def test_what_is_erased_is_exported_first_record_by_record(
    small: PineconeDelphiClient, tmp_path: Any, make_exporter: Callable[[Any], Any]
) -> None:
    small.upsert_vectors([{"id": f"{n}", "values": FLAT} for n in range(250)], ANA)
    write(small, "public", "hers", creator_id=ANA)
    write(small, "public", "his", creator_id=BOB)
    store = ParquetStore(tmp_path)
    folder = store.open(store.create_like("portable", small.data.info, None, None))

    erased = small.erase(ANA, export=make_exporter(folder))

    assert erased.confirmed and erased.exported == 251
    assert {one.name: one.count for one in folder.namespaces()} == {"creator_ana": 250, "public": 1}


@pytest.fixture
def make_exporter() -> Callable[[Any], Any]:
    from orchestrator.services.erase import exporter

    return exporter
