"""A metadata map is applied once, however often a record is copied: by a later pass, by a repair, by another job."""

from typing import Any

import pytest

from migrations.mapping import MetadataMap
from migrations.plan import Policies
from migrations.recipes import Common, IndexOptions, plan_index
from orchestrator.core.states import JobState
from orchestrator.services import acts, left_behind
from tests.stories.emulated import Row, Rows, row
from tests.stories.world import NOW, SMALL, WHO, OpenWorld, World

pytestmark = pytest.mark.story

# Repeated, it would swap back.
SWAP = MetadataMap(set={"env": "prod"}, drop=("secret",), rename={"left": "right", "right": "left"})


def side(n: int, **other: Any) -> Row:
    return row(f"r-{n}", left=f"l{n}", right=f"r{n}", **other)


def assert_swapped(there: Rows, count: int) -> None:
    for n in range(count):
        held = there[f"r-{n}"].metadata
        assert (held["left"], held["right"], held["env"]) == (f"r{n}", f"l{n}", "prod")
        assert "secret" not in held


def applied(world: World, source: str, target: str, **policies: Any) -> int:
    common = Common(policies=Policies(metadata_map=SWAP, soak_seconds=0, **policies))
    return world.apply(
        plan_index(world.fleet.store, IndexOptions(source=source, target=target, common=common), now=NOW)
    )


def test_passes_repairs_and_another_job_map_each_record_once(open_world: OpenWorld) -> None:
    # Given an application that goes on writing, and a record that with what travels is too large
    world = open_world()
    world.emulator.create_index(SMALL)
    large = row("large", left="l", secret="x" * 39_960)
    world.emulator.write(SMALL, "alma", [*(side(n, secret=f"s{n}") for n in range(60)), large])
    world.start(workers=1)
    job_id = applied(world, SMALL, "first", writers="delta")
    reason = world.until("it is parked", lambda: world.parked(job_id).get(("alma", "large")))
    assert reason.startswith("its metadata would be over 40,000 bytes; 40,0")
    left_behind.accept_records(world.fleet.database, job_id, WHO, None, confirmed=1_000)

    # When it writes more, a later pass takes that along
    world.reaches(job_id, JobState.VERIFIED)
    world.emulator.write(SMALL, "alma", [side(n, secret="new") for n in range(50, 70)])
    acts.another_pass(world.fleet.database, job_id, WHO)
    world.until("another pass is verified", lambda: world.job(job_id).passes > 2)
    world.reaches(job_id, JobState.VERIFIED)
    assert_swapped(world.emulator.records("first", "alma"), 70)

    # And a target that lost a record and holds another as its source does is repaired
    world.emulator.delete("first", "alma", "r-1")
    world.emulator.write("first", "alma", [side(2, secret="s2")])
    acts.verify(world.fleet.database, job_id, WHO)
    world.until("it is repaired", lambda: "r-1" in world.emulator.records("first", "alma"))
    world.reaches(job_id, JobState.VERIFIED)
    assert_swapped(world.emulator.records("first", "alma"), 70)

    # Then a job that brings them on with the same map swaps nothing back
    acts.cancel(world.fleet.database, job_id, WHO)
    world.reaches(job_id, JobState.CANCELLED)
    other = applied(world, "first", "second")
    world.reaches(other, JobState.VERIFIED)
    assert_swapped(world.emulator.records("second", "alma"), 70)
