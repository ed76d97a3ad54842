"""Bulk imports, driven by the official SDK: each state, both error modes, and what is refused."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pinecone import AsyncPinecone, Pinecone, ServerlessSpec
from pinecone.errors.exceptions import ApiError, NotFoundError

from emulator.contested import Contested
from emulator.server import start

OVER = ("Completed", "Failed", "Cancelled")


@pytest.fixture
def buckets(tmp_path: Path) -> Path:
    return tmp_path / "buckets"


@pytest.fixture
def control(buckets: Path) -> Iterator[str]:
    emulator = start(port=0, imports=buckets, import_delay_s=0.2)
    yield emulator.control
    emulator.stop()


@pytest.fixture
def index(control: str) -> Any:
    pc = Pinecone(api_key="test", host=control)
    pc.create_index(name="things", dimension=3, spec=ServerlessSpec(cloud="aws", region="us-east-1"))
    return pc.index("things")


def write(folder: Path, namespace: str, rows: list[dict[str, Any]], name: str = "0.parquet", **extra: Any) -> None:
    """A file as the service documents it: values as floats, metadata as JSON text."""
    columns = {
        "id": pa.array([row["id"] for row in rows], pa.string()),
        "values": pa.array([row["values"] for row in rows], pa.list_(pa.float32())),
        "metadata": pa.array([row.get("metadata") for row in rows], pa.string()),
    }
    (folder / namespace).mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns | extra), folder / namespace / name)


def rows(count: int, first: int = 1) -> list[dict[str, Any]]:
    return [
        {"id": f"r{n}", "values": [0.1, n, 2.0], "metadata": json.dumps({"n": n})} for n in range(first, first + count)
    ]


def run(index: Any, uri: str, **options: Any) -> Any:
    """An import, when it is over."""
    id = index.start_import(uri=uri, **options).id
    return ended(lambda: index.describe_import(id))


def ended(describe: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 120
    while (seen := describe()).status not in OVER:
        assert time.monotonic() < deadline, f"it never ended: {seen}"
    return seen


def test_every_namespace_folder_becomes_a_namespace(index: Any, buckets: Path) -> None:
    write(buckets / "b" / "dir", "one", rows(1500))
    write(buckets / "b" / "dir", "one", rows(5, 2000), "1.parquet")
    write(buckets / "b" / "dir", "__default__", rows(2))
    (buckets / "b" / "dir" / "one" / "notes.log").write_text("not a record")
    id = index.start_import(uri="s3://b/dir/").id
    first = index.describe_import(id)
    assert (first.uri, first.finished_at is None) == ("s3://b/dir/", first.status not in OVER)
    done = ended(lambda: index.describe_import(id))
    assert (done.status, done.records_imported, done.percent_complete, done.error) == ("Completed", 1507, 100.0, None)
    assert done.finished_at >= done.created_at
    stats = index.describe_index_stats().namespaces
    assert {name: summary.vector_count for name, summary in stats.items()} == {"one": 1505, "__default__": 2}
    stored = index.fetch(ids=["r7"], namespace="one").vectors["r7"]
    assert np.array(stored.values, "f4").tobytes() == np.array([0.1, 7, 2], "f4").tobytes()
    assert stored.metadata == {"n": 7.0}


def test_an_import_is_seen_pending_then_in_progress_and_can_be_cancelled(control: str, buckets: Path) -> None:
    emulator = start(port=0, imports=buckets, import_delay_s=10.0)  # five of them pending, one half for each file
    try:
        pc = Pinecone(api_key="test", host=emulator.control)
        pc.create_index(name="slow", dimension=3)
        index = pc.index("slow")
        for number in range(10):
            write(buckets / "b", "n", rows(3, 10 * number + 1), f"{number}.parquet")
        id = index.start_import(uri="gs://b").id
        seen: list[tuple[str, int]] = []
        deadline = time.monotonic() + 120
        while not seen or seen[-1][1] == 0:
            assert time.monotonic() < deadline, seen
            found = index.describe_import(int(id))
            seen.append((found.status, found.records_imported))
        assert seen[0] == ("Pending", 0)
        assert seen[-1][0] == "InProgress"
        index.cancel_import(id)
        cancelled = index.describe_import(id)
        assert cancelled.status == "Cancelled"
        assert 0 < cancelled.percent_complete < 100
        index.cancel_import(id)
        kept = index.describe_namespace(name="n").record_count
        assert kept == cancelled.records_imported
    finally:
        emulator.stop()


BAD = [
    {"id": "short", "values": [1.0, 2.0]},
    {"id": "no json", "values": [1.0, 2.0, 3.0], "metadata": "{"},
    {"id": "nested", "values": [1.0, 2.0, 4.0], "metadata": '{"a": {"b": 1}}'},
    {"id": "null", "values": [1.0, None, 3.0]},
    {"id": "none", "values": None},
    {"id": None, "values": [1.0, 2.0, 5.0]},
    {"id": "twin of r1", "values": [0.1, 1, 2.0]},
]


@pytest.mark.parametrize("bad", BAD, ids=[str(row["id"]) for row in BAD])
def test_a_bad_record_ends_an_import_unless_it_may_go_on(index: Any, buckets: Path, bad: dict[str, Any]) -> None:
    write(buckets / "b", "n", [*rows(2), bad])
    failed = run(index, "s3://b")
    assert (failed.status, failed.records_imported) == ("Failed", 0)
    assert failed.error.startswith("n/0.parquet: ")
    assert index.describe_index_stats().total_vector_count == 0
    done = run(index, "s3://b", error_mode="CONTINUE")
    assert (done.status, done.records_imported) == ("Completed", 2)
    assert [item.id for page in index.list(namespace="n") for item in page.vectors] == ["r1", "r2"]


def test_an_import_fails_where_the_namespace_is_there_or_the_files_are_wrong(index: Any, buckets: Path) -> None:
    index.upsert(vectors=[{"id": "a", "values": [1, 2, 3]}], namespace="taken")
    write(buckets / "taken", "taken", rows(1))
    write(buckets / "extra", "n", rows(1), text=pa.array(["x"]))
    (buckets / "torn" / "n").mkdir(parents=True)
    (buckets / "torn" / "n" / "0.parquet").write_bytes(b"PAR1 no")
    write(buckets / "typed", "n", [])
    pq.write_table(pa.table({"id": [1], "values": [[1.0, 2.0, 3.0]]}), buckets / "typed" / "n" / "0.parquet")
    for bucket, words in [
        ("taken", "Namespace 'taken' already exists"),
        ("extra", "column 'text' is not one of id, values"),
        ("torn", "is not a readable Parquet file"),
        ("typed", "column 'id' has the wrong type"),
        ("absent", "No Parquet files were found"),
    ]:
        failed = run(index, f"s3://{bucket}", error_mode="continue")
        assert (failed.status, words in failed.error) == ("Failed", True), failed.error
    assert index.describe_index_stats().total_vector_count == 1


def test_sparse_and_hybrid_records_are_imported_from_a_folder_of_this_machine(control: str, tmp_path: Path) -> None:
    pc = Pinecone(api_key="test", host=control)
    sparse = pa.array(
        [{"indices": [9, 2], "values": [0.5, 0.25]}],
        pa.struct([("indices", pa.list_(pa.uint32())), ("values", pa.list_(pa.float32()))]),
    )
    write(tmp_path / "hybrid dir", "n", rows(1), sparse_values=sparse)
    fields = {"_sparse_values": {"type": "sparse_vector"}}
    dense = {"_values": {"type": "dense_vector", "dimension": 3, "metric": "dotproduct"}}
    pc.indexes.create(name="hybrid", schema={"fields": fields | dense})
    pc.indexes.create(name="sparse", schema={"fields": fields})
    (tmp_path / "sparse" / "n").mkdir(parents=True)
    pq.write_table(pa.table({"id": ["r1"], "sparse_values": sparse}), tmp_path / "sparse" / "n" / "a.parquet")
    for name, folder in (("hybrid", "hybrid%20dir"), ("sparse", "sparse")):
        index = pc.index(name)
        assert run(index, f"file://{tmp_path}/{folder}").status == "Completed"
        stored = index.fetch(ids=["r1"], namespace="n").vectors["r1"].sparse_values
        assert (stored.indices, stored.values) == ([2, 9], [0.25, 0.5])


@pytest.mark.parametrize("switch", ["refuse", "ignore"])
def test_a_file_has_the_columns_of_its_kind_of_index(tmp_path: Path, switch: str) -> None:
    emulator = start(port=0, import_delay_s=0, contested=Contested(extra_columns=switch))
    try:
        pc = Pinecone(api_key="test", host=emulator.control)
        pc.create_index(name="dense", dimension=3)
        pc.indexes.create(name="sparse", schema={"fields": {"_sparse_values": {"type": "sparse_vector"}}})
        sparse = pa.array([{"indices": [2], "values": [0.5]}])
        write(tmp_path, "n", rows(1), sparse_values=sparse)
        for name, extra in (("dense", "sparse_values"), ("sparse", "values")):
            done = run(pc.index(name), f"file://{tmp_path}")
            if switch == "refuse":
                assert done.status == "Failed" and f"column '{extra}' is not one of id" in done.error
            else:
                assert (done.status, done.records_imported) == ("Completed", 1)
    finally:
        emulator.stop()


def test_imports_are_listed_page_by_page_newest_first(index: Any) -> None:
    ids = [index.start_import(uri="s3://absent").id for _ in range(5)]
    assert [found.id for found in index.list_imports(limit=2)] == ids[::-1]
    page = index.list_imports_paginated(limit=4)
    assert ([found.id for found in page], page.pagination is None) == (ids[:0:-1], False)
    rest = index.list_imports_paginated(limit=4, pagination_token=page.pagination.next)
    assert ([found.id for found in rest], rest.pagination) == (ids[:1], None)


def test_the_asyncio_and_the_grpc_client_drive_imports_too(control: str, index: Any, buckets: Path) -> None:
    write(buckets / "b", "by asyncio", rows(2))
    write(buckets / "c", "by gRPC", rows(3))
    host = Pinecone(api_key="test", host=control).describe_index("things").host

    async def main() -> None:
        async with AsyncPinecone(api_key="test", host=control) as pc, await pc.index(host=host) as remote:
            id = (await remote.start_import(uri="s3://b", error_mode="abort")).id
            while (found := await remote.describe_import(id)).status not in OVER:
                pass
            assert (found.status, found.records_imported) == ("Completed", 2)
            await remote.cancel_import(id)
            assert [(item.id, item.status) async for item in remote.list_imports()] == [(id, "Completed")]

    asyncio.run(asyncio.wait_for(main(), 120))
    remote = Pinecone(api_key="test", host=control, grpc_scheme="http").index(host=host, grpc=True)
    assert run(remote, "s3://c").records_imported == 3
    remote.cancel_import("2")
    assert [item.status for item in remote.list_imports()] == ["Completed", "Completed"]


def test_what_cannot_be_imported_is_refused_at_once(control: str, index: Any) -> None:
    pc = Pinecone(api_key="test", host=control)
    pc.create_index(name="elsewhere", dimension=3, spec=ServerlessSpec(cloud="gcp", region="us-central1"))
    embed = {"model": "multilingual-e5-large", "field_map": {"text": "chunk_text"}}
    pc.indexes.create_for_model(name="texts", cloud="aws", region="us-east-1", embed=embed)
    httpx.post(f"{control}/_emulator/indexes", json={"name": "old", "dimension": 3}).raise_for_status()
    for name, uri, words in [
        ("things", "ftp://b", "uri must be s3://BUCKET/DIR"),
        ("things", "s3://b/../../etc", "leaves its bucket"),
        ("things", "x" * 1501, "1 to 1500 characters"),
        ("elsewhere", "s3://b", "not hosted on AWS"),
        ("texts", "s3://b", "integrated embedding"),
        ("old", "s3://b", "not supported for pod-based indexes"),
    ]:
        with pytest.raises(ApiError, match=words) as refusal:
            pc.index(name).start_import(uri=uri)
        assert refusal.value.status_code == 400
    with pytest.raises(NotFoundError):
        index.describe_import("7")
    with pytest.raises(NotFoundError):
        index.cancel_import("7")


def test_an_import_cut_short_by_the_end_of_the_process_has_failed(buckets: Path, tmp_path: Path) -> None:
    write(buckets / "b", "n", rows(3))
    first = start(port=0, data=tmp_path / "state", imports=buckets, import_delay_s=0)
    pc = Pinecone(api_key="test", host=first.control)
    pc.create_index(name="things", dimension=3)
    whole = run(pc.index("things"), "s3://b").id
    first.stop()
    second = start(port=0, data=tmp_path / "state", imports=buckets, import_delay_s=60)
    cut = Pinecone(api_key="test", host=second.control).index("things").start_import(uri="s3://b").id
    second.stop()
    third = start(port=0, data=tmp_path / "state", imports=buckets)
    index = Pinecone(api_key="test", host=third.control).index("things")
    found = {item.id: (item.status, item.records_imported) for item in index.list_imports()}
    assert found == {whole: ("Completed", 3), cut: ("Failed", 0)}
    assert "was stopped during this import" in str(index.describe_import(cut).error)
    assert index.describe_namespace(name="n").record_count == 3
    third.stop()
