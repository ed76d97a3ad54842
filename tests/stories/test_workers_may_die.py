"""Any process may die, or freeze, at any time: the job table is the truth, and every step may run twice."""

from typing import Any

import pytest
import redis

from orchestrator.core.states import BatchKind, BatchState, JobState
from orchestrator.services import acts
from tests.stories.emulated import as_twins, assert_same_index, target_of
from tests.stories.world import PATIENCE_S, SEEDS, SMALL, WHO, OpenWorld, World

pytestmark = pytest.mark.story

# A call that is not answered is waited for, and its lease lasts, until the story has looked, however busy the machine.
LONG = {"lease_seconds": 240, "request_deadline_seconds": 120}


def test_a_worker_killed_between_its_upsert_and_the_record_of_it_costs_nothing(
    open_world: OpenWorld, redis_url: str
) -> None:
    world = open_world("--load", "seeds", **LONG)
    before = world.emulator.dump(SEEDS)
    # Given two workers, one of which waits for the answer to an upsert that the service has carried out
    world.emulator.fault(operation="upsert", apply_first=True, hang=True, count=1)
    world.emulator.fault(operation="upsert", delay_ms=3_000)
    world.start(workers=2)
    job_id = world.apply(world.plan(conflicts="overwrite"))
    call = world.until("an upsert is carried out and not answered", lambda: unanswered(world))
    batch = held_batch(world, job_id, call)
    # When that worker is killed, holding its lease, and Redis loses everything while batches are on their way
    killed = world.holder(batch)
    world.until("batches are on their way", lambda: world.batches(job_id, BatchState.DISPATCHED))
    world.kill(killed)
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    [left] = [one for one in world.batches(job_id, BatchState.LEASED) if one["id"] == batch["id"]]
    assert left["lease_owner"] == batch["lease_owner"], "the upsert was on record already: nothing was lost"
    # Then, when its lease is over, the other worker finishes the job
    world.emulator.no_faults()
    world.lapse(killed)
    world.reaches(job_id, JobState.VERIFIED)
    # And every record is there, byte for byte, none extra, none counted twice
    assert_same_index(world.emulator.dump(SEEDS), {**before, **as_twins(before)})
    world.assert_accounts(job_id)
    assert sum(move.written for move in world.moves(job_id)) == 805
    # And the interrupted batch was the same upsert twice
    again = [one["ids"] for one in world.emulator.calls(operation="upsert") if set(one["ids"]) & set(call["ids"])]
    assert len([ids for ids in again if set(ids) == set(call["ids"])]) >= 2


def test_a_frozen_worker_counts_nothing_twice_and_its_late_writes_are_checked(
    open_world: OpenWorld,
) -> None:
    world = open_world(**LONG)
    before = world.fill(alma=30, bruno=20)
    target = target_of("alma")
    # Given a worker whose upsert is slow to be carried out
    world.emulator.fault(operation="upsert", namespace=target, delay_ms=8_000, count=1)
    world.start(workers=2)
    job_id = world.apply(world.plan(SMALL))
    batch = world.until("the service has it", lambda: world.emulator.struck() and writing(world, job_id, target))
    # When it is frozen until its lease has run out, another worker has copied the batch, and all is verified
    frozen = world.holder(batch)
    world.freeze(frozen)
    world.lapse(frozen)
    world.reaches(job_id, JobState.VERIFIED)
    world.until("both upserts were carried out", lambda: len(carried_out(world, target)) == 2)
    verdict = world.targets(job_id)[target]
    # And it wakes up to an upsert that was carried out meanwhile
    world.thaw(frozen)
    # Then nothing it does is recorded, but the verdict on its target is made anew
    world.until("its late write voided the verdict", lambda: world.targets(job_id)[target].sequence > verdict.sequence)
    world.until("the target is verified again", lambda: verified_again(world, job_id, target))
    world.reaches(job_id, JobState.VERIFIED)
    # And nothing was lost, doubled or counted twice
    assert_same_index(world.emulator.dump(SMALL), {**before, **as_twins(before)})
    world.assert_accounts(job_id)
    assert sum(move.written for move in world.moves(job_id)) == 50
    [copied] = [one for one in world.batches(job_id, kind=BatchKind.COPY) if one["id"] == batch["id"]]
    assert (copied["state"], copied["attempts"]) == (BatchState.DONE, 2)


def test_a_cancelled_job_whose_worker_died_after_its_upsert_is_rolled_back_to_the_byte(open_world: OpenWorld) -> None:
    world = open_world(**LONG)
    before = world.fill(alma=30, bruno=20)
    # Given a worker that died after an upsert was carried out and before it was on record
    world.emulator.fault(operation="upsert", apply_first=True, hang=True, count=1)
    world.start(workers=1)
    job_id = world.apply(world.plan(SMALL))
    call = world.until("an upsert is carried out and not answered", lambda: unanswered(world))
    killed = world.holder(held_batch(world, job_id, call))
    # A namespace of which nobody knows who made it would be kept: one whose maker dies before it is on record.
    world.until("both namespaces are on record as the job's", lambda: made(world, job_id) == 2)
    world.kill(killed)
    # When a person cancels the job and rolls it back
    acts.cancel(world.fleet.database, job_id, WHO)
    world.lapse(killed)
    world.reaches(job_id, JobState.CANCELLED)
    assert world.emulator.records(SMALL, call["namespace"])
    acts.roll_back(world.fleet.database, job_id, WHO, None)
    world.start_worker()
    world.reaches(job_id, JobState.ROLLED_BACK)
    # Then what nobody had on record is gone too
    assert_same_index(world.emulator.dump(SMALL), before)


@pytest.mark.parametrize(("by_ids", "operation"), [(False, "delete_namespace"), (True, "delete")])
def test_a_worker_killed_between_a_deletion_and_the_record_of_it_costs_nothing(
    open_world: OpenWorld, by_ids: bool, operation: str
) -> None:
    world = open_world(**LONG)
    before = world.fill(alma=30, bruno=20, chiara=10)
    world.start(workers=2)
    job_id = world.apply(world.plan(SMALL))
    world.reaches(job_id, JobState.VERIFIED)
    acts.cut_over(world.fleet.database, job_id, WHO, 100)
    # Given a worker that waits for the answer to a deletion that the service has carried out
    world.emulator.fault(operation=operation, apply_first=True, hang=True, count=1)
    acts.clean_up(world.fleet.database, job_id, WHO, by_ids=by_ids)
    call = world.until("a deletion is carried out and not answered", lambda: unanswered(world, operation))
    [batch] = [one for one in world.batches(job_id, BatchState.LEASED) if one["source"] == call["namespace"]]
    # When it is killed
    killed = world.holder(batch)
    world.kill(killed)
    world.lapse(killed)
    # Then the other worker ends the clean-up, and every record is where it should be
    world.reaches(job_id, JobState.CLEANED)
    there = world.emulator.dump(SMALL)
    assert_same_index({name: rows for name, rows in there.items() if rows}, as_twins(before))
    assert sum(move.written for move in world.moves(job_id)) == 60


def test_a_worker_that_is_asked_to_stop_ends_what_it_has_begun(seeds: World) -> None:
    # Given two workers in the middle of a job
    before = seeds.emulator.dump(SEEDS)
    seeds.emulator.fault(operation="upsert", delay_ms=200)
    seeds.start(workers=2).until_all_answer()
    job_id = seeds.apply(seeds.plan(conflicts="overwrite"))
    held = seeds.until("both work", lambda: len({one["lease_owner"] for one in copying(seeds, job_id)}) == 2)
    assert held
    # When one is asked to stop
    seeds.workers[0].stop(PATIENCE_S)
    # Then nothing it had begun was begun again by the other, which ends the job
    seeds.reaches(job_id, JobState.VERIFIED)
    assert {batch["attempts"] for batch in seeds.batches(job_id, kind=BatchKind.COPY)} == {1}
    assert_same_index(seeds.emulator.dump(SEEDS), {**before, **as_twins(before)})


def copying(world: World, job_id: int) -> list[dict[str, Any]]:
    return world.batches(job_id, BatchState.LEASED, kind=BatchKind.COPY)


def made(world: World, job_id: int) -> int:
    return sum(target.created_by_us for target in world.targets(job_id).values())


def unanswered(world: World, operation: str = "upsert") -> dict[str, Any] | None:
    calls = world.emulator.calls(operation=operation)
    return next((call for call in calls if call["applied"] and call["status"] == 0), None)


def carried_out(world: World, target: str) -> list[dict[str, Any]]:
    return [call for call in world.emulator.calls(operation="upsert", namespace=target) if call["applied"]]


def held_batch(world: World, job_id: int, call: dict[str, Any]) -> dict[str, Any]:
    """The leased batch that asked for this upsert."""
    [batch] = [
        batch
        for batch in world.batches(job_id, BatchState.LEASED, kind=BatchKind.COPY)
        if target_of(batch["source"]) == call["namespace"] and set(call["ids"]) <= set(batch["ids"])
    ]
    return batch


def writing(world: World, job_id: int, target: str) -> dict[str, Any] | None:
    """A leased batch of a target whose upsert is on its way: the write sequence has been raised for it."""
    if target not in (there := world.targets(job_id)) or not there[target].sequence:
        return None
    leased = world.batches(job_id, BatchState.LEASED, kind=BatchKind.COPY)
    return next((batch for batch in leased if target_of(batch["source"]) == target), None)


def verified_again(world: World, job_id: int, namespace: str) -> bool:
    target = world.targets(job_id)[namespace]
    return target.check_state == "verified" and target.check_sequence == target.sequence
