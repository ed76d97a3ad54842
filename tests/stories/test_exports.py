"""Exported, proven, and deleted only when asked; and imported again, byte for byte."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from migrations.estimating import Prices
from migrations.mapping import MARK, MetadataMap
from migrations.plan import Plan, Policies
from migrations.recipes import Common, ExportOptions, ImportOptions, plan_export, plan_import
from migrations.reversing import plan_reverse
from orchestrator.core.states import BatchKind, BatchState, JobState
from orchestrator.services import acts
from orchestrator.services import apply as applying
from tests.stories.emulated import Row, assert_same_index, row
from tests.stories.world import NOW, WHO, OpenWorld, World
from vecfleet.enriching import SOURCE
from vecfleet.errors import Refused

pytestmark = pytest.mark.story

HYBRID, FOLDER, COPY = "hybrid", "exports/hybrid", "copy"
SPARSE = {"type": "sparse_vector"}


def rich(id: str, n: int) -> Row:
    """Sparse values, lists, booleans, unicode, or nothing at all."""
    plain = row(id, seed=n, title=f"Größe {n} 名前 🦜", page=n / 3, tags=["a", "ö", ""], ok=n % 2 == 0)
    weights = np.array([0.5, 0.1 * n], "<f4").tobytes()
    sparse = ((n, 4_294_967_295 - n), weights) if n % 3 else None
    return Row(id, plain.values, sparse, plain.metadata if n % 4 else {})


@pytest.fixture
def hybrid(open_world: OpenWorld) -> World:
    """Three namespaces, the default one too; a fleet that works."""
    world = open_world()
    world.emulator.create_index(HYBRID, _sparse_values=SPARSE)
    for name, count in (("__default__", 130), ("a/b C", 40), ("tenant", 25)):
        world.emulator.write(HYBRID, name, [rich(f"{name}#{n:03}", n) for n in range(count)])
    return world.start(workers=2)


def export(world: World, *namespaces: str) -> Plan:
    options = ExportOptions(index=HYBRID, folder=FOLDER, common=Common(only=namespaces))
    return plan_export(world.fleet.store, world.fleet.folders, options, now=NOW)


def apply(world: World, plan: Plan) -> int:
    """An export needs no word about a backup: it is one."""
    return applying.apply(world.fleet, plan, who=WHO, no_backup=not plan.keeps_files)


def exported(world: World, *namespaces: str) -> int:
    job_id = apply(world, export(world, *namespaces))
    world.reaches(job_id, JobState.VERIFIED)
    return job_id


def kept(world: World, job_id: int) -> None:
    acts.cancel(world.fleet.database, job_id, WHO)
    world.reaches(job_id, JobState.CANCELLED)


def parts(world: World) -> list[Path]:
    return sorted((world.folder / FOLDER).rglob("*.parquet"))


def test_an_export_and_its_import_give_the_same_records_byte_for_byte(hybrid: World) -> None:
    # Given an export of everything, which changed nothing
    before = hybrid.emulator.dump(HYBRID)
    started_at = hybrid.emulator.last_call()
    job_id = exported(hybrid)
    hybrid.assert_accounts(job_id)
    assert not hybrid.emulator.writes(since=started_at)
    ids = sorted(id for part in parts(hybrid) for id in pq.read_table(part, columns=["id"])["id"].to_pylist())
    assert ids == sorted(id for held in before.values() for id in held)

    # When its job is ended, keeping both sides, and it is imported into an index that is not there yet
    kept(hybrid, job_id)
    options = ImportOptions(folder=FOLDER, index=COPY)
    again = apply(hybrid, plan_import(hybrid.fleet.folders, hybrid.fleet.store, options, now=NOW))
    hybrid.reaches(again, JobState.VERIFIED)

    # Then that index holds the same
    assert_same_index(hybrid.emulator.dump(COPY), before)
    hybrid.assert_accounts(again)


def test_an_export_with_a_metadata_map_is_taken_back_byte_for_byte(hybrid: World) -> None:
    # Given an export that drops and renames keys, and whose source was cleaned up
    before = hybrid.emulator.dump(HYBRID)
    asked = MetadataMap(set={"env": "prod"}, drop=("page", "tags"), rename={"title": "name"})
    common = Common(policies=Policies(metadata_map=asked))
    options = ExportOptions(index=HYBRID, folder=FOLDER, common=common)
    made = plan_export(hybrid.fleet.store, hybrid.fleet.folders, options, now=NOW)
    job_id = apply(hybrid, made)
    hybrid.reaches(job_id, JobState.VERIFIED)
    acts.clean_up(hybrid.fleet.database, job_id, WHO, by_ids=False)
    hybrid.reaches(job_id, JobState.CLEANED)

    # When the reverse plan brings the files' records back
    back = plan_reverse(
        hybrid.fleet.folders,
        made,
        list(hybrid.targets(job_id)),
        prices=Prices(),
        now=NOW,
        into_store=hybrid.fleet.store,
    )
    hybrid.reaches(apply(hybrid, back), JobState.VERIFIED)

    # Then each is as it was
    assert_same_index(hybrid.emulator.dump(HYBRID), before)


def test_an_import_with_a_metadata_map_is_proven_and_taken_back_byte_for_byte(hybrid: World) -> None:
    # Given an export whose job is ended, imported by a plan that sets, drops and renames keys
    before = hybrid.emulator.dump(HYBRID)
    kept(hybrid, exported(hybrid))
    asked = MetadataMap(set={"env": "prod"}, drop=("page", "tags"), rename={"title": "name"})
    common = Common(policies=Policies(metadata_map=asked))
    options = ImportOptions(folder=FOLDER, index=COPY, common=common)
    made = plan_import(hybrid.fleet.folders, hybrid.fleet.store, options, now=NOW)
    job_id = apply(hybrid, made)
    hybrid.reaches(job_id, JobState.VERIFIED)
    hybrid.assert_accounts(job_id)

    # Then each record of the index is mapped, and keeps its values
    for name, rows in hybrid.emulator.dump(COPY).items():
        assert set(rows) == set(before[name])
        for id, there in rows.items():
            was = dict(before[name][id].metadata)
            ours = {SOURCE, MARK}  # what takes the map back
            told = {key: value for key, value in there.metadata.items() if key not in ours}
            renamed = {"name": was["title"]} if "title" in was else {}
            assert told == {**renamed, **{key: was[key] for key in ("ok",) if key in was}, "env": "prod"}
            assert (there.values, there.sparse) == (before[name][id].values, before[name][id].sparse)

    # When the files are cleaned up, and the reverse plan takes the records back into them
    acts.clean_up(hybrid.fleet.database, job_id, WHO, by_ids=False)
    hybrid.reaches(job_id, JobState.CLEANED)
    assert parts(hybrid) == []
    back = plan_reverse(
        hybrid.fleet.store,
        made,
        list(hybrid.targets(job_id)),
        prices=Prices(),
        now=NOW,
        into_store=hybrid.fleet.folders,
    )
    again = apply(hybrid, back)
    hybrid.reaches(again, JobState.VERIFIED)

    # Then they hold each as it was exported
    kept(hybrid, again)
    options = ImportOptions(folder=FOLDER, index="third")
    third = apply(hybrid, plan_import(hybrid.fleet.folders, hybrid.fleet.store, options, now=NOW))
    hybrid.reaches(third, JobState.VERIFIED)
    assert_same_index(hybrid.emulator.dump("third"), before)


def test_exported_and_deleted_on_request_and_nothing_else(hybrid: World) -> None:
    # Given the default namespace exported and verified
    before = hybrid.emulator.dump(HYBRID)
    job_id = exported(hybrid, "__default__")

    # When a person asks for its clean-up
    acts.clean_up(hybrid.fleet.database, job_id, WHO, by_ids=False)
    hybrid.reaches(job_id, JobState.CLEANED)

    # Then it is gone, the others are untouched, and the files bring it back
    after = hybrid.emulator.dump(HYBRID)
    assert not after.get("__default__")
    assert_same_index({name: rows for name, rows in after.items() if rows}, {k: before[k] for k in ("a/b C", "tenant")})
    options = ImportOptions(folder=FOLDER, index=HYBRID)
    again = apply(hybrid, plan_import(hybrid.fleet.folders, hybrid.fleet.store, options, now=NOW))
    hybrid.reaches(again, JobState.VERIFIED)
    assert_same_index(hybrid.emulator.dump(HYBRID), before)


def test_what_is_not_proven_is_not_deleted(hybrid: World) -> None:
    # Given an export after which a record changed at the source, and a file was damaged
    job_id = exported(hybrid)
    hybrid.emulator.write(HYBRID, "tenant", [row("tenant#003", seed=99, title="changed")])
    damaged = next(part for part in parts(hybrid) if "a%2Fb" in str(part))
    body = bytearray(damaged.read_bytes())
    values = rich("a/b C#007", 7).values
    body[body.index(values)] ^= 1
    damaged.write_bytes(body)
    before = hybrid.emulator.dump(HYBRID)

    # When a person asks for its clean-up
    acts.clean_up(hybrid.fleet.database, job_id, WHO, by_ids=False)
    job = hybrid.reaches(job_id, JobState.NEEDS_ATTENTION)

    # Then only the namespace that is proven is gone, and the others are whole, each with its reason
    assert job.reason == "2 sources were not deleted: a guard refused"
    after = {name: rows for name, rows in hybrid.emulator.dump(HYBRID).items() if rows}
    assert_same_index(after, {name: before[name] for name in ("a/b C", "tenant")})
    said = [batch["error_text"] for batch in hybrid.batches(job_id, BatchState.PARKED, kind=BatchKind.RECHECK)]
    assert any("'a/b C#007' is not what was written" in text for text in said)
    assert any("1 records of tenant are not equal at their target" in text for text in said)


def test_a_file_damaged_before_the_verification_is_no_proof(hybrid: World) -> None:
    # Given an export that is verified, and a file damaged afterwards
    job_id = exported(hybrid)
    parts(hybrid)[0].write_bytes(b"PAR1 no more PAR1")

    # When it is verified again
    acts.verify(hybrid.fleet.database, job_id, WHO)
    job = hybrid.reaches(job_id, JobState.NEEDS_ATTENTION)

    # Then it says so, and clean-up is refused
    assert job.reason is not None and "parked" in job.reason
    with pytest.raises(Refused):
        acts.clean_up(hybrid.fleet.database, job_id, WHO, by_ids=False)


def test_an_export_is_rolled_back_to_an_empty_folder(hybrid: World) -> None:
    before = hybrid.emulator.dump(HYBRID)
    job_id = exported(hybrid)

    acts.roll_back(hybrid.fleet.database, job_id, WHO, None)
    hybrid.reaches(job_id, JobState.ROLLED_BACK)

    assert parts(hybrid) == []
    assert_same_index(hybrid.emulator.dump(HYBRID), before)
