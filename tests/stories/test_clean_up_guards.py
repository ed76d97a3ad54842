"""Nothing is deleted before its time, and never what is not as it was when it was proven."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from migrations.creators import Grouping
from migrations.ownership import look_up
from orchestrator.core.states import JobState, MoveState
from orchestrator.ledger import moves
from orchestrator.ledger import tables as t
from orchestrator.services import acts, left_behind
from tests.stories.emulated import as_twins, assert_same_index, row, target_of
from tests.stories.world import SMALL, WHO, OpenWorld, World
from vecfleet.errors import Refused

pytestmark = pytest.mark.story


def test_clean_up_is_refused_until_everything_is_verified_decided_and_cut_over(open_world: OpenWorld) -> None:
    world = open_world()
    world.fill(alma=20, bruno=10)
    world.emulator.write(SMALL, "alma", [row("claimed", creator_id="somebody else")])
    # Given a job that has only been applied, then one whose parked record nobody has decided about
    job_id = world.apply(world.plan(SMALL, conflicts="fail"))
    with refused(world, job_id, "the job is planned: its targets are not verified"):
        clean_up(world, job_id)
    world.start(workers=1)
    world.reaches(job_id, JobState.NEEDS_ATTENTION)
    with refused(world, job_id, "1 parked record waits for a decision"):
        clean_up(world, job_id)
    # When it is decided, and all is verified, but readers are not on the new side
    left_behind.accept_records(world.fleet.database, job_id, WHO, None, confirmed=1_000)
    world.reaches(job_id, JobState.VERIFIED)
    with refused(world, job_id, "readers are cut over at 0 %, not 100 %"):
        clean_up(world, job_id)
    # Or a verdict is void, or stale, with no dispatcher there to have it made anew
    acts.cut_over(world.fleet.database, job_id, WHO, 100)
    world.kill(world.dispatchers[0])
    alma = world.targets(job_id)[target_of("alma")]
    with world.fleet.database.begin() as connection:
        moves.raise_sequence(connection, [alma.id])
    with refused(world, job_id, f"the verdict on {alma.namespace} is void: it was written to since"):
        clean_up(world, job_id)
    age = sa.update(t.target).values(sequence=t.target.c.check_sequence, verdict_at=sa.text("now() - interval '25 h'"))
    with world.fleet.database.begin() as connection:
        connection.execute(age)
    count = len(world.targets(job_id))
    with refused(world, job_id, f"the verdicts on {count} targets are more than 24 hours old: {alma.namespace}"):
        clean_up(world, job_id)
    # Then after a fresh verification and another cut-over it is done, and the accepted record stays
    world.start_dispatcher()
    acts.verify(world.fleet.database, job_id, WHO)
    world.reaches(job_id, JobState.VERIFIED, JobState.CUT_OVER)
    acts.cut_over(world.fleet.database, job_id, WHO, 100)
    clean_up(world, job_id)
    world.reaches(job_id, JobState.CLEANED)
    assert world.emulator.records(SMALL, "alma").keys() == {"claimed"}


def test_a_source_that_changed_after_its_verification_is_not_deleted(open_world: OpenWorld) -> None:
    world = open_world()
    before = world.fill(changed=20, grown=20, shrunk=20, quiet=20)
    world.start(workers=1)
    job_id = world.apply(world.plan(SMALL))
    world.reaches(job_id, JobState.VERIFIED)
    acts.cut_over(world.fleet.database, job_id, WHO, 100)
    # Given sources in which, after the verification, a record was changed, added, removed
    lost = before["shrunk"]["shrunk-3"]
    world.emulator.write(SMALL, "changed", [row("changed-3", seed=1, note="changed by somebody")])
    world.emulator.write(SMALL, "grown", [row("new", note="added by somebody")])
    world.emulator.delete(SMALL, "shrunk", lost.id)
    as_it_is = world.emulator.dump(SMALL)
    since = world.emulator.last_call()
    # When the old is to be deleted
    clean_up(world, job_id)
    job = world.reaches(job_id, JobState.NEEDS_ATTENTION)
    # Then only the source that is still what was proven is gone; the others say why they are not
    assert job.reason == "3 sources were not deleted: a guard refused"
    del as_it_is["quiet"]
    assert_same_index(world.emulator.dump(SMALL), as_it_is)
    assert {call["namespace"] for call in world.emulator.writes(since=since)} == {"quiet"}
    assert {move.source: move.reason for move in world.moves(job_id) if move.state is MoveState.PARKED} == {
        "changed": ("1 records of changed are not equal at their target, and the source is not what was copied either"),
        "grown": "grown lists 21 ids, which are not the 20 that were copied and proven",
        "shrunk": "1 records of shrunk vanished since they were copied",
    }
    # And once two are as they were, a retry deletes them, but not the third, in which another record has changed
    world.emulator.write(SMALL, "changed", [before["changed"]["changed-3"]])
    world.emulator.write(SMALL, "shrunk", [lost])
    world.emulator.delete(SMALL, "grown", "new")
    world.emulator.write(SMALL, "grown", [row("grown-5", seed=1, note="changed by somebody")])
    grown = world.emulator.records(SMALL, "grown")
    acts.retry(world.fleet.database, job_id, WHO, "failed")
    job = world.reaches(job_id, JobState.NEEDS_ATTENTION)
    assert job.reason == "1 source was not deleted: a guard refused"
    assert_same_index(world.emulator.dump(SMALL), {**as_twins(before), "grown": grown})


def test_a_source_that_changed_while_its_clean_up_was_stopped_is_not_deleted(open_world: OpenWorld) -> None:
    world = open_world()
    before = world.fill(alma=20, bruno=20)
    world.start(workers=1)
    job_id = world.apply(world.plan(SMALL))
    world.reaches(job_id, JobState.VERIFIED)
    acts.cut_over(world.fleet.database, job_id, WHO, 100)
    # Given a clean-up that stopped at its very last calls: one was refused, one carried out and answered alike
    refusal = {"operation": "delete_namespace", "status": 403, "message": "Forbidden", "delay_ms": 500}
    world.emulator.fault(**refusal, namespace="alma")
    world.emulator.fault(**refusal, apply_first=True)
    clean_up(world, job_id)
    world.reaches(job_id, JobState.PAUSED)
    # When a record is changed meanwhile, the key is put right, and the job resumed
    changed = row("alma-3", seed=1, note="changed by somebody")
    world.emulator.write(SMALL, "alma", [changed])
    world.emulator.no_faults()
    acts.resume(world.fleet.database, job_id, WHO)
    # Then that source is proven again, found changed, and not deleted; the other one is found gone
    job = world.reaches(job_id, JobState.NEEDS_ATTENTION)
    assert job.reason == "1 source was not deleted: a guard refused"
    alma = before["alma"] | {changed.id: changed}
    assert_same_index(world.emulator.dump(SMALL), {**as_twins(before), "alma": alma})


def clean_up(world: World, job_id: int) -> None:
    acts.clean_up(world.fleet.database, job_id, WHO, by_ids=False)


@contextmanager
def refused(world: World, job_id: int, why: str) -> Iterator[None]:
    """Expect that the act inside is refused with this sentence among others, and changes nothing anywhere."""
    job, since = world.job(job_id), world.emulator.last_call()
    with pytest.raises(Refused) as refusal:
        yield
    assert any(why in objection for objection in refusal.value.objections), refusal.value.objections
    assert not world.emulator.writes(since=since)
    assert world.job(job_id) == job


def test_what_a_target_lost_after_the_cut_over_keeps_its_source_however_small_it_is(open_world: OpenWorld) -> None:
    world = open_world()
    # Given a shared namespace that was split: bob's hundred records, ana's nine
    world.emulator.create_index(SMALL)
    counts = {"bob": 100, "ana": 9}
    rows = [row(f"{who}-{n}", twin_id=f"of-{who}") for who, count in counts.items() for n in range(count)]
    world.emulator.write(SMALL, "__default__", rows)
    owners = {"twins": [{"id": f"of-{who}", "creator_id": who} for who in counts]}
    (world.folder / "ownership.yaml").write_text(json.dumps(owners))
    snapshot = look_up("file", world.fleet.settings, file="ownership.yaml")
    world.start(workers=1)
    job_id = world.apply(world.plan(SMALL, grouping=Grouping(snapshot=snapshot, default="split")))
    world.reaches(job_id, JobState.VERIFIED)
    acts.cut_over(world.fleet.database, job_id, WHO, 100)
    # When somebody deletes ana's new namespace before the clean-up, and said of the job that a few may be missing
    ana = "creator_ana_twin_of-ana"
    world.fleet.store.open(world.fleet.store.describe(SMALL)).delete_namespace(ana)
    acts.set_lever(world.fleet.database, job_id, WHO, "missing", 9)
    clean_up(world, job_id)
    world.reaches(job_id, JobState.NEEDS_ATTENTION, JobState.CLEANED)
    # Then the last copies of her records are not deleted
    assert {f"ana-{n}" for n in range(9)} <= world.emulator.records(SMALL, "__default__").keys()
    said = f"{ana} is empty or gone, and 9 records were written to it: the source may be the last place that has them. "
    typed = f"vecfleet set {job_id} missing 9 --target {ana}"
    assert world.move(job_id, "__default__").reason == (
        f"{said}If the application deleted them there: `{typed}`, then `vecfleet retry {job_id} failed`"
    )
    # Until a person says that this is meant
    acts.set_lever(world.fleet.database, job_id, WHO, "missing", 9, ana)
    acts.retry(world.fleet.database, job_id, WHO, "failed")
    world.reaches(job_id, JobState.CLEANED)
    assert not world.emulator.records(SMALL, "__default__")
