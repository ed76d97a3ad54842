"""Wake-ups over a real RabbitMQ, which is killed, started again, and full for a while."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from migrations.plan import Plan
from orchestrator.core.states import BatchKind, BatchState, JobState
from orchestrator.services import acts
from tests.stories.emulated import Rows, as_twins, assert_same_index
from tests.stories.launching import cold
from tests.stories.rabbit import RabbitMQ, why_not
from tests.stories.world import SMALL, WHO, OpenWorld, World
from vecfleet.errors import Unreachable

pytestmark = pytest.mark.story

RECORDS, NAMESPACES = 8, 40


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """Skips where there is none. A start takes seconds, so these stories share one server."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    server = RabbitMQ(tmp_path_factory.mktemp("rabbitmq") / "server")
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture
def world(open_world: OpenWorld, rabbit: RabbitMQ, tmp_path: Path) -> World:
    """A fleet that is woken over RabbitMQ, and slow enough that there is a middle of a job."""
    world = open_world(
        broker_url=rabbit.url, launch=cold, worker_threads=4, lease_seconds=12, request_deadline_seconds=5
    )
    world.fill(**{f"n{number}": RECORDS for number in range(NAMESPACES)})
    world.emulator.fault(operation="upsert", delay_ms=500)
    return world


def half_way(world: World, plan: Plan) -> int:
    world.start(workers=2)
    job_id = world.apply(plan)
    world.until("some batches are copied", lambda: copied(world, job_id) > 2)
    return job_id


def copied(world: World, job_id: int) -> int:
    return len(world.batches(job_id, BatchState.DONE, kind=BatchKind.COPY))


def assert_it_ends_well(world: World, job_id: int, before: dict[str, Rows]) -> None:
    world.emulator.no_faults()
    world.reaches(job_id, JobState.VERIFIED)
    world.assert_all_alive()
    assert_same_index(world.emulator.dump(SMALL), {**before, **as_twins(before)})
    world.assert_accounts(job_id)


def test_a_job_outlives_a_rabbitmq_that_is_killed_and_started_again(world: World, rabbit: RabbitMQ) -> None:
    before = world.emulator.dump(SMALL)
    # Given a job half way
    plan = world.plan(SMALL)
    job_id = half_way(world, plan)
    # When RabbitMQ is killed
    rabbit.kill()
    # Then the job waits and says why, and nothing new may be applied
    world.until("it says so", lambda: "workers cannot be woken" in world.waits(job_id))
    assert world.job(job_id).state is JobState.RUNNING
    with pytest.raises(Unreachable, match="the broker does not answer"):
        world.apply(plan)
    # And when it is back, the same processes bring the job to its end
    rabbit.start()
    assert_it_ends_well(world, job_id, before)


def test_a_full_rabbitmq_holds_up_no_dispatcher_and_the_job_goes_on_when_it_has_room(
    world: World, rabbit: RabbitMQ
) -> None:
    before = world.emulator.dump(SMALL)
    # Given a job half way
    plan = world.plan(SMALL)
    job_id = half_way(world, plan)
    acts.pause(world.fleet.database, job_id, WHO)  # else it may be at its end before the disk is full
    world.reaches(job_id, JobState.PAUSED)
    # When RabbitMQ's disk is full, and it blocks whoever sends
    rabbit.alarm()
    acts.resume(world.fleet.database, job_id, WHO)
    # Then the job says that nobody can be woken, and so is told who wants to begin another
    world.until("it says so", lambda: "workers cannot be woken" in world.waits(job_id))
    with pytest.raises(Unreachable, match="the broker answers and takes nothing"):
        world.apply(plan)
    # And the dispatcher does what needs no wake-up: a pause comes to rest
    acts.pause(world.fleet.database, job_id, WHO)
    world.reaches(job_id, JobState.PAUSED)
    acts.resume(world.fleet.database, job_id, WHO)
    world.until("it says so again", lambda: "workers cannot be woken" in world.waits(job_id))
    # And when there is room again, the same processes bring the job to its end
    rabbit.alarm_ends()
    assert_it_ends_well(world, job_id, before)
