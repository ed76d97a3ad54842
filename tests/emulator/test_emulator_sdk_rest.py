"""The official SDK, unchanged, over a socket."""

import base64
import struct
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from pinecone import Pinecone
from pinecone.errors.exceptions import ApiError, ConflictError, NotFoundError

Make = Callable[..., Any]


def vector(id: str, *values: float, **metadata: object) -> dict[str, object]:
    return {"id": id, "values": list(values), **({"metadata": metadata} if metadata else {})}


def test_an_index_is_created_described_listed_and_deleted(pc: Pinecone) -> None:
    created = pc.create_index(name="things", dimension=3, metric="dotproduct", tags={"team": "a"})
    assert created.host.startswith("http://127.0.0.1:")
    described = pc.describe_index("things")
    assert (described.dimension, described.metric, described.status.ready) == (3, "dotproduct", True)
    assert described.tags == {"team": "a"}
    assert [index.name for index in pc.list_indexes()] == ["things"]
    assert pc.has_index("things")
    pc.delete_index("things")
    assert not pc.has_index("things")


def test_an_index_with_deletion_protection_is_not_deleted(pc: Pinecone) -> None:
    pc.create_index(name="things", dimension=3, deletion_protection="enabled")
    with pytest.raises(ApiError, match="Deletion protection"):
        pc.delete_index("things")
    pc.configure_index("things", deletion_protection="disabled")
    pc.delete_index("things")
    assert not pc.has_index("things")


@pytest.mark.parametrize(("name", "status"), [("Upper", 400), ("-a", 400), ("a" * 46, 400)])
def test_bad_index_names_are_refused(control: str, name: str, status: int) -> None:
    body = {"name": name, "schema": {"fields": {"_values": {"type": "dense_vector", "dimension": 3}}}}
    answer = httpx.post(f"{control}/indexes", json=body)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == "INVALID_ARGUMENT"


def test_an_index_name_can_be_taken_once(pc: Pinecone, make_index: Make) -> None:
    make_index()
    with pytest.raises(ConflictError):
        pc.create_index(name="things", dimension=3)
    with pytest.raises(NotFoundError):
        pc.describe_index("others")


def test_records_come_back_as_float32_with_floats_for_ints_and_without_nulls(make_index: Make) -> None:
    index = make_index()
    metadata = {"page": 7, "title": "naïve 🚀", "tags": ["a", "b"], "public": True, "gone": None}
    index.upsert(vectors=[{"id": "a", "values": [0.1, -2.5, 3e-9], "metadata": metadata}], namespace="n")
    found = index.fetch(ids=["a", "missing"], namespace="n")
    assert list(found.vectors) == ["a"]
    assert found.namespace == "n"
    exact = np.array([0.1, -2.5, 3e-9], "f4")
    assert np.array(found.vectors["a"].values, "f4").tobytes() == exact.tobytes()
    assert found.vectors["a"].metadata == {"page": 7.0, "title": "naïve 🚀", "tags": ["a", "b"], "public": True}


def test_an_upsert_answers_with_its_count_and_lsn_and_a_query_with_the_lsn_it_has_seen(make_index: Make) -> None:
    index = make_index()
    first = index.upsert(vectors=[vector("a", 1, 0, 0)], namespace="n")
    second = index.upsert(vectors=[vector("a", 0, 1, 0), vector("b", 1, 1, 1)], namespace="n")
    assert (first.upserted_count, second.upserted_count) == (1, 2)
    assert second.response_info.lsn_committed == first.response_info.lsn_committed + 1
    answer = index.query(vector=[0, 1, 0], top_k=1, namespace="n")
    assert answer.response_info.is_reconciled(second.response_info.lsn_committed)


def test_the_last_of_equal_ids_in_one_upsert_wins(make_index: Make) -> None:
    index = make_index()
    index.upsert(vectors=[vector("a", 1, 0, 0), vector("a", 0, 0, 9)])
    assert index.fetch(ids=["a"]).vectors["a"].values == [0, 0, 9]
    assert index.describe_index_stats().total_vector_count == 1


def test_ids_are_listed_in_byte_order_page_by_page(make_index: Make) -> None:
    index = make_index()
    ids = [f"{letter}{n}" for letter in "bAa_Z~ " for n in range(40)]
    index.upsert(vectors=[vector(id, 1, 2, 3) for id in ids], namespace="n")
    pages = list(index.list(namespace="n"))
    assert [len(page.vectors) for page in pages] == [100, 100, 80]
    assert [item.id for page in pages for item in page.vectors] == sorted(ids)
    by_prefix = [item.id for page in index.list(namespace="n", prefix="a", limit=7) for item in page.vectors]
    assert by_prefix == sorted(id for id in ids if id.startswith("a"))
    assert [item.id for page in index.list(namespace="absent") for item in page.vectors] == []


def test_a_forged_pagination_token_is_refused(make_index: Make) -> None:
    index = make_index()
    with pytest.raises(ApiError, match="Invalid pagination token") as refusal:
        index.list_paginated(namespace="n", pagination_token="nonsense")
    assert refusal.value.status_code == 400


def test_ids_with_spaces_slashes_and_percent_signs_survive_the_url(make_index: Make) -> None:
    index = make_index()
    ids = ["a b", "a+b", "a/b", "a%2Fb", "a&b=c", "a?b#c"]
    index.upsert(vectors=[vector(id, 1, 2, 3) for id in ids], namespace="a/b %")
    assert sorted(index.fetch(ids=ids, namespace="a/b %").vectors) == sorted(ids)
    assert index.describe_namespace(name="a/b %").record_count == len(ids)


def test_the_default_namespace_has_two_spellings_and_one_content(make_index: Make) -> None:
    index = make_index()
    index.upsert(vectors=[vector("a", 1, 0, 0)])
    index.upsert(vectors=[vector("b", 1, 0, 0)], namespace="__default__")
    assert sorted(index.fetch(ids=["a", "b"], namespace="").vectors) == ["a", "b"]
    assert index.describe_index_stats().namespaces["__default__"].vector_count == 2


@pytest.mark.parametrize(
    ("metric", "expected"),
    [("cosine", [("x", 1.0), ("xy", 0.70710678), ("y", 0.0)]), ("dotproduct", [("xy", 2.0), ("x", 1.0), ("y", 0.0)]),
     ("euclidean", [("x", 0.0), ("xy", 5.0), ("y", 10.0)])],
)  # fmt: skip
def test_a_query_ranks_by_the_metric(make_index: Make, metric: str, expected: list[tuple[str, float]]) -> None:
    index = make_index(metric=metric)
    index.upsert(vectors=[vector("x", 1, 0, 0), vector("y", 0, 3, 0), vector("xy", 2, 2, 0)])
    matches = index.query(vector=[1, 0, 0], top_k=5).matches
    assert [match.id for match in matches] == [id for id, _ in expected]
    assert [match.score for match in matches] == pytest.approx([score for _, score in expected])
    assert index.query(id="x", top_k=1).matches[0].score == pytest.approx(
        expected[0][1] if metric != "dotproduct" else 2
    )


def test_a_query_returns_what_it_is_asked_for(make_index: Make) -> None:
    index = make_index()
    index.upsert(vectors=[vector("a", 1, 2, 3, kind="k")], namespace="n")
    bare = index.query(vector=[1, 2, 3], top_k=1, namespace="n").matches[0]
    full = index.query(vector=[1, 2, 3], top_k=1, namespace="n", include_values=True, include_metadata=True).matches[0]
    assert (list(bare.values), bare.metadata) == ([], None)
    assert (full.values, full.metadata) == ([1, 2, 3], {"kind": "k"})
    assert index.query(vector=[1, 2, 3], top_k=1, namespace="absent").matches == []


def test_updates_merge_metadata_and_replace_values(make_index: Make) -> None:
    index = make_index()
    index.upsert(vectors=[vector("a", 1, 2, 3, keep="k", change=1)], namespace="n")
    index.update(id="a", values=[4, 5, 6], set_metadata={"change": 2, "new": ["x"]}, namespace="n")
    record = index.fetch(ids=["a"], namespace="n").vectors["a"]
    assert record.values == [4, 5, 6]
    assert record.metadata == {"keep": "k", "change": 2.0, "new": ["x"]}


def test_deletes_by_id_filter_and_all(make_index: Make) -> None:
    index = make_index()
    index.upsert(vectors=[vector(str(n), 1, 2, 3, even=n % 2 == 0) for n in range(10)], namespace="n")
    index.delete(ids=["0", "absent"], namespace="n")
    index.delete(filter={"even": True}, namespace="n")
    assert [item.id for page in index.list(namespace="n") for item in page.vectors] == ["1", "3", "5", "7", "9"]
    index.delete(delete_all=True, namespace="n")
    assert index.describe_namespace(name="n").record_count == 0
    with pytest.raises(NotFoundError) as refusal:
        index.delete(ids=["1"], namespace="absent")
    assert orjson.loads(str(refusal.value.body).replace("'", '"'))["message"] == "Namespace not found"


def test_namespaces_are_created_with_a_schema_listed_described_and_deleted(make_index: Make) -> None:
    index = make_index()
    index.create_namespace(name="b", schema={"fields": {"year": {"filterable": True}}})
    index.upsert(vectors=[vector("1", 1, 2, 3)], namespace="a")
    with pytest.raises(ConflictError):
        index.create_namespace(name="b")
    described = index.describe_namespace(name="b")
    assert list(described.schema.fields) == ["year"]
    assert described.indexed_fields.fields == ["year"]
    listed = list(index.list_namespaces())
    assert [(item.name, item.record_count) for page in listed for item in page.namespaces] == [("a", 1), ("b", 0)]
    assert listed[0].total_count == 2
    index.delete_namespace(name="a")
    with pytest.raises(NotFoundError):
        index.describe_namespace(name="a")
    assert index.describe_namespace(name="__default__").record_count == 0


def test_sparse_values_need_a_declared_sparse_field(pc: Pinecone, make_index: Make) -> None:
    sparse = {"indices": [7, 3], "values": [0.5, 0.25]}
    with pytest.raises(ApiError, match="does not support sparse values"):
        make_index(metric="dotproduct").upsert(vectors=[{"id": "a", "values": [1, 2, 3], "sparse_values": sparse}])
    fields = {
        "_values": {"type": "dense_vector", "dimension": 3, "metric": "dotproduct"},
        "_sparse_values": {"type": "sparse_vector"},
    }
    pc.indexes.create(name="hybrid", schema={"fields": fields})
    hybrid = pc.index("hybrid")
    hybrid.upsert(vectors=[{"id": "a", "values": [1, 2, 3], "sparse_values": sparse}, vector("b", 1, 2, 3)])
    stored = hybrid.fetch(ids=["a"]).vectors["a"].sparse_values
    assert dict(zip(stored.indices, stored.values, strict=True)) == {7: 0.5, 3: 0.25}
    answer = hybrid.query(vector=[1, 0, 0], sparse_vector={"indices": [3], "values": [4.0]}, top_k=2)
    assert [(match.id, match.score) for match in answer.matches] == [("a", 2.0), ("b", 1.0)]


def test_a_sparse_index_takes_sparse_vectors_only(pc: Pinecone) -> None:
    pc.indexes.create(name="sparse", schema={"fields": {"_sparse_values": {"type": "sparse_vector"}}})
    index = pc.index("sparse")
    index.upsert(vectors=[{"id": "a", "sparse_values": {"indices": [4_000_000_000], "values": [2.0]}}])
    assert index.fetch(ids=["a"]).vectors["a"].sparse_values.indices == [4_000_000_000]
    assert index.query(sparse_vector={"indices": [4_000_000_000], "values": [3.0]}, top_k=1).matches[0].score == 6
    assert index.describe_index_stats().vector_type == "sparse"


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        ([vector("é", 1, 2, 3)], 400),
        ([vector("a" * 513, 1, 2, 3)], 400),
        ([vector("", 1, 2, 3)], 400),
        ([vector("a", 1, 2)], 400),
        ([vector("a", 0, 0, 0)], 400),
        ([vector("a", 1, 2, 1e39)], 400),
        ([vector("a", 1, 2, 3), vector("b", 1, 2, 3, nested={"x": 1})], 400),
        ([vector("a", 1, 2, 3, mixed=["x", 1])], 400),
        ([{"id": "a", "values": [1, 2, 3], "metadata": {"$x": 1}}], 400),
        ([vector("a", 1, 2, 3, big="x" * 41_000)], 400),
        ([vector(str(n), 1, 2, 3) for n in range(1001)], 400),
        ([{"id": "a", "values": [1, "2", 3]}], 400),
        ([vector(str(n), 1, 2, 3, big="x" * 30_000) for n in range(80)], 413),
        ([], 400),
    ],
)
def test_a_batch_with_one_bad_record_is_refused_whole(pc: Pinecone, make_index: Make, bad: object, status: int) -> None:
    make_index()
    host = pc.describe_index("things").host
    answer = httpx.post(f"{host}/vectors/upsert", json={"vectors": bad, "namespace": "n"})
    assert answer.status_code == status
    assert set(answer.json()) == {"code", "message", "details"}
    assert httpx.post(f"{host}/describe_index_stats").json()["namespaces"] == {}


def test_the_emulator_tells_what_was_asked(
    pc: Pinecone, make_index: Make, calls: Callable[..., list[Any]], control: str
) -> None:
    index = make_index()
    index.upsert(vectors=[vector("a", 1, 2, 3), vector("b", 1, 2, 3)], namespace="n")
    index.fetch(ids=["b"], namespace="n")
    with pytest.raises(NotFoundError):
        index.delete(ids=["x"], namespace="m")
    upsert, fetch, delete = calls(index="things")[-3:]
    assert (upsert["operation"], upsert["namespace"], upsert["status"], upsert["ids"]) == (
        "upsert",
        "n",
        200,
        ["a", "b"],
    )
    assert (fetch["operation"], fetch["ids"]) == ("fetch", ["b"])
    assert fetch["bytes_out"] > 0
    assert (delete["operation"], delete["status"]) == ("delete", 404)
    assert upsert["seq"] < fetch["seq"] < delete["seq"]
    assert [call["seq"] for call in calls(operation="fetch", since=upsert["seq"])] == [fetch["seq"]]
    counts = httpx.get(f"{control}/_emulator/calls", params={"counts": 1, "namespace": "n"}).json()["counts"]
    assert counts == {"fetch": {"200": 1}, "upsert": {"200": 1}}
    httpx.post(f"{control}/_emulator/reset", json={"calls": True})
    assert calls() == []
    assert pc.has_index("things")


def test_a_digest_tells_contents_apart_but_not_order_and_may_leave_keys_out(make_index: Make, control: str) -> None:
    index = make_index()
    index.upsert(vectors=[vector("a", 1, 2, 3, k="v"), vector("b", 3, 2, 1)], namespace="one")
    index.upsert(vectors=[vector("b", 3, 2, 1)], namespace="two")
    index.upsert(vectors=[vector("a", 1, 2, 3, k="v", twin_id="t")], namespace="two")

    def digest(namespace: str, ignore: str = "") -> Any:
        where = {"index": "things", "namespace": namespace, "ignore": ignore}
        return httpx.get(f"{control}/_emulator/digest", params=where).json()

    assert digest("one")["count"] == 2
    assert digest("one")["digest"] != digest("two")["digest"]
    assert digest("one")["digest"] == digest("two", ignore="creator_id,twin_id")["digest"]


def test_the_dump_is_readable_without_any_library_of_ours(make_index: Make, control: str) -> None:
    index = make_index()
    index.upsert(vectors=[vector("a", 0.1, 2, 3, k="v")], namespace="n")
    text = httpx.get(f"{control}/_emulator/records", params={"index": "things", "namespace": "n"}).text
    (line,) = [orjson.loads(line) for line in text.splitlines()]
    assert struct.unpack("<3f", base64.b64decode(line["values"])) == struct.unpack("<3f", struct.pack("<3f", 0.1, 2, 3))
    assert (line["id"], line["metadata"], line["sparse"]) == ("a", {"k": "v"}, None)


def test_a_query_over_namespaces_merges_their_matches(make_index: Make) -> None:
    index = make_index()
    for number, name in enumerate(("a", "b", "c")):
        index.upsert(vectors=[vector(name, 1, number, 0)], namespace=name)
    answer = index.query_namespaces(
        vector=[1.0, 0.0, 0.0], namespaces=["a", "b", "c", "absent"], metric="cosine", top_k=2
    )
    assert [match.id for match in answer.matches] == ["a", "b"]


def test_a_connection_that_outlives_its_index_finds_nothing(pc: Pinecone, make_index: Make) -> None:
    index = make_index()
    index.upsert(vectors=[vector("a", 1, 2, 3)])
    pc.delete_index("things")
    with pytest.raises(NotFoundError):
        index.fetch(ids=["a"])
