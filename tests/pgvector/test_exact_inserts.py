"""An application finds again what it inserted, to the last digit; a value that cannot be kept is refused by its key."""

from typing import Any

import pytest

from tests.pgvector.conftest import DIMENSION
from tests.vectors import ask
from vecfleet.errors import BadInput
from vecfleet.pgvector import DatabaseConnection, EmbeddingPipeline, EmbeddingSchema, VectorEmbedding, VectorStore

ONES = [1.0] * DIMENSION


@pytest.fixture
def store(database: DatabaseConnection, pipeline: EmbeddingPipeline) -> VectorStore:
    pipeline.setup_database()
    return VectorStore(database, namespace="production")


@pytest.mark.parametrize(
    "value",
    [2**53 + 1, 10**16, -(2**63) - 7, 3**300, {"deep": [2**60 + 1, 3**300]}, [2**60 + 1, "x"], 0.1, None, True, [], ""],
    ids=str,
)
def test_a_value_is_found_as_it_was_inserted(store: VectorStore, value: Any, empty_database_url: str) -> None:
    store.insert_embedding("c", "d", "k", "t", ONES, {"value": value})

    ((record, _),) = store.similarity_search(ONES)
    assert record.metadata == {"value": value}
    assert ask(empty_database_url, "SELECT metadata FROM embeddings_production") == [({"value": value},)]


@pytest.mark.parametrize(
    ("metadata", "key"),
    [
        ({"secret": "a\0b"}, "secret"),
        ({"secret": {"deep": ["a\0b"]}}, "secret"),
        ({"secret": -0.0}, "secret"),
        ({"secret": 1e300}, "secret"),
        ({"secret": float("nan")}, "secret"),
        ({"secret": [float("inf")]}, "secret"),
        ({"secret": {1: "x"}}, "secret"),
        ({"secret": object()}, "secret"),
        ({"secret": 10**5_000}, "secret"),
        ({"_vecfleet": {}}, "_vecfleet"),
        ({"a#json": "[1]"}, "a#json"),
        ({"a#metadata": 1}, "a#metadata"),
        ({"text": "hidden"}, "text"),
        ({"document_id": "hidden"}, "document_id"),
        ({"collection_name": "hidden"}, "collection_name"),
        ({"strategy": "s" * 51}, "strategy"),
        ({"strategy": None}, "strategy"),
        ({"depth_level": 2**31}, "depth_level"),
        ({"depth_level": "two"}, "depth_level"),
        ({"path": "a\0b"}, "path"),
    ],
)
def test_metadata_that_cannot_be_kept_is_refused_by_its_key(
    store: VectorStore, metadata: dict[str, Any], key: str
) -> None:
    with pytest.raises(BadInput) as refused:
        store.insert_embedding("c", "d", "k", "t", ONES, metadata)

    assert key in refused.value.message and "hidden" not in refused.value.message
    assert store.similarity_search(ONES) == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"collection_name": "k" * 256}, "collection_name"),
        ({"text": "a\0b"}, "text"),
        ({"document_id": "d" * 513}, "document_id"),
        ({"chunk_id": "c" * 513}, "chunk_id"),
        ({"chunk_id": "a\0b"}, "chunk_id"),
        ({"domain_tags": ["a\0b"]}, "domain_tags"),
        ({"metadata": {"strategy": "semantic"}}, "strategy"),
    ],
)
def test_an_argument_that_does_not_fit_is_refused_with_all_that_came_with_it(
    store: VectorStore, arguments: dict[str, Any], named: str
) -> None:
    given = {"chunk_id": "c", "document_id": "d", "collection_name": "k", "text": "t", "embedding": ONES}

    with pytest.raises(BadInput, match=named):
        store.insert_embeddings([VectorEmbedding(**given), VectorEmbedding(**{**given, **arguments})])

    assert store.similarity_search(ONES) == []


def test_the_published_tables_narrow_columns_refuse_nothing_that_their_metadata_keeps(
    database: DatabaseConnection,
) -> None:
    EmbeddingSchema(database.database_url, dimension=DIMENSION, layout="published").create_namespace("prod")
    store = VectorStore(database, "prod")

    store.insert_embeddings([VectorEmbedding("c", "d", "k", "t", ONES, confidence=0.1, depth_level=3)])

    ((record, _),) = store.similarity_search(ONES)
    assert record.metadata is not None
    assert (record.metadata["confidence"], record.metadata["depth_level"]) == (0.1, 3)
