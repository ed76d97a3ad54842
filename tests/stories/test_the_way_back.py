"""After clean-up there is a way back: every record where it was, and as it was."""

import pytest
import sqlalchemy as sa

from migrations.estimating import Prices
from migrations.reversing import plan_reverse
from orchestrator import purging, reports, services
from orchestrator.states import JobState
from tests.stories.emulated import assert_same_index
from tests.stories.world import NOW, SEEDS, WHO, World

pytestmark = pytest.mark.story


def test_a_cleaned_up_migration_is_taken_back_to_the_byte(seeds: World) -> None:
    # Given the first user's index, migrated and cleaned up; some records held keys that the migration set
    before = seeds.emulator.dump(SEEDS)
    seeds.start(workers=2)
    original = seeds.plan(conflicts="overwrite")
    job_id = seeds.apply(original)
    seeds.reaches(job_id, JobState.VERIFIED)
    services.cut_over(seeds.fleet.database, job_id, WHO, 100)
    services.clean_up(seeds.fleet.database, job_id, WHO, by_ids=False)
    seeds.reaches(job_id, JobState.CLEANED)
    told = reports.build(seeds.fleet.database, seeds.fleet.store_named, Prices(), job_id)

    # And a month later what it needed while it ran was let go of
    with seeds.fleet.database.begin() as connection:
        connection.execute(sa.text("UPDATE job SET ended_at = ended_at - interval '31 days'"))
    assert purging.purge(seeds.fleet.database, job_id, WHO) > 0
    again = reports.build(seeds.fleet.database, seeds.fleet.store_named, Prices(), job_id)
    assert (again.verdicts, again.reading.totals) == (told.verdicts, told.reading.totals)
    assert (again.spent.requests, again.spent.egress_bytes) == (told.spent.requests, told.spent.egress_bytes)
    assert again.spent.write_units == pytest.approx(told.spent.write_units)

    # When the reverse plan is applied, verified and cleaned up
    targets = list(seeds.targets(job_id))
    back = seeds.apply(plan_reverse(seeds.fleet.store, original, targets, prices=Prices(), now=NOW))
    seeds.reaches(back, JobState.VERIFIED)
    services.clean_up(seeds.fleet.database, back, WHO, by_ids=False)
    seeds.reaches(back, JobState.CLEANED)

    # Then the index is as it was before all this, every namespace and every byte
    assert_same_index(seeds.emulator.dump(SEEDS), before)
    seeds.assert_accounts(back)
