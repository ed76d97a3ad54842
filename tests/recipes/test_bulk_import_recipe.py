"""The recipe `import`, begun by the service's bulk import: what that cannot do is refused, and the price is told."""

from pathlib import Path
from typing import Any

import pytest
from planning_world import NOW, World, fill

from migrations.estimating import Prices
from migrations.mapping import MetadataMap
from migrations.plan import NewIndex, Plan, Policies, read_plan, write_plan
from migrations.recipes import Common, ImportOptions, plan_import
from vecfleet.errors import BadPlan
from vecfleet.records import Record
from vecfleet.stores.base import BulkFiles, BulkImport
from vecfleet.stores.parquet import ParquetStore

INDEX, FOLDER = "digital-twin-brain", "exports/brain"
FILES = BulkFiles("s3://bucket/brain", "integration-7")


@pytest.fixture
def folders(tmp_path: Path) -> ParquetStore:
    return ParquetStore(tmp_path)


def plan(world: World, folders: ParquetStore, *namespaces: str, **options: Any) -> Plan:
    """Plan the import of a folder with these namespaces into an index that is not there."""
    if not folders.indexes():
        world.index(INDEX)
        folder = folders.open(folders.create_like(FOLDER, world.describe(INDEX), None, None))
        for name in namespaces:
            folder.upsert(name, [Record("a", b"\0\0\x80\x3f" * 8)])
    given = {"folder": FOLDER, "index": "mind", "bulk": FILES} | options
    return plan_import(folders, world, ImportOptions(**given), now=NOW)


def test_a_plan_keeps_the_files_and_says_what_only_a_person_knows(
    world: World, folders: ParquetStore, tmp_path: Path
) -> None:
    made = plan(world, folders, "a", "B c")
    write_plan(made, tmp_path / "plan.yaml")

    assert read_plan(tmp_path / "plan.yaml") == made
    assert made.policies.bulk == FILES
    assert made.estimate.write_units < plan(world, folders, bulk=None).estimate.write_units
    [said] = [warning for warning in made.warnings if FILES.uri in warning]
    assert "nobody but you knows that it is a copy of exports/brain" in said
    assert "CONVERSION_DOLLARS_PER_GB" in said
    priced = plan(world, folders, common=Common(prices=Prices(conversion_gb=1.0)))
    assert not any("CONVERSION_DOLLARS_PER_GB" in warning for warning in priced.warnings)


def test_a_plan_names_the_imports_of_its_files_that_the_target_has_had(world: World, folders: ParquetStore) -> None:
    # Given an index into which these files were imported once, and others
    world.index("mind")
    told: dict[str, Any] = {"status": "Completed", "percent": 100.0, "records": 1, "created_at": NOW, "error": None}
    earlier, other = (
        BulkImport(id=id, uri=uri, index="mind", **told) for id, uri in (("1", FILES.uri), ("2", "s3://bucket/else"))
    )
    world.imported = [earlier, other]
    # Then a plan knows that the one is not its own, and nothing can be there of an index that is not
    assert plan(world, folders, "a").filled_before == (earlier.key,)
    assert plan(world, folders, index="new").filled_before == ()
    assert plan(world, folders, bulk=None).filled_before is None


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"bulk": BulkFiles("ftp://bucket/brain")}, "write s3://BUCKET/DIR"),
        ({"bulk": BulkFiles("https://a.blob.core.windows.net/c/brain?sig=k")}, "a plan keeps no key in a URI"),
        ({"bulk": BulkFiles("s3://id:key@bucket/brain")}, "a plan keeps no key in a URI"),
        ({"new": NewIndex(cloud="gcp", region="us-central1")}, "reads no S3 for an index outside of AWS"),
        ({"common": Common(policies=Policies(encoded_ids=True))}, "keeps metadata and ids as they are"),
        (
            {"common": Common(policies=Policies(metadata_map=MetadataMap(drop=("text",), undo="none")))},
            "keeps metadata and ids as they are",
        ),
        ({"common": Common(skip=("b",))}, "takes every namespace, and the plan leaves out 'b'"),
    ],
)
def test_what_the_service_cannot_do_is_refused(
    world: World, folders: ParquetStore, options: dict[str, Any], why: str
) -> None:
    with pytest.raises(BadPlan, match=why):
        plan(world, folders, "a", "b", **options)


def _fields(dense: str) -> dict[str, Any]:
    return {"schema": {"fields": {dense: {"type": "dense_vector", "dimension": 8, "metric": "cosine"}}}}


def test_lines_go_into_a_document_index_and_parquet_into_one_of_vectors(world: World, folders: ParquetStore) -> None:
    # Given an export of a document index
    world.index(INDEX, **_fields("embedding"))
    folder = folders.open(folders.create_like(FOLDER, world.describe(INDEX), None, None))
    folder.upsert("a", [Record("a", b"\0\0\x80\x3f" * 8)])

    # Then the service may import it into a new one, and into one whose field has that name
    assert plan(world, folders).policies.bulk == FILES
    world.index("fitting", **_fields("embedding"))
    assert plan(world, folders, index="fitting").policies.bulk == FILES

    # And it would leave everything out where the field has another name, or there are no documents
    world.index("renamed", **_fields("vector"))
    with pytest.raises(BadPlan, match="under its name in the files, and the index has no field 'embedding'"):
        plan(world, folders, index="renamed")
    world.index("vectors", **_fields("_values"))
    with pytest.raises(BadPlan, match="takes Parquet for an index of vectors, and this export is of JSON lines"):
        plan(world, folders, index="vectors")
    # And a job that copies goes by the content
    assert plan(world, folders, index="renamed", bulk=None).moves
    assert plan(world, folders, index="vectors", bulk=None).moves


def test_parquet_is_not_for_a_document_index(world: World, folders: ParquetStore) -> None:
    world.index("documents", **_fields("embedding"))
    with pytest.raises(BadPlan, match="takes JSON lines for a document index, and this export is of Parquet"):
        plan(world, folders, "a", index="documents")


def test_an_export_of_documents_goes_by_its_files_which_were_parquet_in_former_versions(
    world: World, folders: ParquetStore, tmp_path: Path
) -> None:
    # Given an export of a document index as a former version made it
    world.index(INDEX, **_fields("embedding"))
    folders.create_like(FOLDER, world.describe(INDEX), None, None)
    description = tmp_path / FOLDER / "_index.json"
    description.write_text(description.read_text().replace('"format": 3', '"format": 2'))
    folders.open(folders.describe(FOLDER)).upsert("a", [Record("a", b"\0\0\x80\x3f" * 8)])

    # Then the service would not import it, and a job does
    with pytest.raises(BadPlan, match="takes JSON lines for a document index, and this export is of Parquet"):
        plan(world, folders)
    assert plan(world, folders, bulk=None).moves


def test_namespaces_that_are_there_or_lie_under_other_names_are_refused(world: World, folders: ParquetStore) -> None:
    with pytest.raises(BadPlan, match="by their folders' other names: 'x/y'"):
        plan(world, folders, "a", "x/y")
    fill(world.index("mind"), "a", ["1"])
    with pytest.raises(BadPlan, match="makes new namespaces, and these are there: 'a'"):
        plan(world, folders)
