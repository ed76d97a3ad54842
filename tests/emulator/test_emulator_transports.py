"""REST, REST with asyncio, and gRPC, all by the official SDK, say the same."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from pinecone import AsyncPinecone, Pinecone
from pinecone.errors.exceptions import PineconeError

from emulator.rpc import RPCS

Make = Callable[..., Any]
REST_ONLY = ("response_info", "size_bytes")
RECORDS = [
    {
        "id": f"r{n:03}",
        "values": np.random.default_rng(n).standard_normal(8).astype("f4").tolist(),
        "metadata": {"n": n, "even": n % 2 == 0, "text": "naïve 🚀", "tags": ["a", str(n)]},
    }
    for n in range(130)
]


@pytest.fixture
def both(pc: Pinecone, control: str) -> tuple[Any, Any]:
    """The same index by REST and by gRPC, on the same port."""
    fields = {
        "_values": {"type": "dense_vector", "dimension": 8, "metric": "dotproduct"},
        "_sparse_values": {"type": "sparse_vector"},
    }
    pc.indexes.create(name="things", schema={"fields": fields})
    host = pc.describe_index("things").host
    grpc = Pinecone(api_key="test", host=control, grpc_scheme="http").index(host=host, grpc=True)
    return pc.index("things"), grpc


class Waiting:
    """The asyncio client, each of its answers waited for."""

    def __init__(self, control: str, host: str) -> None:
        self.runner = asyncio.Runner()
        self._index = self.runner.run(self._open(control, host))

    async def _open(self, control: str, host: str) -> Any:
        async with AsyncPinecone(api_key="test", host=control) as pc:
            return await pc.index(host=host)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def ask(**arguments: Any) -> Any:
            answer = getattr(self._index, name)(**arguments)
            return self.runner.run(_collect(answer) if hasattr(answer, "__aiter__") else answer)

        return ask


async def _collect(pages: AsyncIterator[Any]) -> list[Any]:
    return [page async for page in pages]


@pytest.fixture
def all_three(both: tuple[Any, Any], pc: Pinecone, control: str) -> Iterator[tuple[Any, Any, Any]]:
    waiting = Waiting(control, pc.describe_index("things").host)
    yield (*both, waiting)
    waiting.close()
    waiting.runner.close()


def plain(answer: Any) -> Any:
    """An SDK answer as plain values, without what describes the transport."""
    if hasattr(answer, "to_dict"):
        answer = answer.to_dict()
    if isinstance(answer, dict):
        return {key: plain(value) for key, value in answer.items() if key not in REST_ONLY and value is not None}
    if isinstance(answer, (list, tuple)):
        return [plain(item) for item in answer]
    return answer


def same_floats(left: Any, right: Any) -> bool:
    """REST spells a float32 short, gRPC widens it."""
    if isinstance(left, float) or isinstance(right, float):
        return bool(np.float32(left) == np.float32(right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same_floats(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same_floats, left, right))
    return bool(left == right)


@pytest.mark.parametrize("writer", [0, 1, 2], ids=["written by REST", "written by gRPC", "written by asyncio"])
@pytest.mark.parametrize(
    "read",
    [
        lambda index: index.fetch(ids=["r000", "r007", "absent"], namespace="n"),
        lambda index: index.fetch_by_metadata(filter={"n": {"$lt": 5}}, namespace="n"),
        lambda index: index.fetch_by_metadata(filter={"even": True}, namespace="n", limit=10),
        lambda index: list(index.list(namespace="n", prefix="r0")),
        lambda index: list(index.list(namespace="n", limit=50)),
        lambda index: index.query(vector=[1.0] * 8, top_k=4, namespace="n", include_values=True, include_metadata=True),
        lambda index: index.query(id="r001", top_k=4, namespace="n", filter={"tags": {"$in": ["a"]}}),
        lambda index: index.query(vector=[1.0] * 8, sparse_vector={"indices": [2], "values": [3.0]}, top_k=2),
        lambda index: index.describe_index_stats(),
        lambda index: index.describe_namespace(name="n"),
        lambda index: list(index.list_namespaces()),
    ],
    ids=[
        "fetch",
        "metadata",
        "metadata-paged",
        "list-prefix",
        "list",
        "query",
        "query-id",
        "hybrid",
        "stats",
        "namespace",
        "namespaces",
    ],
)
def test_reads_agree(all_three: tuple[Any, Any, Any], writer: int, read: Callable[[Any], Any]) -> None:
    for start in (0, 65):
        all_three[writer].upsert(vectors=RECORDS[start : start + 65], namespace="n")
    sparse = {"indices": [9, 2], "values": [0.1, 0.7]}
    all_three[writer].upsert(vectors=[{"id": "s", "values": [0.1] * 8, "sparse_values": sparse}])
    rest, grpc, waiting = (plain(read(index)) for index in all_three)
    assert same_floats(rest, grpc), (rest, grpc)
    assert rest == waiting


@pytest.mark.parametrize("transport", [0, 1, 2], ids=["REST", "gRPC", "asyncio"])
def test_every_write_works(all_three: tuple[Any, Any, Any], transport: int) -> None:
    index, witness = all_three[transport], all_three[0]
    assert index.upsert(vectors=RECORDS[:20], namespace="n").upserted_count == 20
    index.update(id="r003", values=[9.0] * 8, set_metadata={"n": 99}, namespace="n")
    updated = witness.fetch(ids=["r003"], namespace="n").vectors["r003"]
    assert (updated.values, updated.metadata["n"], updated.metadata["even"]) == ([9.0] * 8, 99, False)
    index.delete(ids=["r000"], namespace="n")
    index.delete(filter={"n": {"$gte": 15}}, namespace="n")
    assert witness.describe_namespace(name="n").record_count == 13
    index.delete(delete_all=True, namespace="n")
    assert witness.describe_namespace(name="n").record_count == 0
    index.create_namespace(name="m", schema={"fields": {"n": {"filterable": True}}})
    assert list(witness.describe_namespace(name="m").schema.fields) == ["n"]
    index.delete_namespace(name="m")
    assert [item.name for page in witness.list_namespaces() for item in page.namespaces] == ["n"]


@pytest.mark.parametrize("transport", [0, 1, 2], ids=["REST", "gRPC", "asyncio"])
def test_an_update_by_filter_may_be_tried_first(all_three: tuple[Any, Any, Any], transport: int) -> None:
    index, witness = all_three[transport], all_three[0]
    index.upsert(vectors=RECORDS[:20], namespace="n")
    tried = index.update(filter={"even": True}, set_metadata={"seen": True}, dry_run=True, namespace="n")
    assert tried.matched_records == 10
    assert witness.fetch_by_metadata(filter={"seen": True}, namespace="n").vectors == {}
    assert index.update(filter={"even": True}, set_metadata={"seen": True}, namespace="n").matched_records == 10
    assert len(witness.fetch_by_metadata(filter={"seen": True}, namespace="n").vectors) == 10


def test_values_survive_grpc_bit_by_bit(both: tuple[Any, Any]) -> None:
    rest, grpc = both
    values = np.array([1e-45, -0.0, 3.4e38, 0.1, 1 / 3, -1e-38, 16777217, 5e-324], "f4")
    grpc.upsert(vectors=[{"id": "a", "values": values.tolist()}])
    for index in (rest, grpc):
        assert np.array(index.fetch(ids=["a"]).vectors["a"].values, "f4").tobytes() == values.tobytes()


def test_refusals_have_the_same_words(both: tuple[Any, Any]) -> None:
    messages = []
    for index in both:
        with pytest.raises(PineconeError) as refusal:
            index.upsert(vectors=[{"id": "a", "values": [1.0, 2.0]}])
        assert "Vector dimension 2 does not match the dimension of the index 8" in str(refusal.value)
        with pytest.raises(PineconeError) as refusal:
            index.delete(ids=["a"], namespace="absent")
        messages.append(str(refusal.value))
    assert all("Namespace not found" in message for message in messages)


def test_a_dropped_grpc_connection_is_an_error_and_the_write_is_there(
    both: tuple[Any, Any], fault: Callable[..., None], calls: Callable[..., list[Any]]
) -> None:
    rest, grpc = both
    fault(operation="upsert", count=1, apply_first=True)
    with pytest.raises(PineconeError):
        grpc.upsert(vectors=RECORDS[:3], namespace="n")
    assert [(call["status"], call["applied"]) for call in calls(operation="upsert")] == [(0, True)]
    assert rest.describe_namespace(name="n").record_count == 3


def test_a_429_over_grpc_is_tried_again_by_the_sdk(
    both: tuple[Any, Any], fault: Callable[..., None], calls: Callable[..., list[Any]]
) -> None:
    fault(operation="upsert", count=2, status=429)
    both[1].upsert(vectors=RECORDS[:3], namespace="n")
    assert [call["status"] for call in calls(operation="upsert")] == [429, 429, 200]


def test_the_grpc_client_reaches_all_twelve_calls(both: tuple[Any, Any], calls: Callable[..., list[Any]]) -> None:
    _, grpc = both
    grpc.create_namespace(name="n")
    grpc.upsert(vectors=RECORDS[:3], namespace="n")
    grpc.fetch(ids=["r000"], namespace="n")
    grpc.fetch_by_metadata(filter={"even": True}, namespace="n")
    list(grpc.list(namespace="n"))
    grpc.query(vector=[1.0] * 8, top_k=1, namespace="n")
    grpc.update(id="r000", set_metadata={"n": 0}, namespace="n")
    grpc.delete(ids=["r000"], namespace="n")
    grpc.describe_index_stats()
    grpc.describe_namespace(name="n")
    list(grpc.list_namespaces())
    grpc.delete_namespace(name="n")
    made = [(call["operation"], call["status"]) for call in calls() if call["transport"] == "grpc"]
    assert [status for _, status in made] == [200] * 12
    assert {operation for operation, _ in made} == {operation for operation, _, _ in RPCS.values()}


def test_what_is_too_large_or_unknown_is_refused_over_grpc_too(both: tuple[Any, Any]) -> None:
    _, grpc = both
    large = [RECORDS[0] | {"id": str(n), "metadata": {"text": "x" * 30_000}} for n in range(80)]
    with pytest.raises(PineconeError, match="exceeds the maximum supported size"):
        grpc.upsert(vectors=large)
    with pytest.raises(PineconeError, match="Invalid pagination token"):
        grpc.list_paginated(pagination_token="forged")
    with pytest.raises(PineconeError, match="Namespace not found"):
        grpc.describe_namespace(name="absent")


def test_each_write_tells_its_lsn(both: tuple[Any, Any], pc: Pinecone) -> None:
    host = pc.describe_index("things").host

    def lsn(path: str, **body: object) -> str:
        return httpx.post(f"{host}{path}", json={"namespace": "n"} | body).headers["x-pinecone-request-lsn"]

    assert lsn("/vectors/upsert", vectors=[RECORDS[0], RECORDS[1]]) == "1"
    assert lsn("/vectors/update", id="r000", setMetadata={"n": 1}) == "2"
    assert lsn("/vectors/update", filter={"even": True}, setMetadata={"n": 2}) == "3"
    assert lsn("/vectors/delete", ids=["r000"]) == "4"
    both[1].upsert(vectors=RECORDS[:2], namespace="n")
    seen = httpx.post(f"{host}/query", json={"namespace": "n", "vector": [1.0] * 8, "topK": 1})
    assert seen.headers["x-pinecone-max-indexed-lsn"] == "5"
