"""JSON documents: cut into chunks, embedded at the table's dimension or refused, found again by a question."""

from collections.abc import Sequence
from typing import Any

import pytest

from tests.pgvector.conftest import DIMENSION
from vecfleet.errors import BadInput
from vecfleet.pgvector import DatabaseConnection, EmbeddingPipeline, HashEmbedder

CAMPAIGNS = [
    {"name": "Spring sale", "budget": 1200, "channels": ["search", "social"]},
    {"name": "Autumn clearance", "budget": 300, "regions": {"north": 10, "south": 20}},
]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_document_becomes_chunks_that_a_question_finds(pipeline: EmbeddingPipeline, streaming: bool) -> None:
    result = pipeline.process_json_data(CAMPAIGNS, "campaigns", "campaign_001", streaming=streaming)

    assert result["success"] and result["total_embeddings"] >= 1
    found = pipeline.search_similar("name: Spring sale budget: 1200 channels: search, social", "campaigns", limit=3)
    assert "Spring sale" in found["results"][0][0].text
    again = pipeline.process_json_data(CAMPAIGNS, "campaigns", "campaign_001", streaming=streaming)
    assert again["total_embeddings"] == pipeline.get_collection_stats("campaigns")["total_embeddings"]
    assert pipeline.search_similar("x", "nothing of that name")["results"] == []


def test_a_large_document_is_read_as_it_comes(pipeline: EmbeddingPipeline) -> None:
    """Memory stays small: what was embedded is in the table before the rest is read."""
    seen: list[int] = []

    def documents() -> Any:
        for number in range(350):
            if number == 300:
                seen.append(pipeline.get_namespace_stats("production")["embedding_count"])
            yield {"number": number, "text": f"paragraph {number}"}

    result = pipeline.process_json_data(documents(), "large", "doc_001", streaming=True)

    assert (result["total_embeddings"], seen) == (350, [300])


@pytest.mark.parametrize("streaming", [False, True])
def test_a_document_that_became_shorter_leaves_nothing_of_what_it_was(
    pipeline: EmbeddingPipeline, streaming: bool
) -> None:
    long = [{"title": f"Chapter {n}", "body": f"word{n} " * 300} for n in range(6)]
    pipeline.process_json_data(long, "books", "another")
    pipeline.process_json_data(long, "elsewhere", "book")
    pipeline.process_json_data(long, "books", "book", streaming=not streaming)

    result = pipeline.process_json_data(long[:2], "books", "book", streaming=streaming)

    def held(collection: str, document: str) -> int:
        return len(pipeline.search_similar("x", collection, 1_000, -1.0, {"document_id": document})["results"])

    assert held("books", "book") == result["total_embeddings"] < held("books", "another")
    assert held("elsewhere", "book") == held("books", "another")


def test_a_document_that_cannot_be_replaced_stays_as_it_was(pipeline: EmbeddingPipeline) -> None:
    before = pipeline.process_json_data(CAMPAIGNS, "campaigns", "doc")["total_embeddings"]

    with pytest.raises(BadInput):
        pipeline.process_json_data({"k" * 3_000: "word " * 500, "\0": "word " * 500}, "campaigns", "doc")

    assert pipeline.get_collection_stats("campaigns")["total_embeddings"] == before


@pytest.mark.parametrize(
    "document",
    [
        {"a.b": "first", "a": {"b": "second"}},
        {"a[0]": "first", "a": ["second"]},
        {"a": {"b": {"c": "first"}, "b.c": "second"}},
        {"a#0": "first", "a": "second"},
        {"a\\": {"b": "first"}, "a\\.b": "second"},
        {"$": "first", "x": "second"},
    ],
    ids=str,
)
def test_two_places_of_a_document_are_two_chunks_whatever_their_keys(
    pipeline: EmbeddingPipeline, document: dict[str, Any]
) -> None:
    """Each text is too long to be in one chunk with another."""

    def longer(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: longer(inner) for key, inner in value.items()}
        return [longer(inner) for inner in value] if isinstance(value, list) else f"{value} " + "word " * 300

    pipeline.process_json_data(longer(document), "k", "doc")

    texts = [record.text for record, _ in pipeline.search_similar("first second", "k", 100, -1.0)["results"]]
    assert sum("first" in text for text in texts) == sum("second" in text for text in texts) == 1
    assert len({text[:200] for text in texts}) == len(texts)


def test_finer_chunks_are_more(pipeline: EmbeddingPipeline, database: DatabaseConnection) -> None:
    document = {"chapters": [{"title": f"Chapter {n}", "body": "word " * 300} for n in range(4)], "author": "A"}
    fine = EmbeddingPipeline(
        database, config_name="fine", namespace="fine", embedder=HashEmbedder(), dimension=DIMENSION
    )

    coarse = pipeline.process_json_data(document)["total_embeddings"]

    assert fine.process_json_data(document)["total_embeddings"] > coarse > 1
    with pytest.raises(BadInput, match="no configuration 'unheard_of'"):
        EmbeddingPipeline(database, config_name="unheard_of")


@pytest.mark.parametrize("document", [{"a": object()}, 7, "one line", None, [], {}, {"a": None}])
def test_what_is_hardly_a_document_is_said_so_or_does_nothing(pipeline: EmbeddingPipeline, document: Any) -> None:
    if isinstance(document, dict) and isinstance(document.get("a"), object) and document.get("a") is not None:
        with pytest.raises(BadInput, match="no JSON"):
            pipeline.process_json_data(document)
    else:
        assert pipeline.process_json_data(document)["total_embeddings"] == (1 if document in (7, "one line") else 0)


def test_a_document_nested_without_end_is_refused(pipeline: EmbeddingPipeline) -> None:
    deep: Any = "bottom"
    for _ in range(5_000):
        deep = {"d": deep}

    with pytest.raises(BadInput, match="nested more than"):
        pipeline.process_json_data(deep)


class Fixed:
    """An embedder that knows one dimension only, as older models do."""

    model = "of 3,072"

    def embed(self, texts: Sequence[str], dimension: int | None) -> list[list[float]]:
        return [[1.0] * 3_072 for _ in texts]


def test_a_model_of_another_dimension_is_refused_before_anything_is_written(database: DatabaseConnection) -> None:
    pipeline = EmbeddingPipeline(database, namespace="production", embedder=Fixed())
    pipeline.setup_database()

    with pytest.raises(BadInput, match=r"gives 3,072 dimensions; the table has 1,536"):
        pipeline.process_json_data(CAMPAIGNS)

    assert pipeline.get_namespace_stats("production")["embedding_count"] == 0
