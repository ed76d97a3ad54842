"""After clean-up there is a way back: every record where it was, and as it was."""

from typing import Literal

import pytest
import sqlalchemy as sa

from migrations.estimating import Prices
from migrations.reversing import plan_reverse
from orchestrator.core.states import JobState
from orchestrator.services import acts, purge, report
from tests.stories.emulated import assert_same_index, row, target_of
from tests.stories.world import NOW, SEEDS, SMALL, WHO, OpenWorld, World
from vecfleet.errors import NameIsAlias
from vecfleet.stores.base import Aliased

pytestmark = pytest.mark.story


def test_a_cleaned_up_migration_is_taken_back_to_the_byte(seeds: World) -> None:
    # Given the first user's index, migrated and cleaned up; some records held keys that the migration set
    before = seeds.emulator.dump(SEEDS)
    seeds.start(workers=2)
    original = seeds.plan(conflicts="overwrite")
    job_id = seeds.apply(original)
    seeds.reaches(job_id, JobState.VERIFIED)
    acts.cut_over(seeds.fleet.database, job_id, WHO, 100)
    acts.clean_up(seeds.fleet.database, job_id, WHO, by_ids=False)
    seeds.reaches(job_id, JobState.CLEANED)
    told = report.build(seeds.fleet.database, seeds.fleet.store_named, Prices(), job_id)

    # And a month later what it needed while it ran was let go of
    with seeds.fleet.database.begin() as connection:
        connection.execute(sa.text("UPDATE job SET ended_at = ended_at - interval '31 days'"))
    assert purge.purge(seeds.fleet.database, job_id, WHO) > 0
    again = report.build(seeds.fleet.database, seeds.fleet.store_named, Prices(), job_id)
    assert (again.verdicts, again.reading.totals) == (told.verdicts, told.reading.totals)
    assert (again.spent.requests, again.spent.egress_bytes) == (told.spent.requests, told.spent.egress_bytes)
    assert again.spent.write_units == pytest.approx(told.spent.write_units)

    # When the reverse plan is applied, verified and cleaned up
    targets = list(seeds.targets(job_id))
    back = seeds.apply(plan_reverse(seeds.fleet.store, original, targets, prices=Prices(), now=NOW))
    seeds.reaches(back, JobState.VERIFIED)
    acts.clean_up(seeds.fleet.database, back, WHO, by_ids=False)
    seeds.reaches(back, JobState.CLEANED)

    # Then the index is as it was before all this, every namespace and every byte
    assert_same_index(seeds.emulator.dump(SEEDS), before)
    seeds.assert_accounts(back)


@pytest.mark.parametrize("policy", ["fail", "keep"])
def test_a_record_that_names_another_source_goes_back_to_where_it_was(
    open_world: OpenWorld, policy: Literal["fail", "keep"]
) -> None:
    # Given a record in alma that says it came from bruno, which is a source of the same plan
    world = open_world()
    world.fill(alma=3, bruno=3)
    strays = [
        row("stray", migrated_from="bruno", note="somebody's"),
        row("odd", migrated_from=7.0, _vecfleet_prev='{"migrated_from":"bruno"}'),
    ]
    world.emulator.write(SMALL, "alma", strays)
    before = world.emulator.dump(SMALL)
    world.start(workers=1)

    # When everything is migrated and cleaned up, and taken back and cleaned up
    original = world.plan(SMALL, conflicts=policy)
    job_id = world.apply(original)
    world.reaches(job_id, JobState.VERIFIED)
    acts.cut_over(world.fleet.database, job_id, WHO, 100)
    acts.clean_up(world.fleet.database, job_id, WHO, by_ids=False)
    world.reaches(job_id, JobState.CLEANED)
    back = world.apply(plan_reverse(world.fleet.store, original, list(world.targets(job_id)), prices=Prices(), now=NOW))
    world.reaches(back, JobState.VERIFIED)
    acts.clean_up(world.fleet.database, back, WHO, by_ids=False)
    world.reaches(back, JobState.CLEANED)

    # Then each record is in the namespace it was in, byte for byte
    assert_same_index(world.emulator.dump(SMALL), before)
    world.assert_accounts(back)


def test_a_job_that_left_aliases_is_taken_back_with_them(open_world: OpenWorld) -> None:
    # Given a job that was cleaned up and left the old names as aliases
    world = open_world()
    before = world.fill(alma=5, bruno=3)
    world.start(workers=1)
    original = world.plan(SMALL, leave_alias=True)
    job_id = world.apply(original)
    world.reaches(job_id, JobState.VERIFIED)
    acts.cut_over(world.fleet.database, job_id, WHO, 100)
    acts.clean_up(world.fleet.database, job_id, WHO, by_ids=False)
    world.reaches(job_id, JobState.CLEANED)
    index = world.fleet.store.open(world.fleet.store.describe(SMALL))
    assert isinstance(index, Aliased)
    assert index.aliases() == {"alma": target_of("alma"), "bruno": target_of("bruno")}

    # Whose names are no namespaces
    with pytest.raises(NameIsAlias, match="'alma' is the name of an alias, which leads to"):
        index.create_namespace("alma", None)

    # When it is taken back, and one of the aliases leads elsewhere by the time it is to be removed
    reverse = plan_reverse(world.fleet.store, original, list(world.targets(job_id)), prices=Prices(), now=NOW)
    assert any(
        "these names are aliases that lead to this plan's sources: 'alma', 'bruno'" in one for one in reverse.warnings
    )
    world.kill(world.workers[0])
    back = world.apply(reverse)
    index.point_alias("bruno", target_of("alma"))
    world.start_worker()
    world.reaches(back, JobState.NEEDS_ATTENTION)
    assert any("'bruno' is the name of an alias" in str(one["error_text"]) for one in world.batches(back))

    # Then a retry goes on once it is out of the way, and all is as it was
    index.point_alias("bruno", None)
    acts.retry(world.fleet.database, back, WHO, "failed")
    world.reaches(back, JobState.VERIFIED)
    acts.clean_up(world.fleet.database, back, WHO, by_ids=False)
    world.reaches(back, JobState.CLEANED)
    assert_same_index(world.emulator.dump(SMALL), before)
    assert index.aliases() == {}
