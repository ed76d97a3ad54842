"""A write by an old route stops a clean-up, and another pass takes the job on to its end, without losing any."""

import pytest

from orchestrator.cli.watching import look
from orchestrator.core.states import JobState, MoveState
from orchestrator.services import acts, left_behind
from tests.stories.emulated import CREATOR, Row, as_twins, assert_same_index, row, target_of
from tests.stories.world import SMALL, WHO, OpenWorld, World

pytestmark = pytest.mark.story


def twin(record: Row) -> Row:
    return record.enriched("alma", CREATOR, "alma")


def clean_up(world: World, job_id: int, *, by_ids: bool = False) -> None:
    acts.clean_up(world.fleet.database, job_id, WHO, by_ids=by_ids)
    world.reaches(job_id, JobState.NEEDS_ATTENTION)
    assert world.move(job_id, "alma").state is MoveState.PARKED
    assert world.move(job_id, "bruno").state is MoveState.CLEANED


def types_what_is_next(world: World, job_id: int) -> None:
    assert f"vecfleet pass {job_id}" in look(world.fleet, job_id, namespaces=0).next_steps
    acts.another_pass(world.fleet.database, job_id, WHO)


@pytest.mark.parametrize("writers", ["delta", "dual"])
def test_another_pass_copies_writes_from_before_the_clean_up_and_the_job_ends(
    open_world: OpenWorld, writers: str
) -> None:
    world = open_world()
    world.fill(alma=30, bruno=10)
    world.start(workers=1)
    job_id = world.apply(world.plan(SMALL, writers=writers, cut_over="none"))
    world.reaches(job_id, JobState.VERIFIED)
    # Given an application that changes and adds after the last pass, so that its source is not deleted
    world.emulator.write(SMALL, "alma", [row("alma-3", seed=9, note="changed"), row("alma-new", seed=8)])
    now = {"alma": world.emulator.records(SMALL, "alma"), "bruno": world.emulator.records(SMALL, "bruno")}
    clean_up(world, job_id)
    # When a person types what the job says next
    types_what_is_next(world, job_id)
    # Then the job goes on to its end, and the targets hold what was written last
    world.reaches(job_id, JobState.CLEANED)
    assert_same_index(world.emulator.dump(SMALL), as_twins(now))
    world.assert_accounts(job_id)


def test_records_written_by_an_old_route_are_named_and_readers_records_are_kept(
    open_world: OpenWorld,
) -> None:
    world = open_world()
    before = world.fill(alma=30, bruno=10)
    world.start(workers=1)
    job_id = world.apply(world.plan(SMALL, writers="delta"))
    world.reaches(job_id, JobState.VERIFIED)
    acts.cut_over(world.fleet.database, job_id, WHO, 100)
    # Given an application on the new side, and a client that wrote the same record, and another, by an old route
    newest = twin(row("alma-3", seed=7, note="written on the new side"))
    world.emulator.write(SMALL, target_of("alma"), [newest])
    late = [row("alma-3", seed=9, note="by an old route"), row("alma-late", seed=8)]
    world.emulator.write(SMALL, "alma", late)
    clean_up(world, job_id)
    # When a person types what the job says next, then it names what came, and asks
    types_what_is_next(world, job_id)
    world.until("it is asked about", lambda: world.parked(job_id))
    world.reaches(job_id, JobState.NEEDS_ATTENTION)
    said = f"readers have moved to {target_of('alma')}: nothing is written to it any more"
    assert world.parked(job_id) == {("alma", "alma-3"): said, ("alma", "alma-late"): said}
    # And where they may stay behind the job goes on to its end: they stay, all else is deleted
    left_behind.accept_records(world.fleet.database, job_id, WHO, None, confirmed=1_000)
    world.reaches(job_id, JobState.CLEANED)
    there = as_twins(before)
    there[target_of("alma")]["alma-3"] = newest
    assert_same_index(world.emulator.dump(SMALL), {**there, "alma": {one.id: one for one in late}})
    world.assert_accounts(job_id)


def test_records_deleted_by_the_clean_up_are_not_counted_as_deleted_by_writers(
    open_world: OpenWorld,
) -> None:
    world = open_world()
    world.fill(alma=30, bruno=10)
    world.start(workers=1)
    job_id = world.apply(world.plan(SMALL, writers="delta", cut_over="none"))
    world.reaches(job_id, JobState.VERIFIED)
    # Given a source that got a new record, and whose other records are deleted by their ids
    added = row("alma-new", seed=8)
    now = {"alma": world.emulator.records(SMALL, "alma"), "bruno": world.emulator.records(SMALL, "bruno")}
    now["alma"]["alma-new"] = added
    world.emulator.write(SMALL, "alma", [added])
    clean_up(world, job_id, by_ids=True)
    assert world.emulator.records(SMALL, "alma").keys() == {"alma-new"}
    # When it is read once more
    types_what_is_next(world, job_id)
    # Then that record is moved, too, and no other leaves its target
    world.reaches(job_id, JobState.CLEANED)
    assert_same_index({name: rows for name, rows in world.emulator.dump(SMALL).items() if rows}, as_twins(now))
    world.assert_accounts(job_id)
