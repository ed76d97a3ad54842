"""Readers that use an alias already: a cut-over leads it to the new namespace, a reversal back."""

import pytest

from orchestrator.core.states import JobState
from orchestrator.services import acts, cut_over
from tests.stories.emulated import row, target_of
from tests.stories.world import SMALL, WHO, OpenWorld, World
from vecfleet.stores.base import Aliased

pytestmark = pytest.mark.story


def aliases(world: World) -> dict[str, str]:
    index = world.fleet.store.open(world.fleet.store.describe(SMALL))
    assert isinstance(index, Aliased)
    return index.aliases()


def migrated_from(world: World, name: str) -> object:
    """Return what a reader finds under this name: the record as it was, or as it was migrated."""
    index = world.fleet.store.open(world.fleet.store.describe(SMALL))
    return index.fetch(name, ["alma-0"]).records["alma-0"].metadata.get("migrated_from")


def test_an_alias_leads_where_its_readers_are_and_back_and_does_not_hold_up_the_clean_up(open_world: OpenWorld) -> None:
    # Given readers who use an alias of one namespace, and others that have nothing to do with it
    world = open_world()
    world.fill(alma=20, bruno=5, carla=5)
    world.emulator.write(SMALL, "elsewhere", [row("x")])
    for name, to in (("live", "alma"), ("also-live", "alma"), ("other", "elsewhere"), ("moved-by-hand", "bruno")):
        world.emulator.alias(SMALL, name, to)
    world.start(workers=1)
    job_id = world.apply(world.plan(SMALL, skip=("elsewhere",), dwell_seconds=0))
    world.reaches(job_id, JobState.VERIFIED)
    assert migrated_from(world, "live") is None

    # When all readers are cut over
    cut_over.cut_over(world.fleet, job_id, WHO, 100)
    # Then the alias leads to the new namespace, and every other stays
    assert migrated_from(world, "live") == migrated_from(world, "also-live") == "alma"
    everywhere = {
        "live": target_of("alma"),
        "also-live": target_of("alma"),
        "other": "elsewhere",
        "moved-by-hand": target_of("bruno"),
    }
    assert aliases(world) == everywhere

    # When somebody leads one elsewhere and removes another, and the cut-over is reversed
    index = world.fleet.store.open(world.fleet.store.describe(SMALL))
    assert isinstance(index, Aliased)
    index.point_alias("moved-by-hand", "elsewhere")
    index.point_alias("also-live", None)
    cut_over.reverse(world.fleet, job_id, WHO)
    # Then what followed the readers goes back with them, and what a person did stands
    assert aliases(world) == {"live": "alma", "other": "elsewhere", "moved-by-hand": "elsewhere"}
    assert migrated_from(world, "live") is None

    # And when it is proven again and a few per cent are moved, the aliases of those alone are led along
    acts.verify(world.fleet.database, job_id, WHO)
    world.reaches(job_id, JobState.VERIFIED)
    routes = cut_over.cut_over(world.fleet, job_id, WHO, 5)
    alma = next(route for route in routes if route.new_namespace == target_of("alma"))
    assert aliases(world)["live"] == (target_of("alma") if alma.side == "new" else "alma")

    # And clean-up finds no alias in its way
    cut_over.cut_over(world.fleet, job_id, WHO, 100)
    acts.clean_up(world.fleet.database, job_id, WHO, by_ids=False)
    world.reaches(job_id, JobState.CLEANED)
    assert migrated_from(world, "live") == "alma"


def test_a_roll_back_leads_them_back_first_where_a_reversal_died_before_it_could(open_world: OpenWorld) -> None:
    world = open_world()
    world.fill(alma=20)
    world.emulator.alias(SMALL, "live", "alma")
    world.start(workers=1)
    job_id = world.apply(world.plan(SMALL, dwell_seconds=0))
    world.reaches(job_id, JobState.VERIFIED)
    cut_over.cut_over(world.fleet, job_id, WHO, 100)

    # When the reversal is on record and whoever asked for it died then
    acts.reverse(world.fleet.database, job_id, WHO)
    assert aliases(world)["live"] == target_of("alma")
    cut_over.roll_back(world.fleet, job_id, WHO, None)

    # Then readers find the old records, and none of the new ones is left
    assert aliases(world)["live"] == "alma"
    world.reaches(job_id, JobState.ROLLED_BACK)
    assert migrated_from(world, "live") is None
    assert not world.emulator.dump(SMALL).get(target_of("alma"))
