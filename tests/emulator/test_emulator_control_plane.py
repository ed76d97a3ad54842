"""Backups, kinds of indexes, and what the service refuses."""

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from pinecone import AsyncPinecone, Pinecone, PodSpec, ServerlessSpec
from pinecone.errors.exceptions import ApiError, ConflictError, FailedPreconditionError, PineconeError
from pinecone.models.indexes.read_capacity import ReadCapacityOnDemandResponse

from emulator.server import start

Make = Callable[..., Any]
RECORDS = [{"id": f"r{n}", "values": [1.0, float(n), 2.0], "metadata": {"n": n}} for n in range(5)]


AN_HOUR_S = 3_600.0


@contextmanager
def emulated(data: Path, **options: float) -> Iterator[Pinecone]:
    """Hold that what a process before it kept in the folder is there, and is not of today."""
    emulator = start(port=0, data=data, **options)
    try:
        yield Pinecone(api_key="test", host=emulator.control)
    finally:
        emulator.stop()


def test_an_emulator_with_any_ports_begins_again_although_one_of_them_is_taken(tmp_path: Path) -> None:
    with emulated(tmp_path) as pc:
        pc.create_index(name="things", dimension=3)
        pc.index("things").upsert(vectors=RECORDS, namespace="n")
        port = urlsplit(pc.describe_index("things").host).port
    with socket.create_server(("127.0.0.1", port)), emulated(tmp_path) as pc:
        assert urlsplit(pc.describe_index("things").host).port != port
        assert pc.index("things").describe_index_stats().total_vector_count == len(RECORDS)


def test_a_backup_becomes_a_new_index_with_the_same_records(pc: Pinecone, make_index: Make, control: str) -> None:
    index = make_index()
    index.upsert(vectors=RECORDS, namespace="n")
    index.create_namespace(name="empty", schema={"fields": {"n": {"filterable": True}}})
    backup = pc.backups.create(index_name="things", name="before")
    assert backup.status == "Initializing"
    ready = eventually(lambda: pc.backups.describe(backup_id=backup.backup_id), lambda it: it.status == "Ready")
    assert (ready.record_count, ready.namespace_count, ready.name) == (5, 2, "before")
    index.delete(delete_all=True, namespace="n")
    pc.create_index_from_backup(backup_id=backup.backup_id, name="again")
    restored = pc.index("again")
    assert pc.describe_index("again").status.ready
    assert restored.fetch(ids=["r3"], namespace="n").vectors["r3"].values == [1.0, 3.0, 2.0]
    assert list(restored.describe_namespace(name="empty").schema.fields) == ["n"]
    jobs = pc.restore_jobs.list()
    assert [(job.status, job.target_index_name) for job in jobs] == [("Completed", "again")]
    assert pc.restore_jobs.describe(job_id=jobs[0].restore_job_id).percent_complete == 100
    with pytest.raises(ConflictError):
        pc.create_index_from_backup(backup_id=backup.backup_id, name="again")
    assert [found.backup_id for found in pc.backups.list(index_name="things")] == [backup.backup_id]
    pc.backups.delete(backup_id=backup.backup_id)
    assert list(pc.backups.list()) == []


def test_a_backup_misses_what_was_written_shortly_before_it(tmp_path: Path) -> None:
    with emulated(tmp_path) as pc:
        pc.create_index(name="things", dimension=3)
        pc.index("things").upsert(vectors=RECORDS[:2], namespace="n")
    with emulated(tmp_path, backup_misses_s=AN_HOUR_S) as pc:
        pc.index("things").upsert(vectors=RECORDS[2:], namespace="n")
        assert pc.backups.create(index_name="things").record_count == 2


def test_a_backup_and_a_restore_are_waited_for(tmp_path: Path) -> None:
    with emulated(tmp_path, backup_delay_s=0) as pc:
        pc.create_index(name="things", dimension=3)
        ready = pc.backups.create(index_name="things").backup_id
    with emulated(tmp_path, backup_delay_s=AN_HOUR_S) as pc:
        # A backup under way is restored by nobody
        under_way = pc.backups.create(index_name="things")
        assert under_way.status == "Initializing"
        with pytest.raises(FailedPreconditionError):
            pc.create_index_from_backup(backup_id=under_way.backup_id, name="again", timeout=-1)
        # And one that is being restored is there until the index is
        assert pc.create_index_from_backup(backup_id=ready, name="again", timeout=-1) is not None
        assert not pc.describe_index("again").status.ready
        with pytest.raises(FailedPreconditionError):
            pc.backups.delete(backup_id=ready)


def test_tags_are_merged_and_taken_away(pc: Pinecone) -> None:
    pc.create_index(name="things", dimension=3, tags={"a": "1", "b": "2"})
    pc.configure_index("things", tags={"b": "", "c": "3"})
    assert pc.describe_index("things").tags == {"a": "1", "c": "3"}


@pytest.mark.parametrize("tags", [{"": "x"}, {"a b": "x"}, {"a": "ü"}, {"a" * 81: "x"}, {"a": "x" * 121}])
def test_tags_of_other_characters_or_lengths_are_refused(control: str, tags: dict[str, str]) -> None:
    schema = {"fields": {"_values": {"type": "dense_vector", "dimension": 3, "metric": "cosine"}}}
    headers = {"Api-Key": "any", "X-Pinecone-Api-Version": "2026-07"}
    refused = httpx.post(f"{control}/indexes", json={"name": "things", "schema": schema, "tags": tags}, headers=headers)
    assert refused.status_code == 400 and "at most 20 tags" in refused.json()["error"]["message"]


def test_a_region_that_the_service_does_not_have_is_not_found(pc: Pinecone) -> None:
    with pytest.raises(ApiError, match="Resource cloud: aws region: us-west1 not found"):
        pc.create_index(name="things", dimension=3, spec=ServerlessSpec(cloud="aws", region="us-west1"))


def test_read_capacity_is_on_demand_or_of_nodes_and_can_be_changed(pc: Pinecone) -> None:
    pc.create_index(name="things", dimension=3)
    assert isinstance(pc.describe_index("things").read_capacity, ReadCapacityOnDemandResponse)
    nodes = {"node_type": "b1", "scaling": "Manual", "manual": {"shards": 2, "replicas": 1}}
    pc.indexes.configure("things", read_capacity={"mode": "Dedicated", "dedicated": nodes})
    dedicated = pc.describe_index("things").read_capacity
    assert (dedicated.dedicated.node_type, dedicated.dedicated.manual.shards) == ("b1", 2)
    assert (dedicated.status.current_shards, dedicated.status.current_replicas) == (2, 1)
    pc.indexes.configure("things", tags={"a": "1"})
    assert pc.describe_index("things").read_capacity == dedicated
    for wrong in ({"node_type": "p1"}, {"scaling": "Auto"}, {"manual": {"shards": 0, "replicas": 1}}):
        with pytest.raises(ApiError, match="dedicated"):
            pc.indexes.configure("things", read_capacity={"mode": "Dedicated", "dedicated": nodes | wrong})


def test_new_pods_and_collections_are_refused(pc: Pinecone, control: str) -> None:
    with pytest.raises(ApiError, match="deployment_type 'pod' is not supported on this API version"):
        pc.create_index(name="old", dimension=3, spec=PodSpec(environment="us-east1-gcp", pod_type="p1.x1"))
    refused = httpx.post(f"{control}/collections", json={"name": "c", "source": "things"})
    assert refused.status_code == 400
    assert httpx.get(f"{control}/collections").json() == {"collections": []}


def test_an_old_pod_index_reads_and_writes_but_does_not_list(pc: Pinecone, control: str) -> None:
    httpx.post(f"{control}/_emulator/indexes", json={"name": "old", "dimension": 3}).raise_for_status()
    assert type(pc.describe_index("old").deployment).__name__ == "PodDeployment"
    index = pc.index("old")
    index.upsert(vectors=RECORDS)
    assert len(index.fetch(ids=["r1", "r2"]).vectors) == 2
    refused: list[Callable[[], object]] = [
        lambda: list(index.list()),
        lambda: list(index.list_namespaces()),
        lambda: index.create_namespace(name="x"),
        lambda: pc.backups.create(index_name="old"),
    ]
    for call in refused:
        with pytest.raises(ApiError) as refusal:
            call()
        assert refusal.value.status_code == 400


@pytest.fixture
def integrated(pc: Pinecone) -> Any:
    pc.indexes.create_for_model(
        name="texts",
        cloud="aws",
        region="us-east-1",
        embed={"model": "multilingual-e5-large", "field_map": {"text": "chunk_text"}},
    )
    index = pc.index("texts")
    records = [
        {"_id": "moon", "chunk_text": "the moon circles the earth", "kind": "space"},
        {"_id": "sun", "chunk_text": "the sun is a star", "kind": "space"},
        {"_id": "bread", "chunk_text": "bread needs flour and time", "kind": "food"},
    ]
    index.upsert_records(namespace="n", records=records)
    return index


def test_text_is_embedded_found_filtered_and_reranked(pc: Pinecone, integrated: Any) -> None:
    assert type(pc.indexes.describe("texts").schema.fields["chunk_text"]).__name__ == "SemanticTextField"
    found = integrated.search(namespace="n", inputs={"text": "which star is the sun"}, top_k=3, fields=["kind"])
    hits = found.result.hits
    assert (hits[0].id, hits[0].fields) == ("sun", {"kind": "space"})
    assert len(hits) == 3
    food = integrated.search(namespace="n", inputs={"text": "sun"}, top_k=3, filter={"kind": "food"})
    assert [hit.id for hit in food.result.hits] == ["bread"]
    ranking = {"model": "bge-reranker-v2-m3", "rank_fields": ["chunk_text"], "top_n": 1, "query": "flour"}
    ranked = integrated.search(namespace="n", inputs={"text": "sun"}, top_k=3, rerank=ranking)
    assert [hit.id for hit in ranked.result.hits] == ["bread"]
    assert ranked.usage.rerank_units == 1


def test_an_integrated_index_is_copied_by_its_vectors(integrated: Any) -> None:
    moon = integrated.fetch(ids=["moon"], namespace="n").vectors["moon"]
    assert len(moon.values) == 1024
    assert moon.metadata == {"chunk_text": "the moon circles the earth", "kind": "space"}
    integrated.upsert(vectors=[moon], namespace="copy")
    assert integrated.fetch(ids=["moon"], namespace="copy").vectors["moon"].values == moon.values


def test_text_is_found_by_each_client(pc: Pinecone, control: str, integrated: Any) -> None:
    host = pc.describe_index("texts").host
    grpc = Pinecone(api_key="test", host=control, grpc_scheme="http").index(host=host, grpc=True)
    grpc.upsert_records(namespace="m", records=[{"_id": "one", "chunk_text": "one word"}])

    async def main() -> Any:
        async with AsyncPinecone(api_key="test", host=control) as remote, await remote.index(host=host) as index:
            await index.upsert_records(namespace="m", records=[{"_id": "two", "chunk_text": "two words"}])
            return await index.search(namespace="m", inputs={"text": "two words"}, top_k=2)

    found = asyncio.run(main())
    assert [hit.id for hit in found.result.hits] == ["two", "one"]
    for index in (integrated, grpc):
        same = index.search(namespace="m", inputs={"text": "two words"}, top_k=2)
        assert same.to_dict()["result"] == found.to_dict()["result"]


def test_the_asyncio_client_drives_the_control_plane(control: str) -> None:
    async def main() -> None:
        async with AsyncPinecone(api_key="test", host=control) as pc:
            await pc.create_index(name="things", dimension=3, tags={"a": "1"})
            await pc.configure_index("things", deletion_protection="enabled")
            with pytest.raises(ApiError):
                await pc.delete_index("things")
            await pc.configure_index("things", deletion_protection="disabled")
            backup = await pc.backups.create(index_name="things")
            while (await pc.backups.describe(backup_id=backup.backup_id)).status != "Ready":
                pass
            await pc.create_index_from_backup(backup_id=backup.backup_id, name="again")
            assert [index.name for index in await pc.list_indexes()] == ["again", "things"]
            (job,) = await pc.restore_jobs.list()
            assert (await pc.restore_jobs.describe(job_id=job.restore_job_id)).status == "Completed"
            await pc.backups.delete(backup_id=backup.backup_id)
            await pc.delete_index("things")
            assert (await pc.describe_index("again")).tags == {"a": "1"}

    asyncio.run(asyncio.wait_for(main(), 120))


def test_what_the_emulator_does_not_serve_says_so(pc: Pinecone, make_index: Make) -> None:
    make_index()
    not_served: list[Callable[[], object]] = [
        lambda: pc.backup_schedules.create(index_name="things", name="s", frequency="daily", retention_days=7),
        lambda: pc.inference.rerank(model="bge-reranker-v2-m3", query="x", documents=["y"]),
    ]
    for call in not_served:
        with pytest.raises(ApiError, match="The emulator does not serve") as refusal:
            call()
        assert refusal.value.status_code == 501


def test_text_needs_an_integrated_index(make_index: Make) -> None:
    with pytest.raises(PineconeError, match="Integrated inference is not configured"):
        make_index().upsert_records(namespace="n", records=[{"_id": "a", "chunk_text": "x"}])


def eventually(look: Callable[[], Any], condition: Callable[[Any], bool], within_s: float = 60) -> Any:
    deadline = time.monotonic() + within_s
    while not condition(seen := look()):
        assert time.monotonic() < deadline, f"it never came true: {seen}"
        time.sleep(0.02)
    return seen
