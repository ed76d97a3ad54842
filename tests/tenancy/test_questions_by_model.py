"""Routes that name the model of each side: a question is asked in the model of the records that it asks."""

import asyncio
import math
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.tenancy.conftest import MakeIndex
from tests.tenancy.told import Clock, Told
from vecfleet.embedders import LocalEmbedder
from vecfleet.errors import BadInput, Unavailable
from vecfleet.settings import Settings
from vecfleet.tenancy import CachedRoutes, DelphiPineconeClient, PineconeDelphiClient, Rollout
from vecfleet.tenancy.api import delphi_router
from vecfleet.tenancy.places import RecordModel

TWIN: dict[str, Any] = {"creator_id": "ana", "twin_id": "coach"}
NAMESPACE = "creator_ana_twin_coach"
OLD, NEW = "openai/old", "openai/new"
# Each record has the vector of its text, by either model: `sleep` lies along one axis, `bread` along another.
AXES = {(OLD, "sleep"): 0, (OLD, "bread"): 1, (NEW, "sleep"): 2, (NEW, "bread"): 3}
DIMENSIONS = {OLD: 8, NEW: 4}


def vector(model: str, text: str) -> list[float]:
    return [float(place == AXES[model, text]) for place in range(DIMENSIONS[model])]


class Asked:
    """Embeds questions, and notes by which model."""

    def __init__(self) -> None:
        self.by: list[str] = []

    def __call__(self, model: RecordModel, text: str) -> list[float]:
        assert model.dimension == DIMENSIONS[model.name]
        self.by.append(model.name)
        return vector(model.name, text)


class Tenancy:
    """A tenant in two indexes of different models, and the client that follows its route."""

    def __init__(self, make_index: MakeIndex) -> None:
        self.indexes = {OLD: make_index("old-model", 8), NEW: make_index("new-model", 4)}
        for model, index in self.indexes.items():
            records = [{"id": text, "values": vector(model, text)} for text in ("sleep", "bread")]
            PineconeDelphiClient(index).upsert_vectors(records, **TWIN)
        self.told, self.clock, self.embed = Told(routes=[self.route("old")]), Clock(), Asked()
        self.rollout = Rollout(CachedRoutes(self.told, 5.0, 60.0, self.clock), flag=False)
        self.client = PineconeDelphiClient(self.indexes[OLD], rollout=self.rollout, embed=self.embed)

    def route(self, side: str, **more: Any) -> dict[str, Any]:
        places = {
            model: {"namespace": NAMESPACE, "index": index, "model": model, "dimension": DIMENSIONS[model]}
            for model, index in self.indexes.items()
        }
        return {"creator": "ana", "twin": "coach", "old": [places[OLD]], "new": places[NEW], "side": side, **more}

    def cut_over(self, **table: Any) -> None:
        self.told.table = {"routes": [self.route("new")], **table}
        self.clock.now += 5.0


@pytest.fixture
def tenancy(make_index: MakeIndex, environment: Settings) -> Iterator[Tenancy]:
    yield Tenancy(make_index)


def test_a_text_is_embedded_by_the_model_of_the_side_that_the_route_names(tenancy: Tenancy) -> None:
    assert tenancy.client.model_of(**TWIN) == OLD
    assert [hit.id for hit in tenancy.client.query(text="bread", top_k=1, **TWIN).matches] == ["bread"]
    # When the readers move, then the same question is asked in the other model, of the other dimension
    tenancy.cut_over()
    assert tenancy.client.model_of(**TWIN) == NEW
    assert [hit.id for hit in tenancy.client.query(text="bread", top_k=1, **TWIN).matches] == ["bread"]
    across = tenancy.client.query_across_twins(text="sleep", creator_id="ana", twin_ids=["coach"], top_k=1)
    assert [hit.id for hit in across] == ["sleep"]
    assert tenancy.embed.by == [OLD, NEW, NEW]


def test_so_it_is_for_coroutines(tenancy: Tenancy) -> None:
    async def ask() -> tuple[str | None, list[str]]:
        async with DelphiPineconeClient("old-model", rollout=tenancy.rollout, embed=tenancy.embed) as client:
            found = await client.query(text="bread", top_k=1, **TWIN)
            return await client.model_of(**TWIN), [hit.id for hit in found.matches]

    tenancy.cut_over()
    assert asyncio.run(ask()) == (NEW, ["bread"])


def test_a_shadow_read_asks_each_side_in_its_own_model(tenancy: Tenancy) -> None:
    tenancy.told.table = {"routes": [tenancy.route("old", job=7)], "shadow_share": 1.0}
    tenancy.client.query(text="sleep", top_k=1, **TWIN)
    tenancy.client._threads.get().shutdown()  # waits for what goes on in the background
    evidence = tenancy.client.shadow.seen()[7]
    assert (evidence.queries, evidence.errors, evidence.mean_overlap) == (1, 0, 1.0)
    assert tenancy.embed.by == [OLD, NEW]


def test_a_vector_must_be_of_the_model_that_it_is_compared_with(tenancy: Tenancy) -> None:
    tenancy.cut_over(shadow_share=1.0)
    for other in (None, OLD):
        with pytest.raises(BadInput, match=f"the records of '{NAMESPACE}' are embedded by {NEW}") as refused:
            tenancy.client.query(vector=vector(NEW, "sleep"), model=other, **TWIN)
        assert "ask by `text`" in (refused.value.next_step or "")
    found = tenancy.client.query(vector=vector(NEW, "sleep"), model=NEW, top_k=1, **TWIN).matches
    # Then it asks its own side alone: no shadow read compares it with vectors of another model
    assert [hit.id for hit in found] == ["sleep"]
    assert tenancy.client.shadow.seen() == {}


def test_a_side_of_an_unknown_model_is_asked_no_text_that_was_meant_for_another(tenancy: Tenancy) -> None:
    unknown = {"old": [{"namespace": NAMESPACE, "index": tenancy.indexes[OLD]}]}
    tenancy.told.table = {"routes": [tenancy.route("new", job=7, **unknown)], "shadow_share": 1.0}
    assert tenancy.client.query(text="sleep", top_k=1, **TWIN).matches
    assert tenancy.client.shadow.seen() == {} and tenancy.embed.by == [NEW]


def test_a_model_that_is_away_is_no_evidence_against_a_side(tenancy: Tenancy) -> None:
    def embed(model: RecordModel, text: str) -> list[float]:
        if model.name == NEW:
            raise Unavailable("the embedder cannot be reached")
        return vector(model.name, text)

    client = PineconeDelphiClient(tenancy.indexes[OLD], rollout=tenancy.rollout, embed=embed)
    tenancy.told.table = {"routes": [tenancy.route("old", job=7)], "shadow_share": 1.0}
    assert client.query(text="sleep", top_k=1, **TWIN).matches
    client._threads.get().shutdown()
    assert client.shadow.seen() == {}


def test_the_api_embeds_a_query_by_the_model_of_the_route(tenancy: Tenancy) -> None:
    tenancy.cut_over()
    app = FastAPI()
    app.include_router(delphi_router(tenancy.client, user=lambda: {"id": "u1", "creator_id": "ana"}))
    answer = TestClient(app).post("/delphi/search", json={"twin_id": "coach", "query": "bread", "top_k": 1})
    assert [match["id"] for match in answer.json()["matches"]] == ["bread"], answer.text


class Own:
    """The application's embedder, of the old model, which no route names."""

    model = OLD

    def embed(self, texts: Sequence[str], dimension: int | None) -> list[list[float]]:
        return [vector(OLD, text) for text in texts]


def test_the_api_embeds_a_query_itself_for_a_side_whose_model_no_route_names(tenancy: Tenancy) -> None:
    # Given a job to another model that was not told the old one, and another twin, which no job moves
    PineconeDelphiClient(tenancy.indexes[OLD]).upsert_vectors(
        [{"id": "loaf", "values": vector(OLD, "bread")}], creator_id="ana", twin_id="baker"
    )
    unknown = {"old": [{"namespace": NAMESPACE, "index": tenancy.indexes[OLD]}]}
    there = {"namespace": "creator_ana_twin_baker", "index": tenancy.indexes[OLD]}
    baker = {"creator": "ana", "twin": "baker", "old": [], "new": there, "side": "new"}
    app = FastAPI()
    app.include_router(delphi_router(tenancy.client, user=lambda: {"id": "u1", "creator_id": "ana"}, embedder=Own()))
    asked = {"query": "bread", "top_k": 1}
    # Then before the cut-over and after it each twin is found
    for side, model in (("old", []), ("new", [NEW])):
        tenancy.told.table = {"routes": [tenancy.route(side, **unknown), baker]}
        tenancy.clock.now += 5.0
        tenancy.embed.by.clear()
        for twin, found in (("coach", "bread"), ("baker", "loaf")):
            answer = TestClient(app).post("/delphi/search", json={"twin_id": twin, **asked})
            assert [match["id"] for match in answer.json()["matches"]] == [found], answer.text
        assert tenancy.embed.by == model
        twins = {**asked, "top_k": 2, "twin_ids": ["coach", "baker"]}
        both = TestClient(app).post("/delphi/search-cross-twin", json=twins)
        assert {match["id"] for match in both.json()["matches"]} == {"bread", "loaf"}, both.text


def test_the_models_of_the_environment_embed_unless_the_application_does(
    make_index: MakeIndex, environment: Settings
) -> None:
    index = make_index("local-model", 64)
    texts = ["how much sleep is healthy", "what goes into a sourdough starter"]
    vectors = LocalEmbedder().embed(texts, 64)
    records = [{"id": text, "values": values} for text, values in zip(texts, vectors, strict=True)]
    PineconeDelphiClient(index).upsert_vectors(records, **TWIN)
    place = {"namespace": NAMESPACE, "index": index, "model": "local/wordllama", "dimension": 64}
    told = Told(routes=[{"creator": "ana", "twin": "coach", "new": place, "side": "new"}])
    client = PineconeDelphiClient(index, rollout=Rollout(CachedRoutes(told, 5.0, 60.0, Clock()), flag=False))
    assert [hit.id for hit in client.query(text="hours of sleep", top_k=1, **TWIN).matches] == texts[:1]


@pytest.mark.parametrize(("value", "said"), [(0.0, "is all zeros"), (math.nan, "has a value that is no number")])
def test_a_question_whose_vector_has_no_direction_is_asked_of_nobody(
    tenancy: Tenancy, value: float, said: str, emulator: str
) -> None:
    # Given embedders that answer a text with such a vector: by a route's model, an application's, and the API's own
    class Without(Own):
        def embed(self, texts: Sequence[str], dimension: int | None) -> list[list[float]]:
            return [[value] * 8 for _ in texts]

    by_route = PineconeDelphiClient(tenancy.indexes[OLD], rollout=tenancy.rollout, embed=lambda *_: [value] * 8)
    app = FastAPI()
    app.include_router(delphi_router(by_route, user=lambda: {"id": "u1", "creator_id": "ana"}, embedder=Without()))
    asked_before = queries(emulator)
    with pytest.raises(BadInput, match=f"got a vector that {said}: it is not asked"):
        by_route.query(text="bread", **TWIN)
    unknown = {"old": [{"namespace": NAMESPACE, "index": tenancy.indexes[OLD]}]}
    tenancy.told.table = {"routes": [tenancy.route("old", **unknown)]}
    tenancy.clock.now += 5.0
    with pytest.raises(BadInput, match=f"got a vector that {said}: it is not asked"):
        by_route.query(text="bread", embed=lambda _text: [value] * 8, **TWIN)
    answer = TestClient(app).post("/delphi/search", json={"twin_id": "coach", "query": "bread"})

    # Then each is told so, and no store was asked
    assert answer.status_code == 422 and f"for the text that {said}" in answer.text
    assert queries(emulator) == asked_before


def queries(emulator: str) -> int:
    calls = httpx.get(f"{emulator}/_emulator/calls", params={"operation": "query"}).json()["calls"]
    return sum(call["operation"] == "query" for call in calls)
