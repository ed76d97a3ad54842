"""Two tenants in one namespace: whatever the routes say, neither ever sees a record of the other."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.tenancy.conftest import HEADERS, SMALL, MakeIndex
from vecfleet.errors import VecfleetError
from vecfleet.settings import Settings
from vecfleet.tenancy import (
    CachedRoutes,
    DelphiPineconeClient,
    FileRoutes,
    PineconeDelphiClient,
    RedisRoutes,
    Rollout,
    TenantIsolationError,
)
from vecfleet.tenancy.providers import REDIS_KEY

ASKED = [1.0] + [0.0] * (SMALL - 1)
TENANTS = [("a", "t"), ("b", "t"), ("a", "u"), ("a", None)]


def record(id: str, **metadata: Any) -> dict[str, Any]:
    return {"id": id, "values": ASKED, "metadata": metadata}


def new_name(creator: str, twin: str | None) -> str:
    return f"creator_{creator}_twin_{twin}" if twin else f"creator_{creator}"


@pytest.fixture(params=["query", "search"], ids=["vectors", "documents"])
def operation(request: pytest.FixtureRequest) -> str:
    """The emulator's word for a question to the index: it tells an index of vectors from one of documents."""
    name: str = request.param
    return name


@pytest.fixture
def raw(
    make_index: MakeIndex, environment: Settings, emulator: str, operation: str
) -> Callable[[str, list[dict[str, Any]]], None]:
    """Writes as the old application did. The index is there."""
    holds_documents = operation == "search"
    make_index(dense_field="embedding" if holds_documents else "_values")
    described = httpx.get(f"{emulator}/indexes/small", headers=HEADERS).json()

    def write(namespace: str, vectors: list[dict[str, Any]]) -> None:
        path, body = "vectors/upsert", {"namespace": namespace, "vectors": vectors}
        if holds_documents:
            path = f"namespaces/{namespace or '__default__'}/documents/upsert"
            documents = [{"_id": one["id"], "embedding": one["values"], **one["metadata"]} for one in vectors]
            body = {"documents": documents}
        httpx.post(f"{described['host']}/{path}", json=body, headers=HEADERS).raise_for_status()

    return write


@pytest.fixture
def mixed(raw: Callable[[str, list[dict[str, Any]]], None]) -> None:
    """`__default__` holds records of four tenants and of nobody; each tenant has a new namespace too."""
    for creator, twin in TENANTS:
        own = {"creator_id": creator} | ({"twin_id": twin} if twin else {})
        raw("", [record(f"{creator}-{twin}-{n}", **own) for n in range(5)])
        raw(new_name(creator, twin), [record(f"{creator}-{twin}-{n}", **own) for n in range(5)])
    raw("", [record("nobody's"), record("only-a-twin", twin_id="t"), record("other-case", creator_id="A", twin_id="t")])


def routes(side: str, cleaned: bool, shadow: float) -> dict[str, Any]:
    return {
        "shadow_share": shadow,
        "routes": [
            {
                "creator": creator,
                **({"twin": twin} if twin else {}),
                "old": [{"namespace": "__default__"}],
                "new": {"namespace": new_name(creator, twin)},
                "side": side,
                "cleaned": cleaned,
            }
            for creator, twin in TENANTS
        ],
    }


FILTERS = [
    None,
    {"creator_id": {"$ne": "a"}},
    {"$or": [{"creator_id": "b"}, {"creator_id": "a"}]},
    {"creator_id": {"$in": ["a", "b"]}, "twin_id": {"$exists": True}},
]


@pytest.mark.usefixtures("mixed")
@pytest.mark.parametrize(("side", "cleaned"), [("old", False), ("new", False), ("new", True), ("old", True)])
@pytest.mark.parametrize("failing", [False, True])
def test_no_foreign_record_in_any_route_state_fallback_or_shadow_read(
    side: str, cleaned: bool, failing: bool, tmp_path: Path, emulator: str, operation: str
) -> None:
    (tmp_path / "routes.json").write_text(json.dumps(routes(side, cleaned, shadow=1.0)))
    rollout = Rollout(CachedRoutes(FileRoutes(tmp_path / "routes.json")), flag=False)
    client = PineconeDelphiClient("small", rollout=rollout)
    if failing:  # the new side is away: readers on it fall back to the old one
        for creator, twin in TENANTS:
            # a status that the SDK does not try again
            rule = {"operation": operation, "namespace": new_name(creator, twin), "status": 507}
            httpx.post(f"{emulator}/_emulator/faults", json=rule).raise_for_status()

    async def ask_all() -> None:
        async with DelphiPineconeClient("small", rollout=rollout) as coroutines:
            for (creator, twin), filter, metadata in product(TENANTS, FILTERS, (True, False)):
                found = await answers(client, coroutines, creator, twin, filter, metadata)
                own = {f"{creator}-{twin}-{n}" for n in range(5)}
                assert all(ids <= own for ids in found)
                if filter is None and not (failing and cleaned):
                    assert found and all(ids == own for ids in found)

    asyncio.run(ask_all())
    client._threads.get().shutdown()
    told = told_by_the_emulator(emulator, operation)
    assert len(told) > 50
    assert all(len(owners) <= 1 and owners <= {f"{c}-{t}" for c, t in TENANTS} for owners in told)


def told_by_the_emulator(emulator: str, operation: str) -> list[set[str]]:
    """Return whose records each query was answered with, shadow reads among them."""
    calls = httpx.get(f"{emulator}/_emulator/calls", params={"operation": operation}).json()["calls"]
    return [{id.rpartition("-")[0] for id in call["ids"]} for call in calls]


async def answers(
    client: PineconeDelphiClient,
    coroutines: DelphiPineconeClient,
    creator: str,
    twin: str | None,
    filter: dict[str, Any] | None,
    metadata: bool,
) -> list[set[str]]:
    """The ids that each way of asking gives."""
    found = []
    with suppress(VecfleetError):
        answer = client.query(ASKED, creator, twin, 100, filter, metadata)
        assert metadata or all(hit.metadata is None for hit in answer.matches)
        found.append({hit.id for hit in answer.matches})
    with suppress(VecfleetError):
        answer = await coroutines.query(ASKED, creator, twin, 100, filter, metadata)
        found.append({hit.id for hit in answer.matches})
    return found


@pytest.mark.usefixtures("mixed")
def test_an_across_twins_search_of_shared_places_gives_each_twins_own(tmp_path: Path) -> None:
    (tmp_path / "routes.json").write_text(json.dumps(routes("old", cleaned=False, shadow=0)))
    rollout = Rollout(CachedRoutes(FileRoutes(tmp_path / "routes.json")), flag=False)

    hits = PineconeDelphiClient("small", rollout=rollout).query_across_twins(ASKED, "a", ["t", "u"], 100)

    assert sorted(hit.id for hit in hits) == sorted(f"a-{twin}-{n}" for twin in "tu" for n in range(5))


def test_a_legacy_namespace_of_an_unknown_owner_is_refused_and_a_known_ones_is_read(
    raw: Callable[[str, list[dict[str, Any]]], None],
) -> None:
    # Given a namespace called by its twin's id, whose records name no creator, as before the migration
    raw("5698a809", [record("x")])
    owners = {"5698a809": "a"}

    def client(**settings: Any) -> PineconeDelphiClient:
        return PineconeDelphiClient("small", rollout=Rollout(flag=False, **settings))

    # Then it is read for its owner alone, and for nobody where no one says whose it is
    assert [hit.id for hit in client(legacy_owner=owners.get).query(ASKED, "a", "5698a809").matches] == ["x"]
    for refused in (client(), client(legacy_owner=owners.get)):
        with pytest.raises(TenantIsolationError, match="Access denied"):
            refused.query(ASKED, "b", "5698a809")
    # And another tenant's new namespace cannot be passed off as a legacy one
    with pytest.raises(TenantIsolationError, match="Access denied"):
        client().query(ASKED, "b", "creator_a_twin_t")


def test_shadow_reads_are_counted_with_their_overlap(
    raw: Callable[[str, list[dict[str, Any]]], None], redis_url: str
) -> None:
    # Given a new side that lacks one of the old side's four records
    raw("old", [record(f"{n}") for n in range(4)])
    raw("creator_a_twin_t", [record(f"{n}") for n in range(3)])
    one = {"creator": "a", "twin": "t", "old": [{"namespace": "old"}], "new": {"namespace": "creator_a_twin_t"}}
    with redis.Redis.from_url(redis_url) as server:
        server.set(REDIS_KEY, json.dumps({"routes": [one | {"side": "old", "job": 7}], "shadow_share": 1.0}))
    client = PineconeDelphiClient(
        "small", rollout=Rollout(CachedRoutes(RedisRoutes.at(redis_url, timeout_s=60)), flag=False)
    )

    # When readers ask
    for _ in range(10):
        assert len(client.query(ASKED, "a", "t").matches) == 4
    client._threads.get().shutdown()

    # Then the evidence says so, once, by job
    evidence = client.shadow.take()[7]
    assert (evidence.queries, evidence.errors, evidence.compared) == (10, 0, 10)
    assert evidence.mean_overlap == 0.75
    assert evidence.p95_ms > 0 and sum(evidence.buckets) == 10
    assert client.shadow.take() == {}
