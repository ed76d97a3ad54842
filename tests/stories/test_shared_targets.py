"""Several sources into one target: ids that meet there overwrite nothing, whatever the policy says of them."""

from dataclasses import replace

import pytest

from migrations.creators import Grouping, Row
from orchestrator.core.states import JobState
from orchestrator.services import acts, left_behind
from tests.stories.emulated import assert_same, assert_same_index, row, target_of
from tests.stories.world import CREATOR, SMALL, WHO, OpenWorld

pytestmark = pytest.mark.story

TARGET = f"creator_{CREATOR}"
SOURCES = ("alma", "bruno")
GROUPING = Grouping(rows=tuple(Row(source, CREATOR) for source in SOURCES))


def test_ids_that_meet_in_a_target_are_all_kept_under_prefixes(open_world: OpenWorld) -> None:
    world = open_world()
    world.fill(alma=30, bruno=20)
    for seed, source in enumerate(SOURCES):
        world.emulator.write(SMALL, source, [row("welcome", seed=seed, title=source)])
    before = world.emulator.dump(SMALL)
    # When both are moved into one namespace, every id with its source before it
    world.start(workers=2)
    job_id = world.apply(world.plan(SMALL, grouping=GROUPING, collisions="prefix"))
    world.reaches(job_id, JobState.VERIFIED)
    acts.cut_over(world.fleet.database, job_id, WHO, 100)
    acts.clean_up(world.fleet.database, job_id, WHO, by_ids=False)
    world.reaches(job_id, JobState.CLEANED)
    # Then the target holds all of them, and the sources are gone
    wanted = {
        f"{source}:{id}": replace(one.enriched(source, CREATOR, None), id=f"{source}:{id}")
        for source, rows in before.items()
        for id, one in rows.items()
    }
    after = world.emulator.dump(SMALL)
    assert_same(after.pop(TARGET), wanted, TARGET)
    assert after == {}


@pytest.mark.parametrize("collisions", ["skip", "identical"])
def test_the_first_of_two_records_with_one_id_stays_and_the_other_is_not_lost(
    open_world: OpenWorld, collisions: str
) -> None:
    world = open_world()
    world.fill(alma=30, bruno=20)
    # Given an id that both sources hold with other content, and one that they hold with the same
    for seed, source in enumerate(SOURCES):
        world.emulator.write(SMALL, source, [row("welcome", seed=seed, title=source), row("same", title="the same")])
    before = world.emulator.dump(SMALL)
    # When both are moved into one namespace and cleaned up
    world.start(workers=2)
    job_id = world.apply(world.plan(SMALL, grouping=GROUPING, collisions=collisions))
    if collisions == "identical":
        world.reaches(job_id, JobState.NEEDS_ATTENTION)
        assert [id for _, id in world.parked(job_id)] == ["welcome"]
        left_behind.accept_records(world.fleet.database, job_id, WHO, None, confirmed=1_000)
    world.reaches(job_id, JobState.VERIFIED)
    world.assert_accounts(job_id)
    acts.cut_over(world.fleet.database, job_id, WHO, 100)
    acts.clean_up(world.fleet.database, job_id, WHO, by_ids=False)
    world.reaches(job_id, JobState.CLEANED)
    # Then the target holds one of each, untouched by the other
    after = world.emulator.dump(SMALL)
    target = after.pop(TARGET)
    assert len(target) == 30 + 20 + 2
    for source, rows in before.items():
        for id, one in rows.items():
            arrived = one.enriched(source, CREATOR, None).face() == target[id].face()
            # And whatever did not arrive is in its source still
            assert arrived or after[source][id].face() == one.face(), f"{id} of {source} is nowhere"
    assert {id for rows in after.values() for id in rows} <= {"welcome", "same"}


def test_a_listing_that_ends_too_early_gives_nothing_of_a_target_away(open_world: OpenWorld) -> None:
    world = open_world()
    source = world.fill(alma=20)["alma"]
    # Given a target that holds more than a page of records, the last of them under an id that is to come
    target = target_of("alma")
    held = [row(f"a{n:03d}", note="here first") for n in range(150)] + [row("alma-9", seed=9, note="here first")]
    world.emulator.write(SMALL, target, held)
    grouping = Grouping(rows=(Row("alma", CREATOR, "alma"),))
    job_id = world.apply(world.plan(SMALL, grouping=grouping, collisions="skip"))
    # When its first page says that it is the last one, just as the job looks what is there
    world.emulator.fault(operation="list", namespace=target, lose_token=True, count=1)
    world.start(workers=1)
    world.reaches(job_id, JobState.VERIFIED)
    # Then that record is not overwritten
    wanted = {id: one.enriched("alma", CREATOR, "alma") for id, one in source.items()}
    assert_same(world.emulator.records(SMALL, target), wanted | {one.id: one for one in held}, target)


@pytest.mark.parametrize("collisions", ["skip", "identical"])
def test_what_a_target_held_before_is_neither_overwritten_nor_rolled_back(
    open_world: OpenWorld, collisions: str
) -> None:
    world = open_world()
    source = world.fill(alma=30)["alma"]
    # Given a target that holds another record under an id of the source, the very record that is to come, and a third
    held = [row("alma-1", seed=9, note="here first"), source["alma-2"].enriched("alma", CREATOR, "alma"), row("third")]
    world.emulator.write(SMALL, target_of("alma"), held)
    before = world.emulator.dump(SMALL)
    # When the source is moved there
    world.start(workers=2)
    grouping = Grouping(rows=(Row("alma", CREATOR, "alma"),))
    job_id = world.apply(world.plan(SMALL, grouping=grouping, collisions=collisions))
    if collisions == "identical":
        world.reaches(job_id, JobState.NEEDS_ATTENTION)
        assert [id for _, id in world.parked(job_id)] == ["alma-1"]
        left_behind.accept_records(world.fleet.database, job_id, WHO, None, confirmed=1_000)
    world.reaches(job_id, JobState.VERIFIED)
    world.assert_accounts(job_id)
    # Then the others joined what was there
    wanted = {id: one.enriched("alma", CREATOR, "alma") for id, one in source.items()}
    assert_same(world.emulator.records(SMALL, target_of("alma")), wanted | {one.id: one for one in held}, "the target")
    # And rolled back, the index is what it was
    acts.roll_back(world.fleet.database, job_id, WHO, None)
    world.reaches(job_id, JobState.ROLLED_BACK)
    assert_same_index(world.emulator.dump(SMALL), before)
