"""Both clients, thread and coroutine, give the same answers to the same questions in both spellings."""

import asyncio
import copy
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from tests.tenancy.conftest import SMALL, MakeIndex
from vecfleet.errors import BadInput, BadName, Unavailable
from vecfleet.settings import Settings
from vecfleet.stores.serving import Hit
from vecfleet.tenancy import DelphiPineconeClient, PineconeDelphiClient, QueryMetrics, get_delphi_client
from vecfleet.tenancy.requests import merged

CREATOR = "sainath.no.1"
FLAT = [1.0] + [0.0] * (SMALL - 1)


@pytest.fixture(params=["_values", "embedding"], ids=["vectors", "documents"])
def dense_field(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def vector(id: str, first: float = 1.0, **metadata: Any) -> dict[str, Any]:
    return {"id": id, "values": [first, 1.0] + [0.0] * (SMALL - 2), "metadata": metadata}


def both(work: Callable[[Any], Awaitable[Any]], thread: Callable[[PineconeDelphiClient], Any], name: str) -> list[Any]:
    """Return what the client for threads and the one for coroutines give."""

    async def in_loop() -> Any:
        async with DelphiPineconeClient(name) as client:
            return await work(client)

    return [thread(PineconeDelphiClient(name)), asyncio.run(in_loop())]


def test_a_question_in_either_spelling_gets_the_same_answer_from_either_client(small: PineconeDelphiClient) -> None:
    small.upsert_vectors(creator_id=CREATOR, twin_id="coach", vectors=[vector("a", page=1), vector("b", -1.0, page=2)])

    answers = [
        *both(
            lambda c: c.query(creator_id=CREATOR, twin_id="coach", query_vector=FLAT, top_k=10),
            lambda c: c.query(FLAT, CREATOR, "coach", 10),
            "small",
        ),
        *both(
            lambda c: c.query(FLAT, CREATOR, "coach"),
            lambda c: c.query(creator_id=CREATOR, twin_id="coach", query_vector=FLAT, top_k=10),
            "small",
        ),
    ]

    assert [[match.id for match in answer.matches] for answer in answers] == [["a", "b"]] * 4
    assert {answer.matches[0]["metadata"]["creator_id"] for answer in answers} == {CREATOR}
    assert {answer.namespace for answer in answers} == {f"creator_{CREATOR}_twin_coach"}


def test_what_an_application_gives_is_not_changed(small: PineconeDelphiClient) -> None:
    given = [vector("a", page=1), {"id": "b", "values": FLAT}]
    filter = {"page": 1}
    before = copy.deepcopy((given, filter))

    small.upsert_vectors(given, CREATOR, "coach", metadata={"source": "x"})
    answer = small.query(FLAT, CREATOR, "coach", filter=filter)

    assert (given, filter) == before
    assert answer.matches[0].metadata == {"page": 1.0, "creator_id": CREATOR, "twin_id": "coach", "source": "x"}


def test_coroutines_write_and_erase_too(small: PineconeDelphiClient) -> None:
    async def work() -> tuple[Any, ...]:
        async with DelphiPineconeClient("small") as client:
            await client.upsert_vectors(creator_id=CREATOR, twin_id="coach", vectors=[vector("a")])
            await client.upsert_vectors(creator_id=CREATOR, twin_id="writer", vectors=[("b", FLAT, {"page": 2})])
            await client.upsert_vectors([vector("c")], CREATOR)
            twins = await client.list_creator_twins(CREATOR)
            gone = await client.delete_twin(CREATOR, "coach")
            left = await client.list_creator_twins(CREATOR)
            return twins, gone, left, await client.delete_creator(CREATOR), await client.verify_deletion(CREATOR)

    assert asyncio.run(work()) == (["coach", "writer"], True, ["writer"], True, True)


def test_erasing_reaches_no_creator_whose_name_begins_alike(small: PineconeDelphiClient) -> None:
    others = [("a.10", "t"), ("a", "t"), ("a.1x", None)]
    for creator, twin in [("a.1", "t"), ("a.1", None), *others]:
        small.upsert_vectors([vector("x")], creator, twin)

    erased = small.erase("a.1")

    assert [one.name for one in erased.deleted] == ["creator_a.1", "creator_a.1_twin_t"]
    assert erased.confirmed
    assert {one.name for one in small.data.namespaces()} == {
        "creator_a.10_twin_t",
        "creator_a_twin_t",
        "creator_a.1x",
    }
    assert small.erase("a.1").confirmed, "erasing again is no error"


def test_a_twin_without_an_id_is_never_taken_for_its_creator(small: PineconeDelphiClient) -> None:
    small.upsert_vectors([vector("x")], CREATOR, "coach")

    for nothing in ("", None):
        with pytest.raises(BadInput, match="no twin is named"):
            small.delete_twin(CREATOR, nothing)  # type: ignore[arg-type]

    assert small.list_creator_twins(CREATOR) == ["coach"]


def test_a_deletion_that_is_refused_is_not_confirmed_and_says_why(small: PineconeDelphiClient, emulator: str) -> None:
    small.upsert_vectors([vector("x")], CREATOR, "coach")
    rule = {"operation": "delete_namespace", "status": 409, "message": "an alias leads there"}
    httpx.post(f"{emulator}/_emulator/faults", json=rule).raise_for_status()

    erased = small.erase(CREATOR)

    assert not erased.confirmed
    assert "an alias leads there" in erased.left[0]


def test_a_tenant_that_has_nothing_yet_gets_an_empty_answer(small: PineconeDelphiClient) -> None:
    found = both(lambda c: c.query(FLAT, CREATOR, "nobody"), lambda c: c.query(FLAT, CREATOR, "nobody"), "small")

    assert [answer.matches for answer in found] == [[], []]
    assert small.query_across_twins(FLAT, CREATOR) == []


@pytest.mark.parametrize(("metric", "best"), [("cosine", "near"), ("dotproduct", "near"), ("euclidean", "near")])
def test_twins_are_merged_best_first_whatever_the_metric(
    make_index: MakeIndex, environment: Settings, metric: str, best: str
) -> None:
    client = PineconeDelphiClient(make_index(f"by-{metric}", metric=metric))
    client.upsert_vectors([{"id": "far", "values": [-1.0] * SMALL}, {"id": "mid", "values": [0.5, 1.0] * 4}], "c", "a")
    client.upsert_vectors([{"id": best, "values": [1.0] * SMALL}], "c", "b")

    answers = both(
        lambda c: c.query_across_twins([1.0] * SMALL, "c", ["a", "b"]),
        lambda c: c.query_across_twins([1.0] * SMALL, "c", ["a", "b"]),
        f"by-{metric}",
    )

    assert [[hit.id for hit in answer] for answer in answers] == [["near", "mid", "far"]] * 2


def test_equal_scores_keep_the_order_they_were_asked_in_and_equal_ids_stay_two_records() -> None:
    left = [Hit("same", 0.5, namespace="n1"), Hit("z", 0.5, namespace="n1")]
    right = [Hit("same", 0.5, namespace="n2"), Hit("a", 0.9, namespace="n2")]

    found = merged([left, right], 10, "cosine")

    assert [(hit.id, hit.namespace) for hit in found] == [("a", "n2"), ("same", "n1"), ("z", "n1"), ("same", "n2")]
    assert merged([left, right], 2, "euclidean") == [left[0], left[1]]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"vector": FLAT}, "no creator is named"),
        ({"creator_id": CREATOR}, "needs a vector or a text"),
        ({"creator_id": CREATOR, "vector": FLAT, "text": "x"}, "needs a vector or a text"),
        ({"creator_id": CREATOR, "vector": FLAT, "query_vector": FLAT}, "the same argument"),
        ({"creator_id": CREATOR, "vector": FLAT, "top_k": 0}, "top_k"),
        ({"creator_id": "x_twin", "vector": FLAT}, "nor end in _twin"),
    ],
)
def test_a_question_that_says_nothing_or_two_things_is_refused_before_it_is_sent(
    small: PineconeDelphiClient, arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises((BadInput, BadName), match=says):
        small.query(**arguments)


def test_a_vector_of_another_model_is_refused_by_its_id(small: PineconeDelphiClient) -> None:
    with pytest.raises(BadInput, match="'a' has 3 values; the index 'small' has 8 dimensions"):
        small.upsert_vectors([{"id": "a", "values": [1, 2, 3]}], CREATOR)


def test_more_than_a_request_holds_is_sent_in_several(
    make_index: MakeIndex, environment: Settings, emulator: str
) -> None:
    client = PineconeDelphiClient(make_index("wide", 3_072))

    assert client.upsert_vectors([{"id": f"{n}", "values": [n + 0.5] * 3_072} for n in range(300)], CREATOR) == 300

    calls = httpx.get(f"{emulator}/_emulator/calls", params={"operation": "upsert"}).json()["calls"]
    assert len(calls) > 1 and {call["status"] for call in calls} == {200}


def test_every_query_is_told_to_the_observer_also_one_that_failed(
    make_index: MakeIndex, environment: Settings, emulator: str
) -> None:
    told: list[QueryMetrics] = []
    client = PineconeDelphiClient(make_index(), observe=told.append)
    client.upsert_vectors([vector("a")], CREATOR)
    client.query(FLAT, CREATOR)
    httpx.post(f"{emulator}/_emulator/faults", json={"operation": "query", "status": 503}).raise_for_status()
    with pytest.raises(Unavailable):
        client.query(FLAT, CREATOR)

    assert [(one.namespace, one.result_count, one.error) for one in told] == [
        (f"creator_{CREATOR}", 1, None),
        (f"creator_{CREATOR}", 0, "Unavailable"),
    ]
    assert all(one.latency_ms > 0 for one in told)


def test_texts_are_searched_where_the_index_embeds_them(
    emulator: str, environment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given the runtime target of seed 001
    body = {
        "name": "digitalminds",
        "cloud": "aws",
        "region": "us-east-1",
        "embed": {"model": "multilingual-e5-large", "field_map": {"text": "chunk_text"}},
    }
    httpx.post(f"{emulator}/indexes/create-for-model", json=body, headers={"Api-Key": "any"}).raise_for_status()
    for name, value in {
        "PINECONE_INDEX_NAME": "digitalminds",
        "PINECONE_INDEX_MODE": "integrated",
        "PINECONE_TEXT_FIELD": "chunk_text",
        "COHERE_RERANK_MODEL": "rerank-v3.5",
    }.items():
        monkeypatch.setenv(name, value)
    texts = [{"id": "1", "text": "how to run a marathon"}, {"id": "2", "chunk_text": "baking bread", "page": 2}]
    PineconeDelphiClient().upsert_texts(texts, CREATOR, "coach")

    answers = both(
        lambda c: c.query(text="a long run", creator_id=CREATOR, twin_id="coach", top_k=1),
        lambda c: c.query(text="a long run", creator_id=CREATOR, twin_id="coach", top_k=1),
        "digitalminds",
    )

    for answer in answers:
        assert answer.matches[0].metadata == {
            "chunk_text": "how to run a marathon",
            "creator_id": CREATOR,
            "twin_id": "coach",
        }
    assert texts[0] == {"id": "1", "text": "how to run a marathon"}


def test_the_environment_makes_one_client_for_the_process(environment: Settings) -> None:
    assert get_delphi_client() is get_delphi_client()
    assert get_delphi_client().index_name == "digital-twin-brain"
