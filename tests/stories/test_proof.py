"""Verification finds every difference, whatever caused it; repair restores our records and leaves others to people."""

from datetime import timedelta

import pytest

from orchestrator.core.states import JobState
from orchestrator.services import acts
from tests.stories.emulated import as_twins, assert_same_index, row, target_of
from tests.stories.world import SMALL, WHO, OpenWorld

pytestmark = pytest.mark.story


@pytest.mark.parametrize("loss", ["partial", "vanish"])
def test_records_that_the_service_acknowledged_and_did_not_keep_are_found_and_copied_again(
    open_world: OpenWorld, loss: str
) -> None:
    world = open_world()
    before = world.fill(alma=30, bruno=20)
    # Given a service that loses part of an upsert, or a whole namespace behind it
    if loss == "partial":
        world.emulator.fault(operation="upsert", namespace=target_of("alma"), partial=0.5, count=1)
    else:
        world.emulator.fault(operation="fetch", namespace=target_of("alma"), vanish=True, count=1)
    # When the job runs
    world.start(workers=1)
    job_id = world.apply(world.plan(SMALL))
    job = world.reaches(job_id, JobState.VERIFIED)
    # Then the loss was found and repaired, once
    assert job.repairs == 1
    assert_same_index(world.emulator.dump(SMALL), {**before, **as_twins(before)})
    world.assert_accounts(job_id)


def test_answers_that_lag_behind_are_waited_for_and_nothing_is_repaired(open_world: OpenWorld) -> None:
    world = open_world(freshness_wait_seconds=120)
    before = world.fill(alma=30, bruno=20)
    # Given a service whose reads do not show yet what was written
    world.emulator.fault(operation="fetch", namespace=target_of("alma"), lag_ms=3_600_000)
    world.emulator.fault(operation="list", namespace=target_of("bruno"), lag_ms=3_600_000)
    # When the job runs, it waits for them and says so
    world.start(workers=1)
    job_id = world.apply(world.plan(SMALL))
    world.later(by=timedelta(seconds=120))  # nobody wrote for so long
    world.until("it waits for fresh answers", lambda: "not yet" in world.waits(job_id))
    world.emulator.no_faults()
    job = world.reaches(job_id, JobState.VERIFIED)
    # Then all is verified, and nothing was written twice
    assert job.repairs == 0
    upserts = world.emulator.calls(operation="upsert", since=world.filled_at)
    assert sum(len(call["ids"]) for call in upserts) == 50
    assert_same_index(world.emulator.dump(SMALL), {**before, **as_twins(before)})


def test_a_record_that_somebody_else_put_into_a_target_is_left_to_a_person(open_world: OpenWorld) -> None:
    world = open_world()
    before = world.fill(alma=30, bruno=20)
    # Given a target into which somebody writes while its check is under way
    world.emulator.fault(operation="list", namespace=target_of("alma"), status=503)
    world.start(workers=1)
    job_id = world.apply(world.plan(SMALL))
    world.until("the target is there", lambda: world.emulator.records(SMALL, target_of("alma")))
    world.emulator.write(SMALL, target_of("alma"), [row("foreign", note="not ours")])
    world.emulator.no_faults()
    # When it is verified
    job = world.reaches(job_id, JobState.NEEDS_ATTENTION)
    # Then the job says so, and does not touch what is not its own
    assert job.reason == "1 target differs from its sources"
    verdict = world.targets(job_id)[target_of("alma")].verdict
    assert verdict is not None
    assert (verdict["missing"], verdict["extra"], verdict["different"]) == (0, 1, 0)
    assert verdict["samples"] == [{"kind": "extra", "id": "foreign"}]
    assert "foreign" in world.emulator.records(SMALL, target_of("alma"))
    # And when a person has taken it away and asks again, all is verified
    world.emulator.delete(SMALL, target_of("alma"), "foreign")
    acts.verify(world.fleet.database, job_id, WHO)
    world.reaches(job_id, JobState.VERIFIED)
    assert_same_index(world.emulator.dump(SMALL), {**before, **as_twins(before)})
