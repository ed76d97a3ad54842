"""The schemas of document indexes: what may be declared, and how it is described."""

from typing import Any

import httpx
import pytest
from pinecone import Pinecone

from tests.emulator.conftest import HTTP

DENSE = {"type": "dense_vector", "dimension": 3, "metric": "cosine"}
SPARSE = {"type": "sparse_vector"}
TEXT: dict[str, Any] = {"type": "string", "full_text_search": {}}


def create(control: str, fields: object, **more: object) -> httpx.Response:
    return HTTP.post(f"{control}/indexes", json={"name": "docs", "schema": {"fields": fields}, **more})


def test_a_schema_is_described_with_its_defaults(pc: Pinecone, control: str) -> None:
    created = create(control, {"v": DENSE, "s": SPARSE, "t": TEXT})
    assert created.status_code == 201
    assert created.json()["schema"]["fields"]["t"] == {
        "type": "string",
        "description": None,
        "store_text": True,
        "full_text_search": {"language": "en", "stemming": False, "stop_words": False},
    }
    fields = pc.indexes.describe("docs").schema.fields
    assert (fields["v"].dimension, fields["v"].metric) == (3, "cosine")
    assert type(fields["s"]).__name__ == "SparseVectorField"


def test_the_options_of_full_text_search_are_kept(control: str) -> None:
    grams = {"ngram": {"min_gram": 2, "max_gram": 3}}
    stems = {"language": "english", "stemming": True, "stop_words": True}
    fields = {"a": TEXT | {"full_text_search": grams}, "b": TEXT | {"full_text_search": stems}}
    described = create(control, fields).json()["schema"]["fields"]
    assert described["a"]["full_text_search"]["ngram"] == {"min_gram": 2, "max_gram": 3, "prefix_only": False}
    assert described["b"]["full_text_search"] == stems | {"language": "en"}


def test_an_embedded_text_is_described_with_its_model_and_its_full_text_search(control: str) -> None:
    fields = {"a": {"type": "string", "embed": {}, "sparse_embed": {}}, "b": TEXT}
    described = create(control, fields).json()["schema"]["fields"]["a"]
    assert (described["embed"]["model"], described["embed"]["metric"]) == ("llama-text-embed-v2", "cosine")
    assert described["sparse_embed"]["model"] == "pinecone-sparse-english-v0"
    assert described["store_text"] and "full_text_search" in described


BAD: dict[str, tuple[dict[str, object], int]] = {
    "no field": ({}, 400),
    "two dense vectors": ({"a": DENSE, "b": DENSE}, 400),
    "a dense vector and an embedded text": ({"a": DENSE, "b": {"type": "string", "embed": {}}}, 400),
    "two sparse vectors": ({"a": SPARSE, "b": {"type": "string", "sparse_embed": {}}}, 400),
    "101 texts": ({f"t{n}": TEXT for n in range(101)}, 400),
    "a reserved name beside others": ({"_values": DENSE, "t": TEXT}, 400),
    "a name with $": ({"$a": DENSE}, 400),
    "a name of 65 bytes": ({"é" * 32 + "x": DENSE}, 400),
    "a dense vector without its metric": ({"a": {"type": "dense_vector", "dimension": 3}}, 400),
    "a dimension of 20,001": ({"a": DENSE | {"dimension": 20_001}}, 400),
    "a long description": ({"a": DENSE | {"description": "x" * 257}}, 400),
    "a bare string": ({"a": DENSE, "b": {"type": "string"}}, 422),
    "a filterable field": ({"a": DENSE, "b": {"type": "float", "filterable": True}}, 400),
    "a text that is filterable": ({"a": TEXT | {"filterable": False}}, 400),
    "an integer": ({"a": DENSE, "b": {"type": "integer"}}, 422),
    "stop words without stemming": ({"a": TEXT | {"full_text_search": {"stop_words": True}}}, 400),
    "ngrams with stemming": (
        {"a": TEXT | {"full_text_search": {"stemming": True, "ngram": {"min_gram": 1, "max_gram": 2}}}},
        400,
    ),
    "ngrams of 11": ({"a": TEXT | {"full_text_search": {"ngram": {"min_gram": 1, "max_gram": 11}}}}, 400),
    "a full text that is not stored": ({"a": TEXT | {"store_text": False}}, 400),
    "a model that is not hosted": ({"a": {"type": "string", "embed": {"model": "mine"}}}, 400),
}


@pytest.mark.parametrize(("fields", "status"), BAD.values(), ids=BAD.keys())
def test_a_schema_that_the_service_would_not_make_makes_no_index(
    control: str, fields: dict[str, object], status: int
) -> None:
    refused = create(control, fields)
    assert refused.status_code == status
    assert HTTP.get(f"{control}/indexes").json()["indexes"] == []


def test_a_type_that_cannot_be_read_is_refused_in_plain_text(control: str) -> None:
    refused = create(control, {"b": {"type": "integer"}})
    assert refused.headers["content-type"] == "text/plain"
    assert "schema.fields.b.type" in refused.text


def test_encryption_and_full_text_search_exclude_each_other(control: str) -> None:
    assert create(control, {"t": TEXT}, cmek_id="key").status_code == 412
    assert create(control, {"v": DENSE}, cmek_id="key").status_code == 501
