"""A write into a namespace that tenants share replaces the tenant's own records, and nobody else's."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.tenancy.conftest import SMALL, MakeIndex
from tests.tenancy.told import CLIENTS, Client, client_of
from vecfleet.settings import Settings
from vecfleet.tenancy import CachedRoutes, FileRoutes, PineconeDelphiClient, Rollout, TenantIsolationError
from vecfleet.tenancy.places import Place

SHARED = "everybody"


def vector(id: str, value: float = 1.0, **metadata: Any) -> dict[str, Any]:
    return {"id": id, "values": [value] * SMALL, "metadata": metadata}


@pytest.fixture
def index(make_index: MakeIndex, environment: Settings, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("FRESHNESS_WAIT_SECONDS", "0.01")
    return make_index()


@pytest.fixture
def rollout(tmp_path: Path) -> Callable[..., Rollout]:
    def make(**more: Any) -> Rollout:
        old = {"old": [{"namespace": SHARED, "shared": True}], "side": "old", **more}
        routes = [
            {"creator": creator, "twin": "t", "new": {"namespace": f"creator_{creator}_twin_t"}, **old}
            for creator in ("ana", "bo")
        ]
        (tmp_path / "routes.json").write_text(json.dumps({"routes": routes}))
        return Rollout(CachedRoutes(FileRoutes(tmp_path / "routes.json")), flag=False)

    return make


def owners(index: str, *ids: str) -> dict[str, Any]:
    found = PineconeDelphiClient(index)._index(Place("")).fetch(SHARED, ids).records
    return {id: one.metadata.get("creator_id") for id, one in found.items()}


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize("dual", [False, True], ids=["one side", "both sides"])
def test_an_upsert_refuses_ids_whose_record_is_anothers_and_writes_none_of_them(
    index: str, rollout: Callable[..., Rollout], kind: type[Client], dual: bool
) -> None:
    # Given a record of another tenant, and one of nobody
    client = client_of(kind, index, rollout(dual=dual))
    client.upsert_vectors([vector("his")], "bo", "t")
    raw = PineconeDelphiClient(index)._index(Place(""))
    his = raw.fetch(SHARED, ["his"]).records["his"]
    raw.upsert(SHARED, [type(his)("nobody's", his.values, None, {"text": "from before"})])

    # When she writes both ids and one of her own
    with pytest.raises(TenantIsolationError, match="2 of these ids are another's records, or nobody's") as refused:
        client.upsert_vectors([vector("hers"), vector("his", 2.0), vector("nobody's", 2.0)], "ana", "t")

    # Then nothing is written, and the error says what to do
    assert refused.value.next_step == "nothing was written: give these records ids of their own"
    assert owners(index, "his", "hers", "nobody's") == {"his": "bo", "nobody's": None}


@pytest.mark.parametrize("kind", CLIENTS)
def test_own_records_among_others_are_written_again(
    index: str, rollout: Callable[..., Rollout], kind: type[Client]
) -> None:
    client = client_of(kind, index, rollout())
    client.upsert_vectors([vector("his")], "bo", "t")

    assert client.upsert_vectors([vector("hers")], "ana", "t") == 1
    assert client.upsert_vectors([vector("hers", 2.0)], "ana", "t") == 1

    assert owners(index, "his", "hers") == {"his": "bo", "hers": "ana"}


def test_a_record_of_a_whole_creator_passes_for_no_twins(
    index: str, tmp_path: Path, rollout: Callable[..., Rollout]
) -> None:
    # A creator without a twin uses the default namespace, where all twins may have records
    client = PineconeDelphiClient(index, rollout=rollout())

    with pytest.raises(TenantIsolationError, match="names a twin"):
        client.upsert_vectors([vector("r", twin_id="t")], "cleo")

    # In its own namespace it may say so
    assert PineconeDelphiClient(index).upsert_vectors([vector("r", twin_id="t")], "cleo") == 1


def test_a_replay_replaces_no_record_that_is_anothers_by_now(
    index: str, rollout: Callable[..., Rollout], emulator: str
) -> None:
    # Given readers on the new side, and an old one that is owed a record
    client = PineconeDelphiClient(index, rollout=rollout(dual=True, side="new"))
    client.journal._looked = float("inf")
    rule = {"operation": "upsert", "namespace": SHARED, "status": 507}
    httpx.post(f"{emulator}/_emulator/faults", json=rule).raise_for_status()
    client.upsert_vectors([vector("r")], "ana", "t")
    httpx.delete(f"{emulator}/_emulator/faults").raise_for_status()

    # When another tenant comes to have a record of this id there
    raw = client._index(Place(""))
    hers = raw.fetch("creator_ana_twin_t", ["r"]).records["r"]
    raw.upsert(SHARED, [hers.with_metadata({"creator_id": "bo", "twin_id": "t"})])
    client.journal._clock = lambda: 1e12

    # Then it stays, and nothing is owed any more
    assert client.replay() == 0
    assert owners(index, "r") == {"r": "bo"}


def test_a_replay_owes_nothing_where_the_tenant_has_no_place_any_more(
    index: str, rollout: Callable[..., Rollout], emulator: str, tmp_path: Path
) -> None:
    # Given a twin whose other side is owed a record, and whose route goes
    client = PineconeDelphiClient(index, rollout=rollout(dual=True))
    client.journal._looked = float("inf")
    rule = {"operation": "upsert", "namespace": "creator_ana_twin_t", "status": 507}
    httpx.post(f"{emulator}/_emulator/faults", json=rule).raise_for_status()
    client.upsert_vectors([vector("r")], "ana", "t")
    (tmp_path / "routes.json").write_text("{}")
    client.journal._clock = lambda: 1e12

    # Then what it is owed stands in nobody's way
    client.rollout = Rollout(CachedRoutes(FileRoutes(tmp_path / "routes.json")), flag=False)
    assert client.replay() == 0


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize("named", ["creator_bo_twin_t", "creator_bo", "kept", "of-bo"])
def test_a_twin_that_is_called_as_anothers_namespace_is_given_is_refused_everywhere(
    index: str, rollout: Callable[..., Rollout], kind: type[Client], named: str, emulator: str, tmp_path: Path
) -> None:
    # Given `unlisted: legacy`, where a twin's namespace is called as the twin is, and what is another's
    route = {"creator": "bo", "twin": "u", "old": [{"namespace": "of-bo"}], "new": {"namespace": "creator_bo_twin_u"}}
    (tmp_path / "routes.json").write_text(json.dumps({"routes": [route], "kept": ["kept"]}))
    found = Rollout(CachedRoutes(FileRoutes(tmp_path / "routes.json")), flag=False, legacy_owner={"of-bo": "ana"}.get)
    client = client_of(kind, index, found)
    httpx.post(f"{emulator}/_emulator/reset", json={"calls": True}).raise_for_status()

    for call in (
        lambda: client.upsert_vectors([vector("r")], "ana", named),
        lambda: client.upsert_texts([{"id": "r", "text": "x"}], "ana", named),
        lambda: client.delete_vectors(["r"], "ana", named),
        lambda: client.query(vector=[1.0] * SMALL, creator_id="ana", twin_id=named),
        lambda: client.query_across_twins(vector=[1.0] * SMALL, creator_id="ana", twin_ids=[named]),
    ):
        with pytest.raises(TenantIsolationError):
            call()

    calls = httpx.get(f"{emulator}/_emulator/calls").json()["calls"]
    assert [one for one in calls if one["namespace"]] == []
