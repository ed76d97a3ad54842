"""A deletion by a filter takes the records of one tenant that match as they are read, and no more than allowed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.tenancy.conftest import SMALL, MakeIndex
from tests.tenancy.told import CLIENTS, Client, Clock, Told, client_of
from vecfleet.errors import BadInput, Refused, RoutesTooOld, WritesFrozen
from vecfleet.settings import Settings
from vecfleet.tenancy import CachedRoutes, FileRoutes, PineconeDelphiClient, Rollout, filtered
from vecfleet.tenancy.places import Place

SHARED, NEW = "everybody", "creator_ana_twin_t"
OF_DOC = {"source_id": {"$eq": "doc-7"}}


@pytest.fixture(params=["_values", "embedding"], ids=["vectors", "documents"])
def index(
    make_index: MakeIndex, environment: Settings, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> str:
    monkeypatch.setenv("FRESHNESS_WAIT_SECONDS", "0.01")
    return make_index(dense_field=request.param)


@pytest.fixture
def rollout(tmp_path: Path) -> Callable[..., Rollout]:
    """Two tenants in one old namespace, each with a new one."""

    def make(**more: Any) -> Rollout:
        old = {"old": [{"namespace": SHARED, "shared": True}], "side": "old", **more}
        routes = [
            {"creator": creator, "twin": "t", "new": {"namespace": f"creator_{creator}_twin_t"}, **old}
            for creator in ("ana", "bo")
        ]
        (tmp_path / "routes.json").write_text(json.dumps({"routes": routes}))
        return Rollout(CachedRoutes(FileRoutes(tmp_path / "routes.json"), cache_s=0.0), flag=False)

    return make


def chunks(source: str, *ids: str) -> list[dict[str, Any]]:
    return [{"id": id, "values": [1.0] * SMALL, "metadata": {"source_id": source}} for id in ids]


def held(index: str, namespace: str) -> set[str]:
    return set(PineconeDelphiClient(index)._index(Place("")).list_ids(namespace).ids)


@pytest.mark.parametrize("kind", CLIENTS)
def test_the_chunks_of_one_document_go_and_everything_else_stays(index: str, kind: type[Client]) -> None:
    # Given two documents of a twin, and one of the same name of another
    client = client_of(kind, index)
    client.upsert_vectors(chunks("doc-7", "a", "b", "c"), "ana", "t")
    client.upsert_vectors(chunks("doc-8", "d"), "ana", "t")
    client.upsert_vectors(chunks("doc-7", "a"), "bo", "t")

    # When it is counted first
    counted = client.delete_by_filter(OF_DOC, "ana", "t", dry_run=True)

    # Then nothing has happened
    assert (counted.matched, counted.deleted, set(counted.sample)) == (3, 0, {"a", "b", "c"})
    assert counted.namespaces == (NEW,)
    assert held(index, NEW) == {"a", "b", "c", "d"}

    # And when it is deleted, twice
    assert client.delete_by_filter(OF_DOC, "ana", "t").deleted == 3
    assert client.delete_by_filter(OF_DOC, "ana", "t").deleted == 0
    assert held(index, NEW) == {"d"}
    assert held(index, "creator_bo_twin_t") == {"a"}


@pytest.mark.parametrize("kind", CLIENTS)
def test_among_others_only_the_tenants_own_records_go(
    index: str, rollout: Callable[..., Rollout], kind: type[Client]
) -> None:
    client = client_of(kind, index, rollout())
    client.upsert_vectors(chunks("doc-7", "hers"), "ana", "t")
    client.upsert_vectors(chunks("doc-7", "his"), "bo", "t")
    raw = PineconeDelphiClient(index)._index(Place(""))
    nobodys = raw.fetch(SHARED, ["his"]).records["his"]
    raw.upsert(SHARED, [type(nobodys)("nobody's", nobodys.values, None, {"source_id": "doc-7"})])

    # A filter that names another owner reaches nothing of that owner's either
    assert client.delete_by_filter({"creator_id": "bo"}, "ana", "t").matched == 0
    assert client.delete_by_filter(OF_DOC, "ana", "t").deleted == 1

    assert held(index, SHARED) == {"his", "nobody's"}


@pytest.mark.parametrize("kind", CLIENTS)
def test_more_matches_than_allowed_are_counted_and_none_is_deleted(
    index: str, kind: type[Client], emulator: str
) -> None:
    client = client_of(kind, index)
    client.upsert_vectors(chunks("doc-7", *(f"{n:03}" for n in range(120))), "ana", "t")

    with pytest.raises(Refused, match="120 records match this filter, and at most 119") as refused:
        client.delete_by_filter(OF_DOC, "ana", "t", at_most=119)

    assert refused.value.code == "too-many-match" and "at_most=120" in str(refused.value.next_step)
    assert len(deletions(emulator)) == 0
    assert client.delete_by_filter(OF_DOC, "ana", "t", at_most=120).deleted == 120
    assert held(index, NEW) == set()


def deletions(emulator: str) -> list[Any]:
    calls = httpx.get(f"{emulator}/_emulator/calls").json()["calls"]
    return [call for call in calls if "delete" in call["operation"]]


@pytest.mark.parametrize("filter", [{}, {"$and": [{}]}, None, {"a": {"$regex": "x"}}])
def test_a_filter_of_everything_is_refused_and_nothing_is_asked(index: str, filter: Any, emulator: str) -> None:
    client = PineconeDelphiClient(index)
    httpx.post(f"{emulator}/_emulator/reset", json={"calls": True}).raise_for_status()

    with pytest.raises(BadInput):
        client.delete_by_filter(filter, "ana", "t")
    with pytest.raises(BadInput, match="no creator"):
        client.delete_by_filter(OF_DOC)
    with pytest.raises(BadInput, match="most records"):
        client.delete_by_filter(OF_DOC, "ana", "t", at_most=0)

    assert httpx.get(f"{emulator}/_emulator/calls").json()["calls"] == []


def test_a_record_that_changed_since_the_look_and_matches_no_more_stays(
    index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an application that gives a chunk to another document, right after the look
    client = PineconeDelphiClient(index)
    client.upsert_vectors(chunks("doc-7", "a", "b"), "ana", "t")
    look = filtered.look

    def then_changed(*arguments: Any) -> filtered.Found:
        found = look(*arguments)
        client.upsert_vectors(chunks("doc-8", "a"), "ana", "t")
        return found

    monkeypatch.setattr(filtered, "look", then_changed)

    done = client.delete_by_filter(OF_DOC, "ana", "t")

    assert (done.matched, done.deleted) == (2, 1)
    assert held(index, NEW) == {"a"}


@pytest.mark.parametrize("side", ["old", "new"])
def test_on_a_dual_route_they_go_from_both_sides(index: str, rollout: Callable[..., Rollout], side: str) -> None:
    client = PineconeDelphiClient(index, rollout=rollout(dual=True, side=side))
    client.upsert_vectors(chunks("doc-7", "a", "b"), "ana", "t")
    client.upsert_vectors(chunks("doc-8", "c"), "ana", "t")

    assert client.delete_by_filter(OF_DOC, "ana", "t").deleted == 2

    assert held(index, SHARED) == held(index, NEW) == {"c"}
    assert client.journal.count() == 0


def test_a_side_that_is_away_is_owed_the_deletion(index: str, rollout: Callable[..., Rollout], emulator: str) -> None:
    # Given readers on the old side, and a new one that fails
    client = PineconeDelphiClient(index, rollout=rollout(dual=True))
    client.journal._looked = float("inf")
    client.upsert_vectors(chunks("doc-7", "a"), "ana", "t")
    rule = {"operation": "delete", "namespace": NEW, "status": 507}
    for operation in ("delete", "delete_documents"):
        httpx.post(f"{emulator}/_emulator/faults", json={**rule, "operation": operation})

    assert client.delete_by_filter(OF_DOC, "ana", "t").deleted == 1
    assert held(index, NEW) == {"a"} and client.journal.count() == 1

    # When it is back
    httpx.delete(f"{emulator}/_emulator/faults").raise_for_status()
    client.journal._clock = lambda: 1e12
    assert client.replay() == 0
    assert held(index, NEW) == held(index, SHARED) == set()


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize("dry_run", [False, True], ids=["for good", "dry run"])
def test_a_frozen_namespace_and_routes_that_are_too_old_are_refused(
    index: str, kind: type[Client], dry_run: bool, emulator: str
) -> None:
    route = {"creator": "ana", "twin": "t", "old": [{"namespace": "t"}], "new": {"namespace": NEW}, "side": "old"}
    frozen, silent = Told(routes=[route], frozen=[{"namespace": "t", "job": 7}]), Told()
    silent.table = None
    refusals: list[tuple[Told, type[Exception]]] = [(frozen, WritesFrozen), (silent, RoutesTooOld)]

    for told, refusal in refusals:
        client = client_of(kind, index, Rollout(CachedRoutes(told, clock=Clock()), flag=False))
        with pytest.raises(refusal):
            client.delete_by_filter(OF_DOC, "ana", "t", dry_run=dry_run)

    assert deletions(emulator) == []
