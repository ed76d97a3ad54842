"""Document indexes exported as JSON lines, imported by the service or record by record, and proven byte by byte."""

import json
import struct
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from migrations.plan import Plan
from migrations.recipes import ExportOptions, ImportOptions, plan_export, plan_import
from orchestrator.core.states import JobState
from orchestrator.services import acts, apply
from tests.stories.emulated import Rows, assert_same_index
from tests.stories.reader import Reader
from tests.stories.test_recipes_as_written import BRAIN, fill
from tests.stories.test_recipes_with_documents import LONG, apply_and_kill_a_worker
from tests.stories.world import WHO, OpenWorld, World
from vecfleet.records import Record, Sparse
from vecfleet.stores.base import BulkFiles, IndexInfo, Kind

pytestmark = pytest.mark.story

DOCUMENTS, FOLDER = "docs", "exports/docs"
FIELDS = {
    "embedding": {"type": "dense_vector", "dimension": 8, "metric": "dotproduct"},
    "terms": {"type": "sparse_vector"},
    "body": {"type": "string", "full_text_search": {"language": "en"}},
}


def rich(id: str, n: int) -> Record:
    """A document with searched text, sparse values, lists and unicode; some have only what they must."""
    values = struct.pack("<8f", n + 0.1, -0.0, 1 / 3, 1e-45, 3.4e38, 1, 2, 3)
    if n % 4 == 0:
        return Record(id, values)
    terms = Sparse(struct.pack("<2I", n, 4_294_967_295), struct.pack("<2f", 0.5, 0.1 * n)) if n % 3 else None
    body = f'Größe {n}\n名前 "🦜" ' * 40
    return Record(id, values, terms, {"body": body, "page": n / 3, "tags": ["a", "ö", ""], "ok": n % 2 == 0})


def documents(world: World, name: str = DOCUMENTS, **namespaces: int) -> dict[str, Rows]:
    like = IndexInfo("like", Kind.HYBRID, 8, "dotproduct", "", cloud="aws", region="us-east-1")
    store = world.fleet.store
    index = store.open(store.create_like(name, replace(like, schema={"fields": FIELDS}), None, None))
    for namespace, count in namespaces.items():
        index.upsert(namespace, [rich(f"{namespace}#{n:03}", n) for n in range(count)])
    return world.emulator.dump(name)


def planned(world: World, index: str, files: BulkFiles | None = None) -> Plan:
    options = ImportOptions(folder=FOLDER, index=index, bulk=files)
    return plan_import(world.fleet.folders, world.fleet.store, options, now=datetime.now(UTC))


def test_documents_become_lines_and_come_back_byte_for_byte_by_the_service_and_by_a_copy(
    open_world: OpenWorld,
) -> None:
    # Given a document index, of which a service that keeps one of equal vectors will leave a document out
    world = open_world("--contested", "equal-vectors=drop", **LONG)
    documents(world, tenant=40, __default__=25)
    store = world.fleet.store
    twin = replace(rich("tenant#007", 7), id="twin")
    store.open(store.describe(DOCUMENTS)).upsert("tenant", [twin])
    before = world.emulator.dump(DOCUMENTS)
    world.start(workers=2)

    # When it is exported
    options = ExportOptions(index=DOCUMENTS, folder=FOLDER)
    exported = world.apply(plan_export(store, world.fleet.folders, options, now=datetime.now(UTC)))
    world.reaches(exported, JobState.VERIFIED)
    world.assert_accounts(exported)
    acts.cancel(world.fleet.database, exported, WHO)
    world.reaches(exported, JobState.CANCELLED)

    # Then each document is one line, under the names that the service gives its fields
    lines = [line for part in (world.folder / FOLDER).rglob("*.jsonl") for line in part.read_bytes().splitlines()]
    told = {document["_id"]: document for document in map(json.loads, lines)}
    assert len(lines) == len(told) == 66
    assert told["tenant#007"].keys() == {"_id", *FIELDS, "page", "tags", "ok"}
    assert not list((world.folder / FOLDER).rglob("*.parquet"))

    # When the service imports the folder, and a job proves it
    plan = planned(world, "by-the-service", BulkFiles(f"file://{world.folder}/{FOLDER}"))
    job_id = apply.apply(world.fleet, plan, who=WHO, no_backup=True, on_wait=lambda _: None)
    world.reaches(job_id, JobState.VERIFIED)

    # Then every document is there, and only what the service left out was copied
    assert_same_index(world.emulator.dump("by-the-service"), before)
    world.assert_accounts(job_id)
    written = {id for call in world.emulator.calls(operation="upsert", index="by-the-service") for id in call["ids"]}
    assert len(written) == 1 and written < {"tenant#007", "twin"}
    acts.cancel(world.fleet.database, job_id, WHO)
    world.reaches(job_id, JobState.CANCELLED)

    # When it is imported record by record, and a worker dies between its upsert and the record of it
    copied = apply_and_kill_a_worker(world, planned(world, "by-a-copy"))
    world.reaches(copied, JobState.VERIFIED)

    # Then that index holds the same
    assert_same_index(world.emulator.dump("by-a-copy"), before)
    world.assert_accounts(copied)


def test_export_and_import(open_world: OpenWorld) -> None:
    # Given an index of vectors, and one of documents
    world = open_world()
    world.emulator.create_index(BRAIN)
    before = fill(world, coach=12, __default__=5)
    texts = documents(world, "brain-documents", coach=12, __default__=5)
    world.start(workers=1)
    reader = Reader(world, "export-and-import")
    # When the vectors are exported and imported again, then both indexes hold them
    reader.type_next(4)
    assert_same_index(world.emulator.dump("digital-twin-restored"), before)
    assert_same_index(world.emulator.dump(BRAIN), before)
    # When the documents are exported, then a line is a document
    assert reader.type_next().splitlines()[-1].startswith('{"_id":"coach#000","embedding":[0.1,-0.0,')
    # And the service imports the lines as they are
    assert "17 equal · 0 different · 0 only in A · 0 only in B" in reader.type_next()
    assert_same_index(world.emulator.dump("documents-restored"), texts)
    assert_same_index(world.emulator.dump("brain-documents"), texts)
    reader.assert_typed_it_all()
