"""SIGTERM is not death: a worker finishes what it has begun or hands it back in time, and no lease has to run out."""

import os
import signal

import pytest

from orchestrator.core.states import BatchKind, BatchState, JobState
from orchestrator.embedded.process import Process
from tests.stories.emulated import as_twins, assert_same_index
from tests.stories.launching import cold
from tests.stories.world import PATIENCE_S, SMALL, OpenWorld, World

pytestmark = pytest.mark.story

LEASE_S = 3_600  # whoever waits for one of these to run out waits in vain


def test_a_worker_that_is_told_to_stop_finishes_the_batches_in_its_hands(open_world: OpenWorld) -> None:
    world = open_world(launch=cold, lease_seconds=LEASE_S, request_deadline_seconds=PATIENCE_S, worker_grace_seconds=60)
    before = world.fill(**{f"n{number}": 12 for number in range(16)})
    # Given two workers in the middle of batches, for which the service takes its time
    world.emulator.fault(operation="upsert", delay_ms=700)
    world.start(workers=2).until_all_answer()
    job_id = world.apply(world.plan(SMALL))
    leaving = world.workers[0]
    in_hand = world.until("it has copies in its hands", lambda: held_by(world, job_id, leaving))
    # When one is told to stop
    ended_well(leaving)
    # Then what it had is done, by its first attempt, and the other one does the rest
    done = {batch["id"]: batch for batch in world.batches(job_id, kind=BatchKind.COPY)}
    assert {(done[id]["state"], done[id]["attempts"]) for id in in_hand} == {(BatchState.DONE, 1)}
    world.reaches(job_id, JobState.VERIFIED)
    written_once(world, job_id)
    assert_same_index(world.emulator.dump(SMALL), {**before, **as_twins(before)})


def test_a_worker_whose_batches_cannot_be_finished_in_time_hands_them_back(open_world: OpenWorld) -> None:
    world = open_world(launch=cold, lease_seconds=LEASE_S, worker_grace_seconds=0.3)
    before = world.fill(**{f"n{number}": 12 for number in range(16)})
    # Given a worker all of whose copies wait, because the service refuses their writes for a few seconds each
    job_id = world.apply(world.plan(SMALL))
    world.emulator.fault(operation="upsert", status=429, retry_after=6)
    world.start(workers=1)
    leaving = world.workers[0]
    in_hand = world.until("its copies wait", lambda: world.emulator.struck() >= 4 and held_by(world, job_id, leaving))
    # When it is told to stop
    ended_well(leaving)
    # Then it holds nothing any more, says why, and has spent none of their attempts
    back = [batch for batch in world.batches(job_id, kind=BatchKind.COPY) if batch["id"] in in_hand]
    assert {batch["lease_owner"] for batch in back} == {None}
    assert {batch["error_text"] for batch in back if batch["error_class"] == "Released"} == {
        "its worker was told to stop"
    }
    assert {batch["attempts"] for batch in back if batch["error_class"] == "Released"} == {0}
    # And another worker, which comes after it, does all of them at once
    world.emulator.no_faults()
    world.start_worker()
    world.reaches(job_id, JobState.VERIFIED)
    written_once(world, job_id)
    assert_same_index(world.emulator.dump(SMALL), {**before, **as_twins(before)})


def test_a_worker_that_is_to_end_at_once_hands_back_without_its_grace(open_world: OpenWorld) -> None:
    world = open_world(launch=cold, lease_seconds=LEASE_S, worker_grace_seconds=LEASE_S)
    world.fill(**{f"n{number}": 12 for number in range(6)})
    # Given a worker that has long to wait, and was told to stop, with a grace to match
    job_id = world.apply(world.plan(SMALL))
    world.emulator.fault(operation="upsert", status=429, retry_after=30)
    world.start(workers=1)
    [leaving] = world.workers
    world.until("its copies wait", lambda: world.emulator.struck() >= 4 and held_by(world, job_id, leaving))
    os.kill(leaving.pid, signal.SIGTERM)
    # When it is told once more, by the signal that lets Celery wait for nothing
    os.kill(leaving.pid, signal.SIGQUIT)
    assert leaving.child is not None
    leaving.child.wait(timeout=PATIENCE_S)
    # Then it has ended, holds nothing, and has spent no attempt
    assert "Traceback" not in leaving.log.read_text(), leaving.log_tail()
    assert world.batches(job_id, BatchState.LEASED) == []
    back = [batch for batch in world.batches(job_id, kind=BatchKind.COPY) if batch["error_class"] == "Released"]
    assert back and {batch["attempts"] for batch in back} == {0}


def held_by(world: World, job_id: int, worker: Process) -> set[int]:
    """The copy batches that this worker has on lease."""
    leased = world.batches(job_id, BatchState.LEASED, kind=BatchKind.COPY)
    return {batch["id"] for batch in leased if int(batch["lease_owner"].split(":")[1]) == worker.pid}


def ended_well(worker: Process) -> None:
    """It ends by itself once it is told to, and not by a crash."""
    assert worker.child is not None
    os.kill(worker.pid, signal.SIGTERM)
    assert worker.child.wait(timeout=PATIENCE_S) == 0, worker.log_tail()
    assert "Traceback" not in worker.log.read_text(), worker.log_tail()


def written_once(world: World, job_id: int) -> None:
    """No lease ran out, and no record was sent to the service twice."""
    assert all(batch["error_class"] != "LeaseExpired" for batch in world.batches(job_id))
    upserts = [call for call in world.emulator.writes(since=world.filled_at) if call["operation"] == "upsert"]
    sent = [(call["namespace"], id) for call in upserts for id in call["ids"]]
    assert len(sent) == len(set(sent)) == 16 * 12
