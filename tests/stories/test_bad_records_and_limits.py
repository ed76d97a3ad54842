"""A record that cannot be copied is set aside alone; one that is refused for now is waited for, by batch or by job."""

import pytest

from orchestrator.core.progress import progress
from orchestrator.core.states import BatchKind, BatchState, JobState
from orchestrator.ledger import status as job_status
from orchestrator.services import acts
from tests.stories.emulated import as_twins, assert_same_index, row, target_of
from tests.stories.world import SEEDS, SMALL, WHO, OpenWorld, World

pytestmark = pytest.mark.story

MONTHLY = (
    "You've reached your write unit limit for the current month (2000000). To continue writing data, upgrade your plan."
)


def test_a_poisoned_record_is_parked_alone_with_its_reason_until_it_is_fixed_and_retried(
    open_world: OpenWorld,
) -> None:
    world = open_world()
    before = world.fill(alma=40, bruno=10)
    # Given one record whose metadata would outgrow the limit, and one that holds another value under a key of ours
    huge = row("huge", chunk_text="x" * (40_000 - 40))
    claimed = row("claimed", creator_id="somebody else")
    world.emulator.write(SMALL, "alma", [huge, claimed])
    # When the job runs
    world.start(workers=1)
    job_id = world.apply(world.plan(SMALL, conflicts="fail"))
    job = world.reaches(job_id, JobState.NEEDS_ATTENTION)
    # Then these two are parked, each with its reason, and their neighbours in the batch are copied
    assert job.reason == "2 parked records wait for a decision"
    assert world.parked(job_id) == {
        ("alma", "huge"): "its metadata would be over 40,000 bytes",
        ("alma", "claimed"): "its metadata key 'creator_id' already holds another value",
    }
    assert_same_index(world.emulator.dump(SMALL), {**world.emulator.dump(SMALL), **as_twins(before)})
    world.assert_accounts(job_id)
    # And it is said that only another plan moves the second one
    with world.fleet.database.begin() as connection:
        [told] = progress(job_status.reading(connection, job_id, namespaces=0)).waits
    assert told.startswith("1 parked record holds another value in a key that the plan adds")
    assert "`vecfleet rollback 1`, then the plan again, with --conflicts keep" in told
    # And when a person fixes them at the source and retries, the job goes on to the end
    fixed = [row("huge", chunk_text="short"), row("claimed")]
    world.emulator.write(SMALL, "alma", fixed)
    acts.retry(world.fleet.database, job_id, WHO, "parked")
    world.reaches(job_id, JobState.VERIFIED)
    before["alma"] |= {one.id: one for one in fixed}
    assert_same_index(world.emulator.dump(SMALL), {**before, **as_twins(before)})
    assert world.parked(job_id) == {}
    world.assert_accounts(job_id)


def test_a_namespace_that_takes_nothing_parks_its_batch_with_one_reason_and_is_copied_once_it_does(
    open_world: OpenWorld,
) -> None:
    world = open_world()
    before = world.fill(alma=20, bruno=60)
    # Given a namespace of which the service refuses every upsert alike
    world.emulator.fault(operation="upsert", namespace=target_of("bruno"), status=400, message="this field is no list")
    world.start(workers=1)
    job_id = world.apply(world.plan(SMALL))
    job = world.reaches(job_id, JobState.NEEDS_ATTENTION)
    # Then it is told once, after a few calls, and nothing of it counts as done
    assert job.reason == "1 batch is parked"
    [failed] = world.batches(job_id, BatchState.PARKED)
    assert failed["error_class"] == "RefusedAlike" and "this field is no list" in failed["error_text"]
    assert world.emulator.struck() <= 6
    with world.fleet.database.begin() as connection:
        seen = progress(job_status.reading(connection, job_id, namespaces=0))
    [group] = seen.reading.reasons
    assert (group.count, group.records, group.source) == (1, 60, "bruno")
    assert seen.done == 20
    # And when its cause is gone, a retry copies it
    world.emulator.no_faults()
    acts.retry(world.fleet.database, job_id, WHO, "failed")
    world.reaches(job_id, JobState.VERIFIED)
    assert_same_index(world.emulator.dump(SMALL), {**before, **as_twins(before)})
    world.assert_accounts(job_id)


def test_retry_failed_runs_the_failed_batches_again_and_only_those(open_world: OpenWorld) -> None:
    world = open_world()
    before = world.fill(alma=20, bruno=30, chiara=10)
    # Given a job one of whose batches the service refused for good
    world.emulator.fault(operation="upsert", namespace=target_of("bruno"), status=409, message="the target is locked")
    world.start(workers=1)
    job_id = world.apply(world.plan(SMALL))
    job = world.reaches(job_id, JobState.NEEDS_ATTENTION)
    assert job.reason == "1 batch is parked"
    [failed] = world.batches(job_id, BatchState.PARKED)
    assert (failed["source"], failed["error_class"]) == ("bruno", "Conflict")
    assert "the target is locked" in failed["error_text"]
    world.assert_accounts(job_id)
    # When the reason is gone and a person retries what failed
    world.emulator.no_faults()
    since = world.emulator.last_call()
    assert acts.retry(world.fleet.database, job_id, WHO, "failed") == 1
    world.reaches(job_id, JobState.VERIFIED)
    # Then that batch was copied, once, and no other
    [upsert] = [call for call in world.emulator.writes(since=since) if call["operation"] == "upsert"]
    assert upsert["namespace"] == target_of("bruno")
    assert set(upsert["ids"]) == set(before["bruno"])
    assert {batch["attempts"] for batch in world.batches(job_id, kind=BatchKind.COPY)} == {1}
    assert_same_index(world.emulator.dump(SMALL), {**before, **as_twins(before)})


def test_a_storm_of_429_slows_the_fleet_and_ends_nothing(seeds: World) -> None:
    # Given a service that refuses half of all upserts and many reads for a second each
    before = seeds.emulator.dump(SEEDS)
    seeds.emulator.fault(operation="upsert", status=429, probability=0.5, seed=1, count=40)
    seeds.emulator.fault(operation="fetch", status=429, retry_after=1, probability=0.3, seed=2, count=15)
    # When the job runs
    seeds.start(workers=2)
    job_id = seeds.apply(seeds.plan(conflicts="overwrite"))
    job = seeds.reaches(job_id, JobState.VERIFIED, JobState.NEEDS_ATTENTION, JobState.PAUSED)
    # Then it was throttled often, and ended well
    assert job.state is JobState.VERIFIED, seeds.explain()
    assert seeds.emulator.struck() > 20
    assert not seeds.batches(job_id, BatchState.PARKED)
    assert_same_index(seeds.emulator.dump(SEEDS), {**before, **as_twins(before)})
    seeds.assert_accounts(job_id)


@pytest.mark.parametrize(
    ("status", "message", "sentence"),
    [
        (429, MONTHLY, "raise the plan or the spending limit, or wait for the next period; then resume the job"),
        (429, "You've used up the egress of your plan for the current month", "wait for the next period"),
        (401, "Invalid API key", "check PINECONE_API_KEY"),
        (403, "This key may not write", "may read and write"),
        (403, "You've reached the max storage limit of your project", "raise the plan or the spending limit"),
        (400, "Vector dimension 8 does not match the dimension of the index 16", "plan anew"),
    ],
)
def test_a_quota_a_refused_key_or_another_dimension_pauses_the_job_with_a_remedy(
    open_world: OpenWorld, status: int, message: str, sentence: str
) -> None:
    world = open_world()
    before = world.fill(alma=20, bruno=30)
    # Given a service that refuses every upsert until a person acts
    world.emulator.fault(operation="upsert", status=status, message=message)
    world.start(workers=1)
    job_id = world.apply(world.plan(SMALL))
    # When the fleet meets it, the job pauses and says what was said and what helps
    job = world.reaches(job_id, JobState.PAUSED)
    assert message in str(job.reason)
    assert sentence in str(job.reason)
    # And nothing was parked and no attempt spent
    assert not world.batches(job_id, BatchState.PARKED)
    assert {batch["attempts"] for batch in world.batches(job_id, kind=BatchKind.COPY)} == {0}
    # And when a person has acted and resumes it, it goes on to the end
    world.emulator.no_faults()
    acts.resume(world.fleet.database, job_id, WHO)
    world.reaches(job_id, JobState.VERIFIED)
    assert_same_index(world.emulator.dump(SMALL), {**before, **as_twins(before)})


@pytest.mark.parametrize("step", [JobState.COPIED, JobState.CLEANING, JobState.ROLLING_BACK])
def test_a_key_that_is_refused_later_pauses_the_job_where_it_is_and_it_goes_on_from_there(
    open_world: OpenWorld, step: JobState
) -> None:
    world = open_world()
    before = world.fill(alma=20, bruno=30)
    world.start(workers=1)
    # Given a job that was copied, whose key is then revoked
    if step is JobState.COPIED:
        world.emulator.fault(operation="fetch", namespace=target_of("alma"), status=401, message="Invalid API key")
    job_id = world.apply(world.plan(SMALL))
    if step is not JobState.COPIED:
        world.reaches(job_id, JobState.VERIFIED)
        world.emulator.fault(operation="fetch", namespace=target_of("alma"), status=401, message="Invalid API key")
    if step is JobState.CLEANING:
        acts.cut_over(world.fleet.database, job_id, WHO, 100)
        acts.clean_up(world.fleet.database, job_id, WHO, by_ids=False)
    elif step is JobState.ROLLING_BACK:
        acts.roll_back(world.fleet.database, job_id, WHO, None)
    # When the fleet meets it, the job pauses there
    job = world.reaches(job_id, JobState.PAUSED)
    assert "Invalid API key" in str(job.reason)
    assert world.emulator.records(SMALL, "alma") == before["alma"]
    # Then with the key fixed it goes on from there, to the end
    world.emulator.no_faults()
    acts.resume(world.fleet.database, job_id, WHO)
    ends = {JobState.COPIED: JobState.VERIFIED, JobState.CLEANING: JobState.CLEANED}
    world.reaches(job_id, ends.get(step, JobState.ROLLED_BACK))
    left = {
        JobState.COPIED: {**before, **as_twins(before)},
        JobState.CLEANING: as_twins(before),
        JobState.ROLLING_BACK: before,
    }
    assert_same_index(world.emulator.dump(SMALL), left[step])
