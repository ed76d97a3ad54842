"""Search of documents: by vectors, by words, by embedded text, within filters."""

from typing import Any

import httpx
import pytest
from pinecone import Pinecone
from pinecone.errors.exceptions import ApiError

from tests.emulator.conftest import HTTP

FIELDS = {
    "embedding": {"type": "dense_vector", "dimension": 2, "metric": "dotproduct"},
    "terms": {"type": "sparse_vector"},
    "title": {"type": "string", "full_text_search": {}},
    "body": {"type": "string", "full_text_search": {}},
    "stems": {"type": "string", "full_text_search": {"stemming": True}},
}
DOCUMENTS = [
    {
        "_id": "bread",
        "embedding": [1.0, 0.0],
        "terms": {"indices": [1], "values": [1.0]},
        "title": "How bread is baked",
        "body": "Flour, water and time. Bread needs time.",
        "year": 1999,
    },
    {
        "_id": "moon",
        "embedding": [0.0, 1.0],
        "terms": {"indices": [1, 2], "values": [0.5, 2.0]},
        "title": "The moon",
        "body": "The moon takes a month of time to circle the earth, and a little more to the next full moon.",
        "year": 2024,
    },
    {"_id": "bare", "embedding": [0.5, 0.4], "title": "A title", "year": 2024},
]


@pytest.fixture(scope="module")
def host(running: Any) -> str:
    pc = Pinecone(api_key="test", host=running.control)
    pc.indexes.create(name="docs", schema={"fields": FIELDS})
    pc.index("docs").documents.upsert(namespace="n", documents=DOCUMENTS)
    return str(pc.indexes.describe("docs").host)


def search(host: str, *clauses: dict[str, object], **more: object) -> httpx.Response:
    body = {"score_by": list(clauses), "top_k": 10, **more}
    return HTTP.post(f"{host}/namespaces/n/documents/search", json=body)


def ids(answer: httpx.Response) -> list[str]:
    return [match["_id"] for match in answer.raise_for_status().json()["matches"]]


def dense(*values: float) -> dict[str, object]:
    return {"type": "dense_vector", "field": "embedding", "values": list(values)}


def text(query: str, *fields: str) -> dict[str, object]:
    return {"type": "text", "query": query, "fields": list(fields or ("title", "body"))}


def string(query: str) -> dict[str, object]:
    return {"type": "query_string", "query": query}


def test_dense_vectors_are_ranked_by_the_metric_of_their_field(host: str) -> None:
    answer = search(host, dense(1.0, 0.5))
    assert ids(answer) == ["bread", "bare", "moon"]
    assert [match["_score"] for match in answer.json()["matches"]] == pytest.approx([1.0, 0.7, 0.5])
    assert answer.json()["usage"] == {"read_units": 1}


def test_a_query_of_zeros_is_answered(host: str) -> None:
    answer = search(host, dense(0.0, 0.0))
    assert {match["_score"] for match in answer.json()["matches"]} == {0.0}


def test_sparse_vectors_are_ranked_by_what_they_share(host: str) -> None:
    clause = {"type": "sparse_vector", "fields": ["terms"], "sparse_values": {"indices": [2, 1], "values": [1.0, 1.0]}}
    assert ids(search(host, clause)) == ["moon", "bread"]


def test_words_are_ranked_by_how_rare_and_how_frequent_they_are(host: str) -> None:
    assert ids(search(host, text("time"))) == ["bread", "moon"]
    assert ids(search(host, text("moon time"))) == ["moon", "bread"]
    assert ids(search(host, text("bread"))) == ["bread"]
    assert ids(search(host, text("nobody wrote this"))) == []


def test_a_repeated_clause_or_field_counts_once_and_another_field_adds(host: str) -> None:
    (once,) = search(host, text("bread", "title")).json()["matches"]
    assert search(host, text("bread", "title"), text("bread", "title")).json()["matches"] == [once]
    assert search(host, text("bread bread", "title", "title")).json()["matches"] == [once]
    (both,) = search(host, text("bread", "title", "body")).json()["matches"]
    assert both["_score"] > once["_score"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("bread moon", ["moon", "bread"]),
        ("title:moon OR title:title", ["moon", "bare"]),
        ("time AND earth", ["moon"]),
        ("time NOT moon", ["bread"]),
        ("+time -bread", ["moon"]),
        ('"needs time"', ["bread"]),
        ('"time needs"', []),
        ("body:(flour OR month) AND time", ["bread", "moon"]),
        ("title:bread^9 moon", ["bread", "moon"]),
        ("(bread OR moon) AND (month OR nothing)", ["moon"]),
    ],
)
def test_query_strings_combine_words(host: str, query: str, expected: list[str]) -> None:
    assert sorted(ids(search(host, string(query)))) == sorted(expected)
    if "^" in query:
        assert ids(search(host, string(query))) == expected


def test_a_search_returns_no_field_unless_it_is_named(host: str) -> None:
    (match,) = search(host, text("flour")).json()["matches"]
    assert set(match) == {"_id", "_score"}
    (match,) = search(host, text("flour"), include_fields=["year"]).json()["matches"]
    assert set(match) == {"_id", "_score", "year"}
    (match,) = search(host, text("flour"), include_fields=["*"]).json()["matches"]
    assert set(match) == {"_id", "_score", "embedding", "terms", "title", "body", "year"}


def test_filters_narrow_metadata_by_value_and_texts_by_words(host: str) -> None:
    assert ids(search(host, dense(1.0, 0.0), filter={"year": {"$lt": 2000}})) == ["bread"]
    assert ids(search(host, dense(1.0, 0.0), filter={"body": {"$match_phrase": "Bread needs"}})) == ["bread"]
    assert ids(search(host, dense(1.0, 0.0), filter={"body": {"$match_phrase": "needs bread"}})) == []
    assert ids(search(host, dense(1.0, 0.0), filter={"body": {"$match_all": "moon month"}})) == ["moon"]
    both = {"$and": [{"title": {"$match_any": "moon title"}}, {"year": 2024}]}
    assert ids(search(host, dense(0.0, 1.0), filter=both)) == ["moon", "bare"]
    assert ids(search(host, text("time"), filter={"year": 2024})) == ["moon"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"score_by": [text("x", "year")]}, "Scoring field 'year' not found in index schema"),
        ({"score_by": [string("year:x")]}, "Scoring field 'year' not found in index schema"),
        ({"score_by": [dense(1.0)]}, "does not match the dimension"),
        ({"score_by": [dense(1.0, 0.0), text("x")]}, "must stand alone"),
        ({"score_by": []}, "1 to 100 clauses"),
        ({"score_by": [{"type": "magic"}]}, "Unknown scoring type 'magic'"),
        ({"score_by": [text("x") | {"field": "title"}]}, "but not both"),
        ({"score_by": [text("  ")]}, "something in it"),
        ({"score_by": [text("x" * 10_241)]}, "at most 10240 bytes"),
        ({"score_by": [string("(open")]}, "without its"),
        ({"score_by": [text("x")], "top_k": 10_001}, "between 1 and 10000"),
        ({"score_by": [text("x")], "filter": {"body": "x"}}, "searched, not filtered"),
        ({"score_by": [text("x")], "filter": {"embedding": {"$exists": True}}}, "no full-text search field"),
        ({"score_by": [text("x")], "filter": {"year": {"$match_any": "x"}}}, "no full-text search field"),
    ],
)
def test_a_search_that_makes_no_sense_is_a_bad_request(host: str, body: dict[str, object], message: str) -> None:
    answer = HTTP.post(f"{host}/namespaces/n/documents/search", json={"top_k": 1} | body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


def test_a_namespace_that_does_not_exist_has_no_matches(host: str) -> None:
    body = {"score_by": [text("moon")], "top_k": 1}
    answer = HTTP.post(f"{host}/namespaces/nobody/documents/search", json=body)
    assert (answer.status_code, answer.json()["matches"]) == (200, [])


def test_stems_and_wildcards_are_not_served_and_say_so(host: str) -> None:
    for clause in (text("x", "stems"), string("mo*")):
        answer = search(host, clause)
        assert (answer.status_code, "whole words only" in answer.json()["error"]["message"]) == (501, True)


def test_embedded_texts_are_found_by_text_and_not_read_when_they_are_not_stored(running: Any) -> None:
    pc = Pinecone(api_key="test", host=running.control)
    fields = {"a": {"type": "string", "embed": {"dimension": 1024}}, "b": {"type": "string", "sparse_embed": {}}}
    pc.indexes.create(name="embedded", schema={"fields": fields | {"b": fields["b"] | {"store_text": False}}})
    documents = pc.index("embedded").documents
    texts = [{"_id": "sun", "a": "the sun is a star", "b": "sun"}, {"_id": "moon", "a": "the moon", "b": "moon"}]
    assert documents.upsert(namespace="n", documents=texts).usage.embed_total_tokens == 9
    for clause in (
        {"type": "embed", "field": "a", "query": "a star"},
        {"type": "sparse_embed", "field": "b", "query": "sun"},
    ):
        assert documents.search(namespace="n", top_k=1, score_by=[clause]).matches[0].id == "sun"
    assert documents.fetch(namespace="n", ids=["sun"]).documents["sun"].to_dict() == {
        "_id": "sun",
        "a": "the sun is a star",
    }
    with pytest.raises(ApiError, match="store_text: false"):
        documents.fetch(namespace="n", ids=["sun"], include_fields=["b"])
    with pytest.raises(ApiError, match="missing required field 'a'"):
        documents.upsert(namespace="n", documents=[{"_id": "x", "b": "y"}])
