"""An import that the service does first: what it leaves out is copied, and every record is proven."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from migrations.plan import Plan
from migrations.recipes import ImportOptions, plan_import
from orchestrator.core.states import JobState
from orchestrator.ledger import index_acts, jobs
from orchestrator.services import acts, apply, forget
from tests.stories.emulated import Row, assert_same_index, row
from tests.stories.world import SMALL, WHO, OpenWorld, World
from vecfleet.errors import Refused, StoreError
from vecfleet.names import Tenant
from vecfleet.stores.base import BulkFiles, Filling

pytestmark = pytest.mark.story

FOLDER, COPY = "exports/small", "copy"


def exported(world: World, **namespaces: list[Row]) -> None:
    """An index, and what an export of it leaves in a folder."""
    world.emulator.create_index(SMALL)
    for name, rows in namespaces.items():
        world.emulator.write(SMALL, name, rows)
    store, folders = world.fleet.store, world.fleet.folders
    source = store.open(store.describe(SMALL))
    folder = folders.open(folders.create_like(FOLDER, source.info, None, None))
    for name in namespaces:
        folder.upsert(name, list(source.fetch(name, source.list_ids(name).ids).records.values()))


def planned(world: World, *, clock_ahead: timedelta = timedelta()) -> Plan:
    files = BulkFiles(f"file://{world.folder}/{FOLDER}")
    options = ImportOptions(folder=FOLDER, index=COPY, bulk=files)
    return plan_import(world.fleet.folders, world.fleet.store, options, now=datetime.now(UTC) + clock_ahead)


def test_what_the_service_s_import_left_out_is_copied_and_all_is_proven(open_world: OpenWorld) -> None:
    # Given an export in which two records have equal values, of which an import keeps one
    world = open_world()
    alma = [row(f"alma-{n}", page=n) for n in range(30)]
    twin = replace(alma[0], id="twin", metadata={"page": 99.0})
    exported(world, alma=[*alma, twin], __default__=[row(f"default-{n}") for n in range(9)])
    plan = planned(world)
    assert any("nobody but you knows that it is a copy of exports/small" in warning for warning in plan.warnings)

    # When the service's import is cancelled
    def cancel(begun: Filling) -> None:
        host = httpx.get(f"{world.emulator.address}/indexes/{COPY}", headers={"Api-Key": "any"}).json()["host"]
        httpx.delete(f"{host}/bulk/imports/{begun.id}", headers={"Api-Key": "any"}).raise_for_status()

    with pytest.raises(StoreError, match="ended Cancelled"):
        apply.apply(world.fleet, plan, who=WHO, no_backup=True, on_wait=cancel)

    # And the command dies while the service imports anew
    def die(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply.apply(world.fleet, plan, who=WHO, no_backup=True, on_wait=die)

    # And it is typed again, and waits for the import that is under way
    world.start(workers=1)
    job_id = apply.apply(world.fleet, plan, who=WHO, no_backup=True, on_wait=lambda _: None)
    world.reaches(job_id, JobState.VERIFIED)

    # Then every record is there, and only what the service left out was copied
    assert_same_index(world.emulator.dump(COPY), world.emulator.dump(SMALL))
    world.assert_accounts(job_id)
    written = {id for call in world.emulator.calls(operation="upsert", index=COPY) for id in call["ids"]}
    assert len(written) == 1 and written < {"alma-0", "twin"}
    assert len(world.emulator.calls(operation="start_import")) == 2


def test_nothing_is_imported_into_a_namespace_that_came_to_be_after_the_plan(open_world: OpenWorld) -> None:
    # Given a plan, whose target somebody makes and fills before it is applied
    world = open_world()
    exported(world, alma=[row("alma-0")])
    plan = planned(world)
    world.emulator.create_index(COPY)
    world.emulator.write(COPY, "alma", [row("mine")])

    # Then nothing is imported, and nothing of theirs is touched
    with pytest.raises(Refused, match="into new namespaces only, and 'copy' has these: 'alma'"):
        apply.apply(world.fleet, plan, who=WHO, no_backup=True, on_wait=lambda _: None)
    assert list(world.emulator.dump(COPY)["alma"]) == ["mine"]
    assert not world.emulator.calls(operation="start_import")

    # And an apply that nobody waits for says so before it makes anything
    with pytest.raises(Refused, match="imported by the service first"):
        apply.apply(world.fleet, plan, who=WHO, no_backup=True)


def test_what_an_import_made_is_taken_for_a_job_s_own_once(open_world: OpenWorld) -> None:
    # Given a plan whose job was given up after the service had imported
    world = open_world()
    exported(world, alma=[row("alma-0")])
    plan = planned(world)
    job_id = apply.apply(world.fleet, plan, who=WHO, no_backup=True, on_wait=lambda _: None)
    acts.cancel(world.fleet.database, job_id, WHO)
    with world.fleet.database.begin() as connection:
        jobs.advance(connection, job_id, JobState.CANCELLING, JobState.CANCELLED)

    # When it is applied again, then what an application has written there since is not taken for the import's
    with pytest.raises(Refused, match=f"job {job_id} began with what the service made for this plan") as refused:
        apply.apply(world.fleet, plan, who=WHO, no_backup=True, on_wait=lambda _: None)
    # And nobody is told to delete an index, which may hold more than the import made
    assert "delete it" not in str(refused.value.next_step)


@pytest.mark.parametrize("minutes", [-90, 90])
def test_whose_an_import_is_does_not_go_by_clocks(open_world: OpenWorld, minutes: int) -> None:
    # Given an import of an earlier plan, of which nothing is left, and a clock here that is not the service's
    world = open_world()
    exported(world, alma=[row("alma-0")])
    ahead = timedelta(minutes=minutes)
    job_id = apply.apply(world.fleet, planned(world), who=WHO, no_backup=True, on_wait=lambda _: None)
    acts.cancel(world.fleet.database, job_id, WHO)
    with world.fleet.database.begin() as connection:
        jobs.advance(connection, job_id, JobState.CANCELLING, JobState.CANCELLED)
    world.fleet.store.open(world.fleet.store.describe(COPY)).delete_namespace("alma")
    plan = planned(world, clock_ahead=ahead)

    # When the next plan of the same files is applied, and the command dies while the service imports
    def die(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply.apply(world.fleet, plan, who=WHO, no_backup=True, on_wait=die)
    # Then the earlier import was not taken for its own
    assert len(world.emulator.calls(operation="start_import")) == 2
    # And typed again, it finds its own
    assert apply.apply(world.fleet, plan, who=WHO, no_backup=True, on_wait=lambda _: None) != job_id
    assert len(world.emulator.calls(operation="start_import")) == 2


def test_a_plan_of_an_earlier_version_finds_its_import_by_its_time_whichever_clock_is_a_little_ahead(
    open_world: OpenWorld,
) -> None:
    # Given a plan that names no imports, made by a clock that is three minutes ahead of the service's
    world = open_world()
    exported(world, alma=[row("alma-0")])
    plan = planned(world, clock_ahead=timedelta(minutes=3)).model_copy(update={"filled_before": None}).sealed()

    def die(_: object) -> None:
        raise KeyboardInterrupt

    # When its apply dies while the service imports, and is typed again
    with pytest.raises(KeyboardInterrupt):
        apply.apply(world.fleet, plan, who=WHO, no_backup=True, on_wait=die)
    assert apply.apply(world.fleet, plan, who=WHO, no_backup=True, on_wait=lambda _: None)
    # Then nothing was imported twice
    assert len(world.emulator.calls(operation="start_import")) == 1


def test_what_only_the_bucket_holds_is_refused_and_no_index_is_to_be_deleted_for_it(open_world: OpenWorld) -> None:
    # Given a bucket that holds a namespace more than the folder
    world = open_world()
    exported(world, alma=[row("alma-0")], bruno=[row("bruno-0")])
    shutil.copytree(world.folder / FOLDER, world.folder / "bucket")
    world.fleet.folders.open(world.fleet.folders.describe(FOLDER)).delete_namespace("bruno")
    files = BulkFiles(f"file://{world.folder}/bucket")
    options = ImportOptions(folder=FOLDER, index=COPY, bulk=files)
    plan = plan_import(world.fleet.folders, world.fleet.store, options, now=datetime.now(UTC))

    # When the service has imported it, then no job begins: nobody would prove that namespace
    with pytest.raises(Refused, match="holds namespaces that are not in the plan: 'bruno'") as refused:
        apply.apply(world.fleet, plan, who=WHO, no_backup=True, on_wait=lambda _: None)

    # And the way on is about files and an import, not about a conversion
    assert f"vecfleet audit {COPY}" in str(refused.value.next_step)
    assert files.uri in str(refused.value.next_step) and "delete" not in str(refused.value.next_step)


def test_what_a_bucket_still_has_of_an_erased_tenant_begins_no_job_and_is_found_by_the_next_erasure(
    open_world: OpenWorld, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # Given a bucket that was filled before a tenant was erased, and an index of which no job knows
    own = "creator_zoe_twin_coach"
    world = open_world(pinecone_index_name=SMALL, freshness_wait_seconds=0.2)
    exported(world, alma=[row("alma-0")], **{own: [row("zoe-0")]})
    bucket = tmp_path_factory.mktemp("elsewhere") / "bucket"
    shutil.copytree(world.folder / FOLDER, bucket)
    assert erase(world, "zoe")
    world.emulator.create_index(COPY)
    options = ImportOptions(folder=FOLDER, index=COPY, bulk=BulkFiles(f"file://{bucket}"))
    plan = plan_import(world.fleet.folders, world.fleet.store, options, now=datetime.now(UTC))

    # When the service has imported it
    with pytest.raises(Refused, match="holds 1 namespace of tenants that were erased") as refused:
        apply.apply(world.fleet, plan, who=WHO, no_backup=True, on_wait=lambda _: None)
    assert refused.value.code == "erased-came-back" and own in world.emulator.dump(COPY)

    # Then what the refusal says removes it, and the plan goes on
    assert erase(world, "zoe")
    assert own not in world.emulator.dump(COPY)
    assert apply.apply(world.fleet, plan, who=WHO, no_backup=True, on_wait=lambda _: None)


def test_what_a_bucket_still_has_of_an_erased_tenant_in_a_namespace_of_two_is_taken_away_before_a_verdict(
    open_world: OpenWorld, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # Given a bucket that was filled before one of two tenants who share a namespace was erased
    world = open_world(pinecone_index_name=SMALL, freshness_wait_seconds=0.2)
    exported(world, alma=[row("alma-0", creator_id="alma"), row("zoe-0", creator_id="zoe")])
    bucket = tmp_path_factory.mktemp("elsewhere") / "bucket"
    shutil.copytree(world.folder / FOLDER, bucket)
    assert erase(world, "zoe")
    world.emulator.create_index(COPY)
    options = ImportOptions(folder=FOLDER, index=COPY, bulk=BulkFiles(f"file://{bucket}"))
    plan = plan_import(world.fleet.folders, world.fleet.store, options, now=datetime.now(UTC))

    # When the service has imported it, which no name of a namespace tells
    job_id = apply.apply(world.fleet, plan, who=WHO, no_backup=True, on_wait=lambda _: None)
    assert set(world.emulator.dump(COPY)["alma"]) == {"alma-0", "zoe-0"}

    # Then the job proves nothing before the tenant's record is gone again
    world.start(workers=1)
    world.reaches(job_id, JobState.VERIFIED)
    assert set(world.emulator.dump(COPY)["alma"]) == {"alma-0"}


def erase(world: World, creator: str) -> bool:
    """Say whether the erasure has its certificate."""
    return bool(forget.erase(world.fleet, Tenant(creator), WHO, forget.reach(world.fleet)).certificate)


def test_an_import_that_finds_no_files_says_what_the_service_said(open_world: OpenWorld) -> None:
    world = open_world()
    exported(world, alma=[row("alma-0")])
    files = BulkFiles(f"file://{world.folder}/elsewhere")
    options = ImportOptions(folder=FOLDER, index=COPY, bulk=files)
    plan = plan_import(world.fleet.folders, world.fleet.store, options, now=datetime.now(UTC))

    with pytest.raises(StoreError, match="ended Failed, after 0 records: No Parquet files were found"):
        apply.apply(world.fleet, plan, who=WHO, no_backup=True, on_wait=lambda _: None)


def test_others_see_how_far_the_service_is_while_one_waits(open_world: OpenWorld) -> None:
    # Given an import that somebody waits for
    world = open_world()
    exported(world, alma=[row(f"alma-{n}") for n in range(20)])
    seen = []
    # When others look at the same moment
    plan = planned(world)
    apply.apply(
        world.fleet, plan, who=WHO, no_backup=True, on_wait=lambda begun: seen.append((begun.so_far, shown(world)))
    )
    # Then they see what the service says of it, and whose plan it is
    assert seen
    for so_far, told in seen:
        [one] = told
        told = one.to_json()
        assert (told["so_far"], told["by"], told["plan_digest"]) == (so_far, WHO, plan.digest)
        assert str(one).startswith(f"the service imports file://{world.folder}/{FOLDER} into {COPY}: {so_far}")
    # And once the job has begun, nothing is told any more
    assert shown(world) == []


def shown(world: World) -> list[index_acts.Filling]:
    with world.fleet.database.begin() as connection:
        return index_acts.shown(connection)
