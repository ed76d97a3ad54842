"""Document indexes: documents are written, read, changed and refused as the service does it."""

import time
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from pinecone import Pinecone
from pinecone.errors.exceptions import ApiError

from tests.emulator.conftest import HTTP

FIELDS = {
    "embedding": {"type": "dense_vector", "dimension": 3, "metric": "cosine"},
    "terms": {"type": "sparse_vector"},
    "body": {"type": "string", "full_text_search": {}},
}
FULL = {
    "_id": "a",
    "embedding": [0.4, -1.5, 2.0],
    "terms": {"indices": [7, 3], "values": [0.4, 1.0]},
    "body": "bread needs time",
    "n": 1,
    "tags": ["x", "y"],
    "ok": True,
    "nothing": None,
}


@pytest.fixture
def host(pc: Pinecone) -> str:
    """The address of an index of documents with a dense, a sparse and a text field."""
    pc.indexes.create(name="docs", schema={"fields": FIELDS})
    return str(pc.indexes.describe("docs").host)


@pytest.fixture
def documents(pc: Pinecone, host: str) -> Any:
    return pc.index("docs").documents


def post(host: str, operation: str, body: object, namespace: str = "n") -> httpx.Response:
    return HTTP.post(f"{host}/namespaces/{namespace}/documents/{operation}", json=body)


def document(id: str, **fields: object) -> dict[str, object]:
    return {"_id": id, "embedding": [1.0, 0.0, 0.0], **fields}


def test_a_document_comes_back_as_float32_widened_to_doubles(documents: Any, host: str) -> None:
    assert documents.upsert(namespace="n", documents=[FULL]).upserted_count == 1
    read = post(host, "fetch", {"ids": ["a", "missing"]}).json()
    assert read["namespace"] == "n"
    assert read["documents"] == {
        "a": {
            "_id": "a",
            "embedding": [0.4000000059604645, -1.5, 2.0],
            "terms": {"indices": [3, 7], "values": [1.0, 0.4000000059604645]},
            "body": "bread needs time",
            "n": 1.0,
            "tags": ["x", "y"],
            "ok": True,
        }
    }
    assert np.float32(read["documents"]["a"]["embedding"][0]) == np.float32(0.4)
    assert read["usage"] == {"read_units": 1}


def test_writes_are_accepted_with_202_and_tell_their_sequence_number(host: str) -> None:
    written = post(host, "upsert", {"documents": [FULL]})
    assert (written.status_code, written.json()) == (202, {"upserted_count": 1})
    assert written.headers["x-pinecone-request-lsn"] == "1"
    changed = post(host, "update", {"documents": [{"_id": "a", "n": 2}]})
    assert (changed.status_code, changed.json(), changed.headers["x-pinecone-request-lsn"]) == (202, {}, "2")
    found = post(host, "search", {"score_by": [{"type": "text", "fields": ["body"], "query": "bread"}], "top_k": 1})
    assert found.headers["x-pinecone-max-indexed-lsn"] == "2"
    fetched = post(host, "fetch", {"ids": ["a"]})
    assert not [name for name in fetched.headers if "lsn" in name]
    deleted = post(host, "delete", {"filter": {"n": 2}})
    assert (deleted.status_code, deleted.json()) == (202, {"matched_records": 1})
    assert post(host, "delete", {"ids": ["a"]}).json() == {}


def test_an_upsert_replaces_the_whole_document(documents: Any) -> None:
    documents.upsert(namespace="n", documents=[FULL])
    documents.upsert(namespace="n", documents=[document("a", k="v")])
    assert documents.fetch(namespace="n", ids=["a"]).documents["a"].to_dict() == document("a", k="v")


def test_one_bad_document_refuses_the_whole_request(documents: Any) -> None:
    with pytest.raises(ApiError, match="missing required field 'embedding'") as refusal:
        documents.upsert(namespace="n", documents=[document("a"), {"_id": "b", "body": "text"}])
    assert refusal.value.status_code == 400
    assert documents.fetch(namespace="n", ids=["a"]).documents == {}


REFUSED: dict[str, dict[str, object]] = {
    "a field that starts with _": {"_node_content": "x"},
    "a field that starts with $": {"$x": "x"},
    "a field without a name": {"": "x"},
    "a field of 65 bytes": {"k" * 65: "x"},
    "an object": {"nested": {"a": 1}},
    "a mixed list": {"mixed": ["a", 1]},
    "metadata over 40 KB": {"long": "x" * 41_000},
    "a text that is no string": {"body": 7},
    "a text over 100 KB": {"body": "x" * 102_401},
    "a text over 10,000 tokens": {"body": "x " * 10_001},
    "a wrong dimension": {"embedding": [1.0, 2.0]},
    "a vector of nearly zeros": {"embedding": [1e-9, 0.0, 0.0]},
    "sparse indices twice": {"terms": {"indices": [1, 1], "values": [1.0, 2.0]}},
    "an id that is not ASCII": {"_id": "é"},
}


@pytest.mark.parametrize("fields", REFUSED.values(), ids=REFUSED.keys())
def test_what_the_schema_or_the_limits_exclude_is_a_bad_request(host: str, fields: dict[str, object]) -> None:
    refused = post(host, "upsert", {"documents": [document("a") | fields]})
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "INVALID_ARGUMENT"
    assert post(host, "list", {}).json()["documents"] == []


def test_long_texts_do_not_count_as_metadata(host: str) -> None:
    assert post(host, "upsert", {"documents": [document("a", body="x" * 100_000, k="y")]}).status_code == 202


def test_requests_have_limits_of_number_and_size(host: str) -> None:
    assert post(host, "upsert", {"documents": [document(str(n)) for n in range(1_001)]}).status_code == 400
    assert post(host, "upsert", {"documents": []}).status_code == 400
    large = post(host, "upsert", {"documents": [document(str(n), body="x" * 90_000) for n in range(30)]})
    assert (large.status_code, large.json()["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE")
    assert post(host, "fetch", {"ids": [str(n) for n in range(1_001)]}).status_code == 400


def test_a_document_without_a_field_of_the_schema_is_refused(pc: Pinecone) -> None:
    pc.indexes.create(name="texts", schema={"fields": {"body": {"type": "string", "full_text_search": {}}}})
    with pytest.raises(ApiError, match="at least one of the fields of the schema"):
        pc.index("texts").documents.upsert(namespace="n", documents=[{"_id": "a", "k": 1}])


def test_names_of_namespaces_travel_encoded(documents: Any, pc: Pinecone) -> None:
    for name in ("a/b c%", "__default__"):
        documents.upsert(namespace=name, documents=[document("x")])
        assert [item.id for item in documents.list(namespace=name)] == ["x"]
    (page,) = pc.index("docs").list_namespaces()
    assert [found.name for found in page.namespaces] == ["__default__", "a/b c%"]


def test_listing_is_ordered_paged_and_by_prefix(documents: Any) -> None:
    documents.upsert(namespace="n", documents=[document(id) for id in ("b1", "a", "B", "b2", "b10")])
    pages = [[item.id for item in page.items] for page in documents.list(namespace="n", limit=2).pages()]
    assert pages == [["B", "a"], ["b1", "b10"], ["b2"]]
    assert [item.id for item in documents.list(namespace="n", prefix="b1")] == ["b1", "b10"]
    assert list(documents.list(namespace="of nobody")) == []


def test_a_fetch_returns_the_fields_that_it_names(documents: Any) -> None:
    documents.upsert(namespace="n", documents=[FULL])
    named = documents.fetch(namespace="n", ids=["a"], include_fields=["n", "absent"]).documents["a"]
    assert named.to_dict() == {"_id": "a", "n": 1.0}
    for everything in (None, [], ["*"]):
        assert (
            "embedding" in documents.fetch(namespace="n", ids=["a"], include_fields=everything).documents["a"].to_dict()
        )


def test_a_fetch_by_filter_is_paged(documents: Any, calls: Callable[..., list[dict[str, Any]]]) -> None:
    documents.upsert(namespace="n", documents=[document(f"r{n}", n=n) for n in range(5)])
    first = documents.fetch(namespace="n", filter={"n": {"$gte": 1}}, limit=3)
    rest = documents.fetch(namespace="n", filter={"n": {"$gte": 1}}, limit=3, pagination_token=first.pagination.next)
    assert sorted(first.documents) + sorted(rest.documents) == ["r1", "r2", "r3", "r4"]
    assert rest.pagination is None
    assert [call["api"] for call in calls(operation="fetch_by_metadata")] == ["documents", "documents"]


def test_updates_change_set_and_remove_fields(documents: Any) -> None:
    documents.upsert(namespace="n", documents=[FULL, document("b", n=5)])
    patch = {"_id": "a", "n": 3, "body": "new words", "_remove_fields": ["tags", "terms"]}
    documents.update(namespace="n", documents=[patch, {"_id": "unknown", "n": 1}])
    changed = documents.fetch(namespace="n", ids=["a", "unknown"]).documents
    assert {id: doc.to_dict() for id, doc in changed.items()} == {
        "a": {"_id": "a", "embedding": [0.4000000059604645, -1.5, 2.0], "n": 3.0, "body": "new words", "ok": True}
    }
    matched = documents.update(
        namespace="n", filter={"n": {"$gte": 3}}, set_fields={"n": 0}, remove_fields=["ok"]
    ).matched_records
    assert matched == 2
    assert documents.fetch(namespace="n", ids=["a"], include_fields=["n", "ok"]).documents["a"].to_dict() == {
        "_id": "a",
        "n": 0.0,
    }


@pytest.mark.parametrize(
    "body",
    [
        {"documents": [{"_id": "a", "n": None}]},
        {"documents": [{"_id": "a", "_remove_fields": ["embedding"]}]},
        {"documents": [{"_id": "a", "n": 1, "_remove_fields": ["n"]}]},
        {"documents": [{"_id": "a", "n": 2}], "filter": {"n": 1}},
        {"filter": {"n": 1}},
        {"filter": {}, "set_fields": {"n": 2}},
        {"filter": {"body": {"$match_any": "bread"}}, "set_fields": {"n": 2}},
        {"set_fields": {"n": 2}},
    ],
)
def test_updates_that_make_no_sense_change_nothing(host: str, body: dict[str, object]) -> None:
    post(host, "upsert", {"documents": [FULL]})
    assert post(host, "update", body).status_code == 400
    assert post(host, "fetch", {"ids": ["a"], "include_fields": ["n"]}).json()["documents"]["a"]["n"] == 1


def test_deletes_choose_in_one_way_only(host: str) -> None:
    post(host, "upsert", {"documents": [document("a", k=1), document("b", k=2), document("c", k=2)]})
    for wrong in ({}, {"ids": ["a"], "delete_all": True}, {"filter": {}}, {"filter": {"body": {"$match_all": "x"}}}):
        assert post(host, "delete", wrong).status_code == 400
    post(host, "delete", {"ids": ["a", "unknown"]})
    assert post(host, "delete", {"filter": {"k": 2}}).json() == {"matched_records": 2}
    assert post(host, "list", {}).json()["documents"] == []
    post(host, "upsert", {"documents": [document("a")]})
    assert post(host, "delete", {"delete_all": True}).json() == {}
    assert post(host, "list", {}).json()["documents"] == []


def test_stats_and_namespaces_serve_documents_too(documents: Any, pc: Pinecone) -> None:
    index = pc.index("docs")
    index.create_namespace(name="narrow", schema={"fields": {"n": {"filterable": True}}})
    documents.upsert(namespace="narrow", documents=[FULL, document("b", k=1)])
    stats = index.describe_index_stats()
    assert (stats.total_vector_count, stats.dimension, stats.metric) == (2, 3, "cosine")
    assert index.describe_namespace(name="narrow").record_count == 2
    assert set(documents.fetch(namespace="narrow", filter={"n": 1}).documents) == {"a"}
    assert documents.fetch(namespace="narrow", filter={"k": 1}).documents == {}
    index.delete_namespace(name="narrow")
    assert documents.fetch(namespace="narrow", ids=["a"]).documents == {}


def test_each_api_refuses_the_other_kind_of_index(pc: Pinecone, host: str, make_index: Callable[..., Any]) -> None:
    vectors = [{"id": "a", "values": [1.0, 2.0, 3.0]}]
    grpc = Pinecone(api_key="test", host=pc.config.host, grpc_scheme="http").index(host=host, grpc=True)
    writes: list[Callable[[], object]] = [
        lambda: pc.index("docs").upsert(vectors=vectors),
        lambda: grpc.upsert(vectors=vectors),
    ]
    for write in writes:
        with pytest.raises(ApiError, match="This index has a document schema, so writes must go through the documents"):
            write()
    with pytest.raises(ApiError, match="so reads must go through the documents API"):
        pc.index("docs").query(vector=[1.0, 2.0, 3.0], top_k=1)
    with pytest.raises(ApiError, match="This index has no document schema") as refusal:
        make_index().documents.fetch(namespace="n", ids=["a"])
    assert refusal.value.status_code == 400


def test_aliases_are_read_through_and_not_written_through(documents: Any, host: str) -> None:
    documents.upsert(namespace="n", documents=[FULL])
    HTTP.post(f"{host}/namespace-aliases", json={"name": "now", "target_namespace": "n"}).raise_for_status()
    assert post(host, "fetch", {"ids": ["a"]}, "now").json()["namespace"] == "n"
    assert post(host, "upsert", {"documents": [FULL]}, "now").status_code == 409
    assert post(host, "update", {"documents": [{"_id": "a", "n": 2}]}, "now").status_code == 412
    assert post(host, "delete", {"ids": ["a"]}, "now").status_code == 412


def test_reads_lag_behind_writes_and_each_kind_of_read_by_itself(documents: Any, fault: Callable[..., None]) -> None:
    fault(operation="fetch", lag_ms=3_600_000)
    documents.upsert(namespace="n", documents=[FULL])
    assert documents.fetch(namespace="n", ids=["a"]).documents == {}
    score = [{"type": "dense_vector", "field": "embedding", "values": [1.0, 0.0, 0.0]}]
    assert [match.id for match in documents.search(namespace="n", top_k=1, score_by=score).matches] == ["a"]


def test_faults_and_limits_strike_documents_as_they_strike_vectors(
    documents: Any, host: str, control: str, fault: Callable[..., None]
) -> None:
    fault(operation="upsert", partial=0.5, status=500, count=1)
    assert post(host, "upsert", {"documents": [document("a"), document("b")]}).status_code == 500
    assert [item["_id"] for item in post(host, "list", {}).json()["documents"]] == ["a"]
    HTTP.post(f"{control}/_emulator/limits", json={"limits": "x0.01", "shape": "bucket"}).raise_for_status()
    answers = [post(host, "fetch", {"ids": ["a"]}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[1].json()["error"]["code"] == "RESOURCE_EXHAUSTED"


def test_backups_keep_documents_and_their_schema(documents: Any, pc: Pinecone) -> None:
    documents.upsert(namespace="n", documents=[FULL])
    backup = pc.backups.create(index_name="docs")
    deadline = time.monotonic() + 60
    while pc.backups.describe(backup_id=backup.backup_id).status != "Ready" and time.monotonic() < deadline:
        pass
    pc.create_index_from_backup(backup_id=backup.backup_id, name="again")
    assert set(pc.indexes.describe("again").schema.fields) == set(FIELDS)
    assert pc.index("again").documents.fetch(namespace="n", ids=["a"]).documents["a"].body == "bread needs time"
