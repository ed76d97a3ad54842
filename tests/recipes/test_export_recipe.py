"""Recipes `export` and `import`: an index becomes a folder of files and a folder an index, by ordinary plans."""

from pathlib import Path
from typing import Any

import pytest
from planning_world import NOW, SEEDS, World, fill

from migrations.plan import NewIndex, Plan, Policies, read_plan, write_plan
from migrations.recipes import (
    Common,
    ExportOptions,
    ImportOptions,
    check_plan,
    plan_export,
    plan_import,
    survey_again,
)
from vecfleet.errors import BadInput, BadPlan, NotFound
from vecfleet.records import Record
from vecfleet.stores.base import Kind
from vecfleet.stores.parquet import ParquetIndex, ParquetStore

INDEX, FOLDER = "digital-twin-brain", "exports/brain"


@pytest.fixture
def folders(tmp_path: Path) -> ParquetStore:
    return ParquetStore(tmp_path)


def export(world: World, folders: ParquetStore, folder: str = FOLDER, **common: Any) -> Plan:
    return plan_export(world, folders, ExportOptions(index=INDEX, folder=folder, common=Common(**common)), now=NOW)


def import_(world: World, folders: ParquetStore, index: str = "mind", **options: Any) -> Plan:
    return plan_import(folders, world, ImportOptions(folder=FOLDER, index=index, **options), now=NOW)


def exported(world: World, folders: ParquetStore, namespaces: dict[str, list[str]]) -> ParquetIndex:
    """A folder as an export leaves it."""
    index = folders.open(folders.create_like(FOLDER, world.describe(INDEX), None, None))
    for name, ids in namespaces.items():
        index.upsert(name, [Record(id, b"\0\0\x80\x3f" * 8) for id in ids])
    return index


def test_every_namespace_goes_to_the_folder_as_it_is(world: World, folders: ParquetStore) -> None:
    # Given the seeds' index, and no folder
    world.seeded(INDEX)

    # When its export is planned
    made = export(world, folders)

    # Then all of it goes there unchanged, and is deleted only if a person asks
    assert {move.source: move.to for move in made.moves} == {name: name for name in SEEDS}
    assert (made.source.store, made.target.store, made.target.index) == ("memory", "parquet", FOLDER)
    assert made.create_target == NewIndex()
    policies = made.policies
    assert (policies.enrich, policies.cut_over, policies.clean_up) == (False, "none", "operator")
    assert made.keeps_files
    assert folders.indexes() == []


def test_an_export_reads_one_side_for_money_and_writes_the_other_for_nothing(
    world: World, folders: ParquetStore
) -> None:
    fill(world.index(INDEX), "a", [f"{n:03}" for n in range(100)])
    costs = export(world, folders).estimate
    # A sample, then list and fetch, twice over with the clean-up, whose deletion and last listing are all else
    assert costs.read_units == 1 + 2 * (1 + 10) + 1
    assert costs.write_units == 5


def test_chosen_namespaces_go_and_the_others_are_left_alone(world: World, folders: ParquetStore) -> None:
    index = world.index(INDEX)
    for name in ("", "b", "c"):
        fill(index, name, ["1"])

    made = export(world, folders, only=("", "c"))

    assert {move.source for move in made.moves} == {"__default__", "c"}
    assert made.left_alone == ("b",)
    with pytest.raises(BadPlan, match=r"to be chosen, but not in the index .*: 'nowhere'"):
        export(world, folders, only=("nowhere",))


def test_a_plan_says_nothing_of_where_the_folder_lies(world: World, folders: ParquetStore, tmp_path: Path) -> None:
    world.seeded(INDEX)
    path = tmp_path / "plan.yaml"
    write_plan(export(world, folders), path)
    assert read_plan(path).target.index == FOLDER
    assert str(tmp_path) not in path.read_text(encoding="utf-8")


def test_a_folder_that_leads_elsewhere_is_refused(world: World, folders: ParquetStore) -> None:
    world.seeded(INDEX)
    with pytest.raises(BadInput, match="cannot be a folder"):
        export(world, folders, folder="../elsewhere")


def test_a_folder_of_the_same_name_as_the_index_is_another(world: World, folders: ParquetStore) -> None:
    fill(world.index(INDEX), "a", ["1"])
    made = export(world, folders, folder=INDEX)
    assert not made.same_index
    folders.create_like(INDEX, world.describe(INDEX), None, None)
    assert [move.to for move in export(world, folders, folder=INDEX).moves] == ["a"]


def test_a_folder_that_holds_records_is_no_empty_target(world: World, folders: ParquetStore) -> None:
    fill(world.index(INDEX), "a", ["1", "2"])
    exported(world, folders, {"a": ["1"]})
    with pytest.raises(BadPlan, match="not empty"):
        export(world, folders)
    assert export(world, folders, policies=Policies(collisions="identical")).moves


def test_a_folder_of_other_records_is_refused(world: World, folders: ParquetStore) -> None:
    world.seeded(INDEX)
    folders.create_like(FOLDER, world.index("wide", dimension=16).info, None, None)
    with pytest.raises(BadPlan, match="dimension: 'digital-twin-brain' has 8, 'exports/brain' has 16"):
        export(world, folders)


def test_documents_cannot_be_exported(world: World, folders: ParquetStore) -> None:
    world.index(INDEX, kind=Kind.DOCUMENT)
    with pytest.raises(BadPlan, match="cannot be copied unchanged"):
        export(world, folders)


def test_a_folder_becomes_an_index_like_the_exported_one(world: World, folders: ParquetStore) -> None:
    # Given a folder exported from an index in a region
    world.index(INDEX, cloud="gcp", region="europe-west4")
    exported(world, folders, {"a": ["1", "2"], "": ["3"]})

    # When its import into an index that is not there is planned
    made = import_(world, folders)

    # Then that index is to be created where the exported one was
    assert made.create_target == NewIndex(cloud="gcp", region="europe-west4")
    assert (made.target.store, made.target.kind, made.target.dimension) == ("memory", Kind.DENSE, 8)
    assert {move.source: move.to for move in made.moves} == {"a": "a", "__default__": "__default__"}
    elsewhere = NewIndex(cloud="aws", region="us-east-1")
    assert import_(world, folders, new=elsewhere).create_target == elsewhere


def test_an_import_pays_for_what_it_writes_and_reads_back(world: World, folders: ParquetStore) -> None:
    world.index(INDEX)
    exported(world, folders, {"a": [f"{n:03}" for n in range(100)]})
    costs = import_(world, folders).estimate
    # Read back when verifying, and again before a clean-up would delete from the folder
    assert costs.read_units == 1 + 10 + 10
    assert costs.write_units == 5


def test_nobody_writes_to_an_exported_folder_so_an_import_follows_nothing(world: World, folders: ParquetStore) -> None:
    with pytest.raises(BadPlan, match="nobody writes to it") as refused:
        import_(world, folders, common=Common(policies=Policies(writers="delta")))

    assert "leave out --writers" in (refused.value.next_step or "")


def test_a_folder_that_is_not_there_is_said_with_those_that_are(world: World, folders: ParquetStore) -> None:
    world.index(INDEX)
    folders.create_like("exports/other", world.describe(INDEX), None, None)
    with pytest.raises(NotFound, match="exports/other"):
        import_(world, folders)


def test_a_plan_still_fits_until_either_side_changes(world: World, folders: ParquetStore) -> None:
    # Given plans of both directions
    index = world.index(INDEX)
    fill(index, "a", ["1", "2"])
    out = export(world, folders, folder="exports/later")
    folder = exported(world, folders, {"a": ["1", "2"]})
    back = import_(world, folders)

    def objections(plan: Plan) -> list[str]:
        source, target = (world, folders) if plan is out else (folders, world)
        return check_plan(plan, survey_again(source, plan, root=Path(), into=target))

    # Then they fit the world as it was planned
    assert objections(out) == objections(back) == []

    # And no longer when a source has changed
    fill(index, "a", ["3"])
    folder.delete("a", ["1"])
    assert "2 when planned, 3 now" in objections(out)[0]
    assert "2 when planned, 1 now" in objections(back)[0]
