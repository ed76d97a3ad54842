"""Once readers have moved the target is authoritative: changes there stand, and the sources may still be deleted."""

import pytest

from migrations.creators import Grouping
from orchestrator.core.states import JobState, MoveState
from orchestrator.services import acts
from tests.stories.emulated import CREATOR, as_twins, assert_same_index, row, target_of
from tests.stories.world import SMALL, WHO, OpenWorld, World

pytestmark = pytest.mark.story


def cut_over(world: World) -> int:
    job_id = world.apply(world.plan(SMALL))
    world.reaches(job_id, JobState.VERIFIED)
    acts.cut_over(world.fleet.database, job_id, WHO, 100)
    return job_id


def test_what_an_application_does_after_the_switch_stands_and_the_old_is_cleaned_up(open_world: OpenWorld) -> None:
    world = open_world()
    before = world.fill(alma=40, bruno=20)
    world.start(workers=1)
    job_id = cut_over(world)
    # Given an application that since the switch changed, removed and added records, at the target alone
    alma = target_of("alma")
    newer = row("alma-3", seed=1, note="newer")
    added = row("alma-new", seed=2, note="added")
    world.emulator.write(SMALL, alma, [newer, added])
    world.emulator.delete(SMALL, alma, "alma-7")
    # When the target is verified again
    acts.verify(world.fleet.database, job_id, WHO)
    world.until("a verdict is there again", lambda: world.job(job_id).state is JobState.CUT_OVER)
    # Then the verdict lists what was done since, and nothing of it was undone
    verdict = world.targets(job_id)[alma].verdict
    assert verdict is not None
    assert verdict["reason"] == (
        "40 records were proven before readers moved; since then 1 removed, 1 changed, 1 added"
    )
    # And the old is deleted, for it still is what was proven at the switch
    acts.clean_up(world.fleet.database, job_id, WHO, by_ids=False)
    world.reaches(job_id, JobState.CLEANED)
    expected = as_twins(before)
    expected[alma].pop("alma-7")
    expected[alma] |= {newer.id: newer, added.id: added}
    assert_same_index(world.emulator.dump(SMALL), expected)


def test_a_source_changed_after_the_switch_is_the_only_place_of_that_change_and_stays(open_world: OpenWorld) -> None:
    world = open_world()
    world.fill(alma=40)
    world.start(workers=1)
    job_id = cut_over(world)
    # Given a writer nobody thought of, that still writes to the old place
    world.emulator.write(SMALL, target_of("alma"), [row("alma-3", seed=1, note="newer")])
    world.emulator.write(SMALL, "alma", [row("alma-3", seed=2, note="from a writer left behind")])
    as_it_is = world.emulator.dump(SMALL)
    # When the old is to be deleted, one namespace at once or record by record
    acts.clean_up(world.fleet.database, job_id, WHO, by_ids=True)
    world.reaches(job_id, JobState.NEEDS_ATTENTION)
    # Then it stays as it is, and says why
    assert_same_index(world.emulator.dump(SMALL), as_it_is)
    assert world.move(job_id, "alma").reason == (
        "1 records of alma are not equal at their target, and the source is not what was copied either"
    )


def test_where_many_records_are_missing_after_the_switch_a_person_must_say_that_it_is_meant(
    open_world: OpenWorld,
) -> None:
    world = open_world()
    world.fill(alma=40)
    world.start(workers=1)
    job_id = cut_over(world)
    # Given a target that lost eleven of its records since the switch
    for number in range(11):
        world.emulator.delete(SMALL, target_of("alma"), f"alma-{number}")
    acts.clean_up(world.fleet.database, job_id, WHO, by_ids=False)
    # Then their last copy, in the source, is not deleted
    world.reaches(job_id, JobState.NEEDS_ATTENTION)
    assert len(world.emulator.records(SMALL, "alma")) == 40
    assert world.move(job_id, "alma").state is MoveState.PARKED
    assert world.move(job_id, "alma").reason == (
        f"11 of the 40 records written to {target_of('alma')} are not there any more: the source may be the last "
        f"place that has them. If the application deleted them there: `vecfleet set {job_id} missing 11 --target "
        f"{target_of('alma')}`, then `vecfleet retry {job_id} failed`"
    )
    # Until a person says that the application deleted them
    acts.set_lever(world.fleet.database, job_id, WHO, "missing", 11)
    acts.retry(world.fleet.database, job_id, WHO, "failed")
    world.reaches(job_id, JobState.CLEANED)
    assert not world.emulator.records(SMALL, "alma")


def test_where_the_plan_says_so_readers_of_the_old_names_find_the_new(open_world: OpenWorld) -> None:
    world = open_world()
    world.fill(alma=5, __default__=3)
    world.start(workers=1)
    plan = world.plan(SMALL, grouping=Grouping(creator=CREATOR, default="twin"), leave_alias=True, cut_over="none")
    assert "no alias is left for sources that go to several places, or for the default: '__default__'" in plan.warnings
    job_id = world.apply(plan)
    world.reaches(job_id, JobState.VERIFIED)
    acts.clean_up(world.fleet.database, job_id, WHO, by_ids=False)
    world.reaches(job_id, JobState.CLEANED)
    # Then a reader who still asks for the old name is answered from the new place
    index = world.fleet.store.open(world.fleet.store.describe(SMALL))
    old, new = index.fetch("alma", ["alma-3"]).records, index.fetch(target_of("alma"), ["alma-3"]).records
    assert old["alma-3"] == new["alma-3"]
