"""Namespaces that are renamed, merged and split are proven, cleaned up and taken back like any others."""

from typing import Any

import pytest

from migrations.estimating import Prices
from migrations.namespaces import NamespacesOptions, naming_of, plan_namespaces
from migrations.plan import Plan, Policies
from migrations.recipes import Common
from migrations.renaming import Pair
from migrations.reversing import plan_reverse
from orchestrator.core.states import JobState
from orchestrator.services import acts, left_behind
from tests.stories.emulated import assert_same_index, row
from tests.stories.world import NOW, SMALL, WHO, OpenWorld, World

pytestmark = pytest.mark.story


def plan(world: World, *pairs: str, key: str | None = None, **policies: Any) -> Plan:
    naming = naming_of(tuple(map(Pair.read, pairs)), merges=True, key=key, otherwise=None)
    common = Common(policies=Policies(**{"soak_seconds": 0, "conflicts": "keep", **policies}))
    return plan_namespaces(world.fleet.store, NamespacesOptions(index=SMALL, naming=naming, common=common), now=NOW)


def run(world: World, made: Plan, *, parks: int = 0) -> int:
    """Apply, decide about what is parked, cut over, clean up. Return the job."""
    job_id = world.apply(made)
    if parks:
        world.reaches(job_id, JobState.NEEDS_ATTENTION)
        assert len(world.parked(job_id)) == parks
        left_behind.accept_records(world.fleet.database, job_id, WHO, None, confirmed=1_000)
    world.reaches(job_id, JobState.VERIFIED)
    if made.policies.cut_over == "operator":
        acts.cut_over(world.fleet.database, job_id, WHO, 100)
    acts.clean_up(world.fleet.database, job_id, WHO, by_ids=False)
    world.reaches(job_id, JobState.CLEANED)
    world.assert_accounts(job_id)
    return job_id


def test_namespaces_are_renamed_merged_and_split_in_one_job_and_taken_back_to_the_byte(open_world: OpenWorld) -> None:
    # Given two namespaces with an id in common, one that becomes a tenant's, and one of several teams
    world = open_world()
    world.fill(alma=12, bruno=8, carla=5)
    for seed, name in enumerate(("alma", "bruno")):
        world.emulator.write(SMALL, name, [row("welcome", seed=seed, title=name)])
    teams = [row("red", team="red"), row("odd", team=7.0, creator_id="somebody"), row("lost")]
    world.emulator.write(SMALL, "dora", teams)
    before = world.emulator.dump(SMALL)
    world.start(workers=2)

    # When alma and bruno become one, carla ana's, and dora is split
    made = plan(
        world, "alma=joint", "bruno=joint", "carla=creator_ana_twin_carla", "dora=team-{value}", key="team",
        collisions="identical",
    )  # fmt: skip
    job_id = run(world, made, parks=2)

    # Then neither of the two under one id was overwritten, and all the others are where they belong
    after = world.emulator.dump(SMALL)
    (keeps,) = {"alma", "bruno"} & set(after)
    assert set(after[keeps]) == {"welcome"} and "welcome" in after["joint"]
    assert set(after) == {"joint", "creator_ana_twin_carla", "team-red", "team-7", "dora", keeps}
    assert set(after["dora"]) == {"lost"}
    assert {one.metadata["creator_id"] for one in after["creator_ana_twin_carla"].values()} == {"ana"}
    assert after["team-7"]["odd"].metadata["creator_id"] == "somebody"

    # And the way back restores every byte
    run(world, plan_reverse(world.fleet.store, made, list(world.targets(job_id)), prices=Prices(), now=NOW))
    assert_same_index(world.emulator.dump(SMALL), before)


def test_a_rename_leaves_records_as_they_are_and_is_taken_back_by_its_names(open_world: OpenWorld) -> None:
    world = open_world()
    before = world.fill(alma=12, bruno=8)
    world.start(workers=1)

    # When two namespaces are renamed, then each record is as it was
    made = plan(world, "*=v2/{1}", collisions="fail", leave_alias=True)
    job_id = run(world, made)
    renamed = {f"v2/{name}": rows for name, rows in before.items()}
    assert_same_index(world.emulator.dump(SMALL), renamed)

    # And what was written there since goes back as well
    late = row("late")
    world.emulator.write(SMALL, "v2/alma", [late])
    run(world, plan_reverse(world.fleet.store, made, list(world.targets(job_id)), prices=Prices(), now=NOW))
    assert_same_index(world.emulator.dump(SMALL), {**before, "alma": {**before["alma"], late.id: late}})
