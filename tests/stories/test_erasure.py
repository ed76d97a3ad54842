"""A tenant is erased while a job that knows it waits, and again from one that is proven: nothing of it comes back."""

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from migrations.creators import Grouping
from migrations.ownership import look_up
from orchestrator.core import manifests
from orchestrator.core.states import BatchKind, BatchState, JobState
from orchestrator.ledger import audit
from orchestrator.ledger import tables as t
from orchestrator.services import acts, left_behind
from orchestrator.services.erase import CERTIFICATES, JobTableBooks, certificate_file
from tests.stories.emulated import CREATOR, as_twins, assert_same_index, row, target_of
from tests.stories.world import SMALL, WHO, OpenWorld, World
from vecfleet.names import Tenant
from vecfleet.tenancy import erasing
from vecfleet.tenancy.journal import Journal
from vecfleet.tenancy.places import Place, Where

pytestmark = pytest.mark.story

ZOE, BOB = "zoe.77", "bob.88"
OTHER = "another"
OWNERSHIP = {
    "twins": [
        {"id": "7a7a-zoe-twin", "creator_id": ZOE, "name": "coach"},
        {"id": "8b8b-bob-twin", "creator_id": BOB, "name": "coach"},
    ],
    "sources": [{"id": "src-zoe", "twin_id": "7a7a-zoe-twin"}],
}


def erase(world: World, creator: str, twin: str | None = None, indexes: tuple[str, ...] = (SMALL,)) -> erasing.Erased:
    opened = [world.fleet.store.open(world.fleet.store.describe(name)) for name in indexes]
    books = JobTableBooks(world.fleet.database, world.fleet.settings)
    return erasing.erase(
        opened, Tenant(creator, twin), books=books, who=WHO, lands_s=erasing.lands_s(world.fleet.settings, opened)
    )


def traces_of(world: World, *words: str) -> list[str]:
    """Return where the words stand in a dump of the database, or in a file of the state folder."""
    found = []
    with world.fleet.database.begin() as connection:
        for name, table in t.metadata.tables.items():
            whole = sa.func.to_jsonb(sa.literal_column(f'"{name}"')).cast(sa.Text)
            for line in connection.execute(sa.select(whole).select_from(table)).scalars():
                found += [f"{name}: {word} in {line}" for word in words if word in line]
        for manifest in connection.execute(
            sa.select(t.batch.c.manifest).where(t.batch.c.manifest.is_not(None))
        ).scalars():
            found += [f"a manifest names {one}" for one in manifests.unpack(manifest) for word in words if word in one]
    for path in world.fleet.settings.vecfleet_home.rglob("*"):
        if path.is_file():
            found += [f"{path.name}: {word}" for word in words if word.encode() in path.read_bytes()]
    return found


def test_an_erased_tenant_is_written_by_no_job_and_named_by_no_record_of_ours(open_world: OpenWorld) -> None:
    # Given two creators: a namespace each by ownership, and records of both among others in __default__
    world = open_world(freshness_wait_seconds=0.5, log_level="INFO")
    world.fill(**{"7a7a-zoe-twin": 6, "8b8b-bob-twin": 4})
    zoes = [
        row("zoe-own", creator_id=ZOE),
        row("zoe-twins", twin_id="7a7a-zoe-twin"),
        row("zoe-src", source_id="src-zoe"),
    ]
    bobs = [row(f"b-{n}", twin_id="8b8b-bob-twin") for n in range(5)]
    world.emulator.write(SMALL, "__default__", [*zoes, *bobs])
    (world.folder / "ownership.yaml").write_text(json.dumps(OWNERSHIP))
    snapshot = look_up("file", world.fleet.settings, file="ownership.yaml")
    job_id = world.apply(world.plan(SMALL, grouping=Grouping(snapshot=snapshot, default="split")))
    logs = world.fleet.settings.vecfleet_home / "logs"
    logs.mkdir(parents=True)
    (logs / "cli.log").write_text(f"copied creator_{ZOE}_twin_7a7a-zoe-twin, and {ZOE}0 is another\n")
    owed = Where(Tenant(ZOE, "7a7a-zoe-twin"), "old", (Place("7a7a-zoe-twin"),), "", (Place("new"),), dual=True)
    Journal.of(world.fleet.settings).note(owed, ["zoe-own"])

    # When one of them is erased after the plan was made and before its job has begun
    erased = erase(world, ZOE)

    # Then her namespace and her records among others went, by metadata, twin and source, and nobody else's
    assert erased.confirmed and erased.certificate["records"] == 9
    assert {(one.name, one.whole, one.count) for one in erased.deleted} == {
        ("7a7a-zoe-twin", True, 6),
        ("__default__", False, 3),
    }
    assert set(world.emulator.records(SMALL, "__default__")) == {one.id for one in bobs}
    # And no record of ours names her; the log keeps its length, and who is called alike
    assert traces_of(world, f"{ZOE}_", f'"{ZOE}"', "7a7a-zoe", "src-zoe", "zoe-own") == []
    assert (logs / "cli.log").read_text().endswith(f" and {ZOE}0 is another\n")
    assert_certified(world, erased)

    # And when the application writes her records again, the older plan brings none of them over
    world.emulator.write(SMALL, "__default__", zoes)
    world.start(workers=1)
    world.until("all is copied", lambda: world.job(job_id).state in (JobState.VERIFIED, JobState.NEEDS_ATTENTION))
    assert world.job(job_id).state is JobState.NEEDS_ATTENTION or not world.parked(job_id)
    there = world.emulator.dump(SMALL)
    assert [name for name in there if ZOE in name] == []
    assert {name for name in there if BOB in name} == {f"creator_{BOB}_twin_8b8b-bob-twin"}
    world.assert_accounts(job_id)
    assert world.move(job_id, "__default__").erased == 1  # the others have no owner that is known any more

    # And when the other one is erased too, once proven, the accounts still add up and the job is not confused
    left_behind.accept_records(world.fleet.database, job_id, WHO, None, confirmed=1_000)
    world.reaches(job_id, JobState.VERIFIED)
    told = b"".join(worker.log.read_bytes() for worker in world.workers)
    assert b".8b8b-bob-twin." in told, "Celery names namespaces in the ids of tasks"
    (logs / "worker-1.log").write_bytes(told)
    again = erase(world, BOB)
    assert again.confirmed and again.records == 18
    world.assert_accounts(job_id)
    assert sum(move.erased for move in world.moves(job_id)) == 10
    assert traces_of(world, f'"{BOB}"', "8b8b-bob") == []
    assert {target.check_state for target in world.targets(job_id).values()} == {"empty"}
    with world.fleet.database.begin() as connection:
        audit.seal(connection, audit.Seals())
        assert audit.walk(connection, audit.Seals()).broken is None


def test_a_name_of_two_tenants_is_erased_in_one_index_and_still_moved_in_the_other(
    open_world: OpenWorld,
) -> None:
    # Given two indexes with a namespace of the same name, given to one creator by a plan and to another by a second
    world = open_world(freshness_wait_seconds=0.5)
    world.fill(alma=6, bruno=3)
    world.emulator.create_index(OTHER)
    his = [row(f"his-{n}", page=n) for n in range(5)]
    world.emulator.write(OTHER, "alma", his)
    hers = world.apply(world.plan(SMALL, grouping=Grouping(creator=ZOE)))
    other = world.apply(world.plan(OTHER, grouping=Grouping(creator=BOB)))

    # When the first is erased from both
    erased = erase(world, ZOE, indexes=(SMALL, OTHER))

    # Then hers are gone, and the other one's are there and arrive where they were to go
    assert erased.confirmed and {(one.index, one.name) for one in erased.deleted} == {(SMALL, "alma"), (SMALL, "bruno")}
    assert world.emulator.dump(SMALL) == {}
    world.start(workers=1)
    world.reaches(other, JobState.VERIFIED)
    assert set(world.emulator.dump(OTHER)) == {"alma", f"creator_{BOB}_twin_alma"}
    assert len(world.emulator.records(OTHER, f"creator_{BOB}_twin_alma")) == 5
    world.reaches(hers, JobState.NEEDS_ATTENTION)  # nothing is left to be proven
    assert world.emulator.dump(SMALL) == {}


def test_a_default_namespace_that_a_plan_gave_to_one_tenant_is_erased_with_records_that_name_nobody(
    open_world: OpenWorld,
) -> None:
    # Given one creator who has all, whose __default__ names no owner, and writers who go on
    world = open_world(freshness_wait_seconds=0.5)
    world.fill(alma=4)
    world.emulator.write(SMALL, "__default__", [row(f"d-{n}", page=n) for n in range(40)])
    job_id = world.apply(world.plan(SMALL, grouping=Grouping(creator=ZOE), writers="delta"))
    world.start(workers=1)
    world.reaches(job_id, JobState.VERIFIED)
    # And somebody else who has come since
    world.emulator.write(SMALL, "__default__", [row("bobs", creator_id=BOB)])

    # When one twin goes, and the one that __default__ is
    assert erase(world, ZOE, "alma").records == 8
    erased = erase(world, ZOE, "default")

    # Then everything of it is gone from both, and what names another owner is there
    assert erased.confirmed and {(one.name, one.whole, one.count) for one in erased.deleted} == {
        ("__default__", False, 40),
        (f"creator_{ZOE}_twin_default", True, 40),
    }
    assert {name: set(rows) for name, rows in world.emulator.dump(SMALL).items()} == {"__default__": {"bobs"}}
    world.assert_accounts(job_id)
    # And the job reads it no more: what comes there later would go to nobody
    acts.another_pass(world.fleet.database, job_id, WHO)
    world.reaches(job_id, JobState.NEEDS_ATTENTION)
    assert set(world.emulator.dump(SMALL)) == {"__default__"}


@pytest.mark.parametrize("held_up", ["fetch", "upsert"])
def test_a_worker_frozen_at_a_batch_of_a_twin_that_is_erased_meanwhile_brings_nothing_of_it_back(
    held_up: str, open_world: OpenWorld
) -> None:
    world = open_world(lease_seconds=12, request_deadline_seconds=6, freshness_wait_seconds=0.5)
    world.fill(alma=30, bruno=20)
    bruno = {"bruno": world.emulator.records(SMALL, "bruno")}
    # Given a worker frozen before its upsert of a twin's records, or at it, the service being slow to carry it out
    place = "alma" if held_up == "fetch" else target_of("alma")
    world.emulator.fault(operation=held_up, namespace=place, delay_ms=5_000, count=1)
    world.start(workers=2)
    job_id = world.apply(world.plan(SMALL))
    batch = world.until("a batch of the twin is held up", lambda: at_work(world, job_id, held_up))
    frozen = world.holder(batch)
    world.freeze(frozen)
    # When the twin is erased
    erased = erase(world, CREATOR, "alma")
    # Then all of it is gone, after the lease and the last request it may have made
    assert erased.confirmed and {one.name for one in erased.deleted} >= {"alma"}
    assert set(world.emulator.dump(SMALL)) <= {"bruno", target_of("bruno")}
    # And when the worker goes on, alone, with the rest of the job
    world.thaw(frozen)
    world.reaches(job_id, JobState.VERIFIED)
    for worker in world.workers:
        if worker is not frozen:
            world.kill(worker)
    acts.verify(world.fleet.database, job_id, WHO)
    world.until("it works", lambda: world.job(job_id).state is not JobState.COPIED)
    world.reaches(job_id, JobState.VERIFIED)
    # Then nothing of the twin is there in the end, and everything of its neighbour
    assert_same_index(world.emulator.dump(SMALL), {**bruno, **as_twins(bruno)})
    world.assert_accounts(job_id)


def at_work(world: World, job_id: int, operation: str) -> dict[str, Any] | None:
    """The leased copy batch of the twin; for an upsert, once the write sequence of its target was raised for it."""
    target = world.targets(job_id).get(target_of("alma"))
    if operation == "upsert" and not (target and target.sequence):
        return None
    leased = world.batches(job_id, BatchState.LEASED, kind=BatchKind.COPY)
    return next((one for one in leased if one["source"] == "alma"), None)


def assert_certified(world: World, erased: erasing.Erased) -> None:
    folder: Path = world.fleet.settings.vecfleet_home / CERTIFICATES
    file = certificate_file(folder, erased.certificate)
    kept = json.loads(file.with_suffix(".json").read_text())
    assert kept == erased.certificate
    assert kept["fence"].startswith("raised") and kept["asked_by"] == WHO
    assert any("backups" in one for one in kept["residual"])
    page = file.read_text()
    assert "Certificate of erasure" in page and kept["where"][0]["ids_digest"] in page
    with world.fleet.database.begin() as connection:
        audit.seal(connection, audit.Seals())
        chained = sa.select(t.audit.c.payload).where(t.audit.c.action == "erased")
        assert connection.execute(chained).scalars().all() == [kept]
