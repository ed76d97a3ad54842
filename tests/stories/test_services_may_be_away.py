"""Redis, Postgres or the vector store away for a while: the job waits, says why, and goes on by itself."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import psycopg
import pytest
import redis

from orchestrator import schema
from orchestrator.core.states import BatchKind, BatchState, JobState
from orchestrator.embedded.postgres import Postgres
from orchestrator.embedded.redis import Redis
from orchestrator.queue import require_broker
from orchestrator.services import acts
from tests.stories.emulated import as_twins, assert_same_index
from tests.stories.world import SEEDS, WHO, OpenWorld, World
from vecfleet.errors import Unreachable

pytestmark = pytest.mark.story

# What could not be put on record comes back when its lease is over.
SHORT = {"lease_seconds": 8, "request_deadline_seconds": 4}


def test_a_redis_that_is_down_for_a_while_costs_nothing_but_time(open_world: OpenWorld, tmp_path: Path) -> None:
    with Redis(tmp_path / "redis", durable=True) as server:
        world = open_world("--load", "seeds", redis_url=server.url)
        before = world.emulator.dump(SEEDS)
        # Given a job half way
        world.emulator.fault(operation="upsert", delay_ms=1_000)
        world.start(workers=2)
        job_id = world.apply(world.plan(conflicts="overwrite"))
        world.until("some batches are copied", lambda: len(world.batches(job_id, BatchState.DONE)) > 10)
        # When Redis goes away
        server.stop()
        # Then the job waits, and says why
        world.until("it says so", lambda: "Redis does not answer" in world.waits(job_id))
        assert world.job(job_id).state is JobState.RUNNING
        # And when Redis is back it goes on to the end, with the same processes
        server.start()
        world.emulator.no_faults()
        world.reaches(job_id, JobState.VERIFIED)
        world.assert_all_alive()
    assert_same_index(world.emulator.dump(SEEDS), {**before, **as_twins(before)})
    world.assert_accounts(job_id)


def test_workers_survive_a_redis_that_goes_and_comes_back_again_and_again(
    open_world: OpenWorld, tmp_path: Path
) -> None:
    with Redis(tmp_path / "redis", durable=True) as server:
        world = open_world("--load", "seeds", redis_url=server.url)
        # Given workers that have requests under way at any moment
        world.emulator.fault(operation="upsert", delay_ms=1_000)
        world.start(workers=2)
        job_id = world.apply(world.plan(conflicts="overwrite"))
        # When Redis is restarted four times, each time after some more was copied
        for done in (2, 6, 10, 14):
            world.until(f"{done} batches are done", partial(done_more_than, world, job_id, done))
            server.stop()
            server.start()
        world.emulator.no_faults()
        # Then the job goes on to the end, with the same processes
        world.until("a batch more is done", partial(done_more_than, world, job_id, 15))
        world.assert_all_alive()
        world.reaches(job_id, JobState.VERIFIED)
        world.assert_all_alive()
    world.assert_accounts(job_id)
    # And nothing of what they had taken was written to a file
    for worker in world.workers:
        assert "EMERGENCY DUMP" not in worker.log.read_text()


@contextmanager
def told(server: Redis, begin: str, end: str) -> Iterator[None]:
    """A Redis that was told one thing, and in the end another."""
    with redis.Redis.from_url(server.url) as client:
        client.execute_command(*begin.split())
        yield
        client.execute_command(*end.split())


@contextmanager
def stalled(server: Redis) -> Iterator[None]:
    """As one whose disk or machine stands still: connections stay, and nothing is answered."""
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.process.pid, signal.SIGCONT)


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(partial(told, begin="REPLICAOF 127.0.0.1 1", end="REPLICAOF NO ONE"), id="read-only"),
        pytest.param(partial(told, begin="CONFIG SET maxmemory 1", end="CONFIG SET maxmemory 0"), id="full"),
        pytest.param(stalled, id="stalled"),
    ],
)
def test_workers_survive_a_redis_that_takes_nothing_for_a_while(
    open_world: OpenWorld,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trouble: Callable[[Redis], AbstractContextManager[None]],
) -> None:
    monkeypatch.setattr("orchestrator.cli.watching._BROKER_PATIENCE_S", 1.0)  # of tests it is a minute
    with Redis(tmp_path / "redis", durable=True) as server:
        world = open_world("--load", "seeds", redis_url=server.url)
        # Given a job half way, whose batches are sent a few at a time
        world.emulator.fault(operation="upsert", delay_ms=500)
        world.start(workers=2)
        job_id = world.apply(world.plan(conflicts="overwrite"))
        acts.set_lever(world.fleet.database, job_id, WHO, "window", 4)
        world.until("some batches are done", partial(done_more_than, world, job_id, 2))
        # When Redis takes no wake-up for a while
        with trouble(server):
            dispatcher = world.dispatchers[0]
            world.until("the dispatcher says so", lambda: "did not take wake-ups" in dispatcher.log.read_text())
            # Then the job says so, too, and no other is begun
            assert "takes nothing: workers cannot be woken" in world.waits(job_id)
            with pytest.raises(Unreachable, match="workers could not be woken"):
                require_broker(world.fleet.celery)
        # And when it does again, both workers take what is due
        world.emulator.no_faults()
        world.emulator.fault(operation="upsert", delay_ms=3_000)
        acts.set_lever(world.fleet.database, job_id, WHO, "window", 48)
        world.until("both work again", lambda: len(at_work(world, job_id)) == 2)
        # And the job goes on to the end, with the same processes
        world.emulator.no_faults()
        world.reaches(job_id, JobState.VERIFIED)
        world.assert_all_alive()
    world.assert_accounts(job_id)


def test_a_worker_that_may_not_take_wake_ups_ends_and_says_so(open_world: OpenWorld, tmp_path: Path) -> None:
    """Connecting again would help nothing, and a worker that looks alive and takes nothing would mislead."""
    with Redis(tmp_path / "redis", durable=True) as server:
        world = open_world("--load", "seeds", redis_url=server.url)
        world.start(workers=1, dispatchers=0).until_all_answer()
        [worker] = world.workers
        # When its account may not take from queues any more
        with redis.Redis.from_url(server.url) as client:
            client.execute_command("ACL", "SETUSER", "default", "-brpop")
        # Then it ends, for whoever keeps it to notice, and its log has the reason
        world.until("it ended", lambda: not worker.alive())
        assert "NoPermissionError" in worker.log.read_text()


def at_work(world: World, job_id: int) -> set[str]:
    """Return who has taken batches for which the service takes its time."""
    return {one["lease_owner"] for one in world.batches(job_id, BatchState.LEASED, kind=BatchKind.COPY)}


def test_connections_to_the_job_table_that_are_cut_are_made_again(open_world: OpenWorld, database_url: str) -> None:
    world = open_world("--load", "seeds", **SHORT)
    before = world.emulator.dump(SEEDS)
    # Given a job half way
    world.start(workers=2)
    job_id = world.apply(world.plan(conflicts="overwrite"))
    # When Postgres cuts every connection again and again while it copies
    for done in (5, 20, 35, 50):
        world.until(f"{done} batches are done", partial(done_more_than, world, job_id, done))
        assert cut_connections(database_url) > 0
    # Then it goes on to the end, with the same processes
    world.reaches(job_id, JobState.VERIFIED)
    world.assert_all_alive()
    assert_same_index(world.emulator.dump(SEEDS), {**before, **as_twins(before)})
    world.assert_accounts(job_id)
    assert sum(move.written for move in world.moves(job_id)) == 805


def test_a_job_table_that_is_down_for_a_while_is_waited_for(open_world: OpenWorld, tmp_path: Path) -> None:
    with Postgres(tmp_path / "postgres", durable=True) as server:
        schema.upgrade(server.url)
        world = open_world("--load", "seeds", database_url=server.url, **SHORT)
        before = world.emulator.dump(SEEDS)
        # Given a job half way
        world.emulator.fault(operation="upsert", delay_ms=1_000)
        world.start(workers=2)
        job_id = world.apply(world.plan(conflicts="overwrite"))
        world.until("some batches are done", partial(done_more_than, world, job_id, 35))
        # When Postgres goes away, and comes back once the fleet has noticed
        server.stop()
        dispatcher = world.dispatchers[0]
        world.until("the dispatcher says so", lambda: "job table unreachable" in dispatcher.log.read_text())
        server.start()
        world.emulator.no_faults()
        # Then it goes on to the end, with the same processes
        world.reaches(job_id, JobState.VERIFIED)
        world.assert_all_alive()
        assert_same_index(world.emulator.dump(SEEDS), {**before, **as_twins(before)})
        world.assert_accounts(job_id)
        world.close()


def test_a_vector_store_that_dies_and_comes_back_is_waited_for(open_world: OpenWorld, tmp_path: Path) -> None:
    world = open_world("--load", "seeds", "--data", str(tmp_path / "emulator"))
    before = world.emulator.dump(SEEDS)
    # Given a job half way
    world.emulator.fault(operation="upsert", delay_ms=1_000)
    world.start(workers=2)
    job_id = world.apply(world.plan(conflicts="overwrite"))
    world.until("some batches are copied", lambda: len(world.batches(job_id, BatchState.DONE)) > 35)
    # When the service is killed
    world.emulator.kill()
    # Then the job waits, and says why, and parks nothing
    world.until("it says so", lambda: "Unavailable: Pinecone could not" in world.waits(job_id))
    assert world.job(job_id).state is JobState.RUNNING
    # And when the service is back it goes on to the end
    world.emulator.start()
    world.reaches(job_id, JobState.VERIFIED)
    assert_same_index(world.emulator.dump(SEEDS), {**before, **as_twins(before)})
    world.assert_accounts(job_id)


def done_more_than(world: World, job_id: int, batches: int) -> bool:
    return len(world.batches(job_id, BatchState.DONE)) > batches


def cut_connections(database_url: str) -> int:
    """Terminate every other connection to this database; how many there were."""
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        row = connection.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchone()
    assert row is not None
    return int(row[0])
