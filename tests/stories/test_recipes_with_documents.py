"""An index of vectors becomes a document index, proven record by record, and an index of vectors again."""

import json
import os
import struct
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from migrations.documents import DocumentsOptions, plan_documents
from migrations.estimating import Prices
from migrations.plan import Plan, Policies
from migrations.recipes import Common
from migrations.reversing import plan_reverse
from orchestrator.core.states import BatchKind, BatchState, JobState
from orchestrator.ledger import jobs
from orchestrator.services import acts, apply
from tests.stories.emulated import Row, Rows, assert_same_index, row
from tests.stories.launching import type_out
from tests.stories.test_recipes_as_written import A_DAY, BRAIN, Reader
from tests.stories.world import NOW, SMALL, WHO, OpenWorld, World
from vecfleet.errors import BadPlan, Refused, StoreError
from vecfleet.stores.base import Filling

pytestmark = pytest.mark.story

# A call that is not answered is waited for, and its lease lasts, until the story has looked, however busy the machine.
LONG = {"lease_seconds": 240, "request_deadline_seconds": 120}
DOCUMENTS = "small-documents"
NAMES = {"_node_content": "node_content"}
WORDS = {"chunk_text": {"language": "en"}}


def fill(world: World) -> dict[str, Rows]:
    """An index as a framework fills it: a key that documents refuse, and sparse values in some records."""
    world.emulator.create_index(SMALL, _sparse_values={"type": "sparse_vector"})
    for name, count in {"alma": 30, "bruno": 20, "__default__": 5}.items():
        rows = [_framework_row(f"{name}-{n}", n) for n in range(count)]
        world.emulator.write(SMALL, name, rows)
    return world.emulator.dump(SMALL)


def _framework_row(id: str, n: int) -> Row:
    text, node = f"größer als {n} 🚀", f'{{"n": {n}}}'
    made = row(id, chunk_text=text, _node_content=node, page=n, tags=["a", "ö"], done=n % 2 == 0)
    sparse = ((3 * n, 4_294_967_295), struct.pack("<2f", 0.1 * n + 1, 1e-7)) if n % 3 else None
    return replace(made, sparse=sparse)


def as_documents(before: dict[str, Rows]) -> dict[str, Rows]:
    return {
        namespace: {
            id: replace(one, metadata={NAMES.get(key, key): value for key, value in one.metadata.items()})
            for id, one in rows.items()
        }
        for namespace, rows in before.items()
    }


def documents_plan(world: World, **options: Any) -> Plan:
    policies = Policies(**{"soak_seconds": 0, **options.pop("policies", {})})
    now = options.pop("now", NOW)
    given = {"source": SMALL, "target": DOCUMENTS, "names": NAMES, "texts": WORDS, "common": Common(policies=policies)}
    return plan_documents(world.fleet.store, DocumentsOptions(**given | options), now=now)


def test_vectors_become_documents_and_go_back_byte_for_byte_though_workers_die(open_world: OpenWorld) -> None:
    world = open_world(**LONG)
    before = fill(world)
    # Given a key that documents refuse: nothing is planned without a name for it
    with pytest.raises(
        BadPlan, match="55 records cannot be stored as a document: its metadata key '_node_content' begins with _"
    ):
        documents_plan(world, names={})
    original = documents_plan(world)
    # When a worker dies between its upsert of documents and the record of it
    world.start(workers=2)
    job_id = apply_and_kill_a_worker(world, original)
    world.reaches(job_id, JobState.VERIFIED)
    # Then every document is there, byte for byte, none extra, none counted twice
    assert_same_index(world.emulator.dump(DOCUMENTS), as_documents(before))
    world.assert_accounts(job_id)
    # And when readers have moved, the vectors are deleted, each one proven first
    acts.cut_over(world.fleet.database, job_id, WHO, 100)
    acts.clean_up(world.fleet.database, job_id, WHO, by_ids=False)
    world.reaches(job_id, JobState.CLEANED)
    assert not any(world.emulator.dump(SMALL).values())
    assert_evidence(world, job_id, before)
    # When a reverse plan brings them back, and a worker dies again
    back_plan = plan_reverse(world.fleet.store, original, list(world.targets(job_id)), prices=Prices(), now=NOW)
    world.start_worker()
    back = apply_and_kill_a_worker(world, back_plan)
    world.reaches(back, JobState.VERIFIED)
    acts.clean_up(world.fleet.database, back, WHO, by_ids=False)
    world.reaches(back, JobState.CLEANED)
    # Then the index of vectors is as it was, every byte of it
    assert_same_index(world.emulator.dump(SMALL), before)
    assert not any(world.emulator.dump(DOCUMENTS).values())
    assert_evidence(world, back, before)


def test_a_record_that_comes_later_and_fits_no_document_is_parked_with_the_reason(open_world: OpenWorld) -> None:
    world = open_world()
    before = fill(world)
    # Given writers that go on, and write a record of another framework once the plan is made
    plan = documents_plan(world, policies={"writers": "delta"})
    world.emulator.write(SMALL, "alma", [row("late", page=1, _other="x"), row("later", page=2)])
    before["alma"]["later"] = world.emulator.records(SMALL, "alma")["later"]
    # When it is copied
    world.start(workers=1)
    job_id = world.apply(plan)
    world.reaches(job_id, JobState.NEEDS_ATTENTION)
    # Then that record waits for a person, who is told why, and all others are documents
    [(parked, why)] = world.parked(job_id).items()
    assert parked == ("alma", "late")
    assert "its metadata key '_other' begins with _" in why
    assert_same_index(world.emulator.dump(DOCUMENTS), as_documents(before))


def test_what_the_service_s_conversion_left_out_is_copied_and_all_is_proven(open_world: OpenWorld) -> None:
    world = open_world()
    # Given an index with keys that a conversion does not take, and writers that go on
    world.emulator.create_index(SMALL)
    plain = [row(f"plain-{n}", chunk_text=f"text {n}", page=n) for n in range(40)]
    framework = [row(f"framework-{n}", _node_content="{}", page=n) for n in range(8)]
    world.emulator.write(SMALL, "alma", [*plain, *framework])
    world.emulator.write(SMALL, "bruno", [row(f"bruno-{n}") for n in range(10)])
    plan = documents_plan(world, converts=True, texts={}, policies={"writers": "delta"})
    assert any("the job copies 8 records with one" in warning for warning in plan.warnings)

    # When a conversion is cancelled, and its index deleted
    def cancel(conversion: Filling) -> None:
        url = f"{world.emulator.address}/conversion-jobs/{conversion.id}"
        httpx.delete(url, headers={"X-Pinecone-Api-Version": "2026-07", "Api-Key": "any"}).raise_for_status()

    with pytest.raises(StoreError, match="ended Cancelled"):
        apply.apply(world.fleet, plan, who=WHO, no_backup=True, on_wait=cancel)
    world.fleet.store.remove(DOCUMENTS)

    # And the command dies while the service converts anew, from a snapshot that lacks what is written then
    def written_meanwhile(_: object) -> None:
        world.emulator.write(SMALL, "alma", [row("plain-7", page=700), row("later", page=1)])
        world.emulator.delete(SMALL, "bruno", "bruno-3")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply.apply(world.fleet, plan, who=WHO, no_backup=True, on_wait=written_meanwhile)
    # And it is typed again, and waits for the conversion that is under way
    world.start(workers=1)
    job_id = apply.apply(world.fleet, plan, who=WHO, no_backup=True, on_wait=lambda _: None)
    world.reaches(job_id, JobState.VERIFIED)
    # Then every record is there as it is now, and only what the service left out was copied
    now = world.emulator.dump(SMALL)
    assert "bruno-3" not in now["bruno"]
    assert_same_index(world.emulator.dump(DOCUMENTS), as_documents(now))
    world.assert_accounts(job_id)
    written = {id for call in world.emulator.calls(operation="upsert", index=DOCUMENTS) for id in call["ids"]}
    assert written == {"plain-7", "later", *(one.id for one in framework)}
    assert len(world.emulator.calls(operation="convert_index")) == 2


def test_what_a_conversion_made_is_taken_for_a_job_s_own_once(open_world: OpenWorld) -> None:
    # Given a plan whose job was given up after the service had converted, and an application that writes there now
    world = open_world()
    world.emulator.create_index(SMALL)
    world.emulator.write(SMALL, "alma", [row(f"alma-{n}", page=n) for n in range(5)])
    plan = documents_plan(world, converts=True, texts={})
    job_id = apply.apply(world.fleet, plan, who=WHO, no_backup=True, on_wait=lambda _: None)
    acts.cancel(world.fleet.database, job_id, WHO)
    with world.fleet.database.begin() as connection:
        jobs.advance(connection, job_id, JobState.CANCELLING, JobState.CANCELLED)
    target = world.fleet.store.open(world.fleet.store.describe(DOCUMENTS))
    target.upsert("alma", [replace(target.fetch("alma", ["alma-3"]).records["alma-3"], metadata={"page": 300})])
    # When the plan is applied again, then its records are not taken for what the conversion made
    with pytest.raises(Refused, match=f"job {job_id} began with what the service made for this plan"):
        apply.apply(world.fleet, plan, who=WHO, no_backup=True, on_wait=lambda _: None)
    # And when the index is deleted, the service converts anew
    world.fleet.store.remove(DOCUMENTS)
    assert apply.apply(world.fleet, plan, who=WHO, no_backup=True, on_wait=lambda _: None) > job_id


@pytest.mark.parametrize("minutes_ahead", [-90, 0, 90])
def test_an_index_of_others_is_not_taken_for_what_an_older_conversion_made(
    open_world: OpenWorld, minutes_ahead: int
) -> None:
    # Given an index that was converted and deleted, a plan to convert it again by a clock that may not be the
    # service's, and another index of that name since
    world = open_world()
    world.emulator.create_index(SMALL)
    world.emulator.write(SMALL, "alma", [row("alma-1", page=1)])
    fields = documents_plan(world, texts={}).target.fields or {}
    conversions = world.fleet.store.conversions()
    conversions.finish(conversions.begin(SMALL, DOCUMENTS, fields, {}), lambda _: None)
    made = world.fleet.store.describe(DOCUMENTS)
    world.fleet.store.remove(DOCUMENTS)
    plan = documents_plan(world, converts=True, texts={}, now=datetime.now(UTC) + timedelta(minutes=minutes_ahead))
    theirs = world.fleet.store.open(world.fleet.store.create_like(DOCUMENTS, made, None, None))
    [record] = world.fleet.store.open(world.fleet.store.describe(SMALL)).fetch("alma", ["alma-1"]).records.values()
    theirs.upsert("alma", [replace(record, id="theirs")])
    # When the plan is applied, then it is refused
    with pytest.raises(Refused, match="no conversion of 'small' created it"):
        apply.apply(world.fleet, plan, who=WHO, no_backup=True, on_wait=lambda _: None)

    # And without it the plan's own conversion begins once, and is found again by whoever types it again
    world.fleet.store.remove(DOCUMENTS)

    def die(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply.apply(world.fleet, plan, who=WHO, no_backup=True, on_wait=die)
    assert apply.apply(world.fleet, plan, who=WHO, no_backup=True, on_wait=lambda _: None)
    assert len(world.emulator.calls(operation="convert_index")) == 2


def test_an_index_of_others_is_not_to_be_deleted_for_a_conversion_that_failed(open_world: OpenWorld) -> None:
    # Given a conversion that was cancelled, whose index was deleted, and an index of others that serves under its name
    world = open_world()
    world.emulator.create_index(SMALL)
    world.emulator.write(SMALL, "alma", [row("alma-1", page=1)])
    plan = documents_plan(world, converts=True, texts={})

    def cancel(conversion: Filling) -> None:
        url = f"{world.emulator.address}/conversion-jobs/{conversion.id}"
        httpx.delete(url, headers={"X-Pinecone-Api-Version": "2026-07", "Api-Key": "any"}).raise_for_status()

    with pytest.raises(StoreError, match="ended Cancelled"):
        apply.apply(world.fleet, plan, who=WHO, no_backup=True, on_wait=cancel)
    left = world.fleet.store.describe(DOCUMENTS)
    world.fleet.store.remove(DOCUMENTS)
    world.fleet.store.create_like(DOCUMENTS, left, None, None)
    # When the plan is applied again, then it is refused, and nobody is told to delete their index
    with pytest.raises(Refused, match="no conversion of 'small' created it") as refused:
        apply.apply(world.fleet, plan, who=WHO, no_backup=True, on_wait=lambda _: None)
    assert "delete" not in str(refused.value.next_step)


def test_vectors_to_documents(open_world: OpenWorld) -> None:
    # Given an index as a framework fills it
    world = open_world()
    world.emulator.create_index(BRAIN)
    world.start(workers=1)
    rows = [row(f"coach-{n}", chunk_text=f"page {n}", _node_content="{}", page=n) for n in range(12)]
    world.emulator.write(BRAIN, "coach", rows)
    world.emulator.write(BRAIN, "__default__", [row(f"default-{n}") for n in range(5)])
    before = world.emulator.dump(BRAIN)
    reader = Reader(world, "vectors-to-documents")
    # Then nothing is created before every record fits
    said = reader.type_next(ends_with=BadPlan.exit_code)
    assert "12 records cannot be stored as a document: its metadata key '_node_content' begins with _" in said
    refused = [json.loads(line) for line in (world.folder / "refused.jsonl").read_text().splitlines()]
    assert {line["id"] for line in refused} == {one.id for one in rows}
    # And with a name for the key, which the plan shows, each record is a document
    assert "names of metadata keys in brain-documents: _node_content → node_content" in reader.type_next()
    reader.type_next()
    assert_same_index(world.emulator.dump("brain-documents"), as_documents(before))
    # And a day later no vector any more
    world.later(A_DAY)
    reader.type_next()
    assert not any(world.emulator.dump(BRAIN).values())
    # And taken back, every byte is where it was
    reader.type_next()
    assert_same_index(world.emulator.dump(BRAIN), before)
    reader.assert_typed_it_all()


def assert_evidence(world: World, job_id: int, deleted: dict[str, Rows]) -> None:
    """For each deletion of a source it is on record which looks it rests on, each late enough."""
    typed = type_out("show-evidence", str(job_id), "--json", env=os.environ | world.env)
    sources = {one["source"]: one for one in json.loads(typed.stdout)["sources"]}
    assert {name: one["deleted"] for name, one in sources.items()} == {
        name: len(rows) for name, rows in deleted.items()
    }
    for one in sources.values():
        assert one["is_fresh"] and one["read_from"] is not None, one
        assert max(one["read_from"], one["listed_at"]) <= one["asked_to"], one


def apply_and_kill_a_worker(world: World, plan: Plan) -> int:
    """Apply a plan; a worker that waits for the answer to an upsert, which was carried out, is killed."""
    since = world.emulator.last_call()
    world.emulator.fault(operation="upsert", apply_first=True, hang=True, count=1)
    job_id = world.apply(plan)
    call = world.until("an upsert is carried out and not answered", lambda: unanswered(world, since))
    [batch] = [
        batch
        for batch in world.batches(job_id, BatchState.LEASED, kind=BatchKind.COPY)
        if batch["source"] == call["namespace"] and set(call["ids"]) <= set(batch["ids"])
    ]
    killed = world.holder(batch)
    world.kill(killed)
    world.emulator.no_faults()
    world.lapse(killed)
    return job_id


def unanswered(world: World, since: int) -> dict[str, Any] | None:
    calls = world.emulator.calls(operation="upsert", since=since)
    return next((call for call in calls if call["applied"] and call["status"] == 0), None)
