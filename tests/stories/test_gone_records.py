"""A record is called gone only when that is certain: reads lag, and an answer without it proves nothing at first."""

from datetime import timedelta

import pytest

from orchestrator.core.states import BatchKind, BatchState, JobState
from tests.stories.emulated import as_twins, assert_same_index, row
from tests.stories.world import SMALL, OpenWorld, World

pytestmark = pytest.mark.story


def test_a_record_deleted_between_listing_and_fetch_is_gone_only_after_the_wait_and_a_fresh_listing(
    open_world: OpenWorld,
) -> None:
    world = open_world(freshness_wait_seconds=2)
    before = world.fill(alma=20, bruno=10)
    # Given a batch whose first fetch is slow
    plan = world.plan(SMALL)
    world.emulator.fault(operation="fetch", namespace="alma", delay_ms=5_000, count=1)
    world.start(workers=1)
    job_id = world.apply(plan)
    # When a record that was listed is deleted before that fetch is carried out
    world.until("the batch is leased", lambda: leased(world, job_id, "alma"))
    world.emulator.delete(SMALL, "alma", "alma-7")
    deleted_at = world.emulator.last_call()
    del before["alma"]["alma-7"]
    # Then it counts as gone, and everything else is copied and verified
    world.reaches(job_id, JobState.VERIFIED)
    move = world.move(job_id, "alma")
    assert (move.listed, move.written, move.gone) == (20, 19, 1)
    world.assert_accounts(job_id)
    assert_same_index(world.emulator.dump(SMALL), {**before, **as_twins(before)})
    # And only because it was absent twice, the freshness wait between, and then from a fresh listing
    calls = world.emulator.calls(namespace="alma", since=deleted_at)
    asked = [call for call in calls if call["operation"] == "fetch" and "alma-7" in call["ids"]]
    first = next(call for call in calls if call["operation"] == "list" and call["seq"] > asked[-1]["seq"])
    assert len(asked) >= 2
    assert first["time"] - asked[0]["time"] >= 2


def test_an_id_that_a_lagging_fetch_omits_for_a_while_is_not_lost(open_world: OpenWorld) -> None:
    world = open_world(freshness_wait_seconds=120)
    before = world.fill(alma=20, bruno=10)
    world.start(workers=1)
    world.until("the worker answers", lambda: world.fleet.celery.control.ping(timeout=0.5))
    # Given a record so new that it is listed but not yet found by a fetch
    world.emulator.fault(operation="fetch", namespace="alma", lag_ms=3_600_000)
    late = row("late", chunk_text="just written")
    world.emulator.write(SMALL, "alma", [late])
    before["alma"]["late"] = late
    # When the job lists it and fetches without it
    job_id = world.apply(world.plan(SMALL))
    world.later(by=timedelta(seconds=120))
    world.until("it waits for the record", lambda: "does not return 1 listed ids yet" in world.waits(job_id))
    # Then the record is copied once it is answered, and none is called gone
    world.emulator.no_faults()
    world.reaches(job_id, JobState.VERIFIED)
    move = world.move(job_id, "alma")
    assert (move.listed, move.written, move.gone, move.parked) == (21, 21, 0, 0)
    assert_same_index(world.emulator.dump(SMALL), {**before, **as_twins(before)})


def test_a_listing_that_ends_too_early_loses_nothing(open_world: OpenWorld) -> None:
    world = open_world()
    before = world.fill(alma=250)
    job_id = world.apply(world.plan(SMALL))
    # Given a service whose first page of ids says that it is the last one
    world.emulator.fault(operation="list", namespace="alma", lose_token=True, count=1)
    # When the namespace is listed, then what was planned is missed and looked for
    world.start(workers=1)
    world.reaches(job_id, JobState.VERIFIED)
    assert world.move(job_id, "alma").written == 250
    assert_same_index(world.emulator.dump(SMALL), {**before, **as_twins(before)})


def leased(world: World, job_id: int, source: str) -> bool:
    batches = world.batches(job_id, BatchState.LEASED, kind=BatchKind.COPY)
    return any(batch["source"] == source for batch in batches)
