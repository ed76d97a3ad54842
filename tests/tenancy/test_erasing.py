"""Erasure through the client: whatever names a tenant's records is enough to find them, and nobody else's go."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.tenancy.conftest import MakeIndex
from vecfleet.errors import Unreachable
from vecfleet.stores.parquet import ParquetStore
from vecfleet.tenancy import CachedRoutes, FileRoutes, PineconeDelphiClient
from vecfleet.tenancy.fences import NO_FENCE, HttpBooks
from vecfleet.tenancy.rollout import Rollout

FLAT = [1.0] * 8
ANA, BOB = "ana", "bob"


def write(client: PineconeDelphiClient, namespace: str, *ids: str, **metadata: Any) -> None:
    vectors = [{"id": id, "values": FLAT, "metadata": metadata} for id in ids]
    httpx.post(
        f"{address(client)}/vectors/upsert",
        json={"namespace": namespace, "vectors": vectors},
        headers={"Api-Key": "any", "X-Pinecone-Api-Version": "2026-07"},
    ).raise_for_status()


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


def test_a_name_that_is_another_tenants_in_another_index_is_deleted_whole_in_neither(
    small: PineconeDelphiClient, make_index: MakeIndex, tmp_path: Path
) -> None:
    # Given two indexes with a namespace of the same name, each of another tenant by its route
    brain = PineconeDelphiClient(make_index("brain"))
    old = {ANA: [{"namespace": "alma"}], BOB: [{"namespace": "alma", "index": "brain"}]}
    routes = [
        {"creator": who, "twin": "t", "old": old[who], "new": {"namespace": f"creator_{who}_twin_t"}, "side": "old"}
        for who in (ANA, BOB)
    ]
    (tmp_path / "routes.json").write_text(json.dumps({"routes": routes}))
    write(small, "alma", "says-so", creator_id=ANA)
    write(small, "alma", "says-nothing")
    write(brain, "alma", "his")
    client = PineconeDelphiClient("small", rollout=Rollout(CachedRoutes(FileRoutes(tmp_path / "routes.json"))))

    erased = client.erase(ANA)

    # Then only what names its owner is gone, and that something is left is said
    assert ids(client, "alma") == ["says-nothing"] and ids(brain, "alma") == ["his"]
    assert not erased.confirmed
    assert any("small/alma: another tenant has a namespace of this name" in said for said in erased.left)


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
    from orchestrator.erasing import exporter

    return exporter
