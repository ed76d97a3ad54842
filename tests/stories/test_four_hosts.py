"""Four machines as in docs/several-machines.md: wrong clocks, one that joins by a line, one cut off and back."""

import shutil
from collections.abc import Iterator

import psutil
import pytest

from orchestrator.core.states import BatchKind, JobState
from tests.stories.emulated import as_twins, assert_same_index
from tests.stories.hosts import Host, at_work, hosts_of
from tests.stories.world import PATIENCE_S, SMALL, OpenWorld, World

pytestmark = pytest.mark.story

RECORDS, NAMESPACES = 4, 200  # more than eight workers copy before the story has seen enough
CLOCKS = (-2, 2, -1, 1)  # seconds that the clock of each host is wrong


@pytest.fixture
def world(open_world: OpenWorld) -> World:
    world = open_world(lease_seconds=12, request_deadline_seconds=5, worker_threads=2)
    world.fill(**{f"n{number}": RECORDS for number in range(NAMESPACES)})
    world.emulator.fault(operation="upsert", delay_ms=3_000)
    return world


@pytest.fixture
def hosts(world: World) -> Iterator[list[Host]]:
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler here, with which clocks are made wrong")
    with hosts_of(world, len(CLOCKS)) as hosts:
        for host, seconds in zip(hosts, CLOCKS, strict=True):
            host.shift_clock(seconds)
        yield hosts


def test_four_machines_whose_clocks_are_wrong_do_one_job_while_one_is_cut_off(world: World, hosts: list[Host]) -> None:
    before = world.emulator.dump(SMALL)
    # Given two workers on each of three hosts; the fourth joins by one line, as a shell with the addresses does
    for host in hosts[:3]:
        for _ in range(2):
            host.start_worker(world)
    joined = hosts[3].launch(world, "joined", "up", "--workers", "2", VECFLEET_HOME=str(world.folder / "fourth"))
    try:
        world.start_dispatcher()
        world.until("all eight answer", lambda: len(world.fleet.celery.control.ping(timeout=2)) == 8)
        job_id = world.apply(world.plan(SMALL))

        def copying() -> dict[int, set[int]]:
            return at_work(world, job_id, BatchKind.COPY)

        # Then the joined host has a dispatcher and two workers, and starts no server of its own
        names = sorted(" ".join(child.cmdline()) for child in psutil.Process(joined.pid).children(recursive=True))
        assert not any("postgres" in name or "valkey" in name for name in names)
        # And all eight are at work on the job
        first = {worker.pid for worker in world.workers[:2]}
        seen: set[int] = set()
        world.until("all eight copied", lambda: len(seen.update(copying()) or seen) == 8)
        # When the first host is cut off, without anybody being told
        world.until("both of its workers copy", lambda: first <= set(copying()))
        hosts[0].cut_off()
        lost = {batch for pid, batches in copying().items() if pid in first for batch in batches}
        # Then its batches go back when their leases end by the database's clock, and the others work on
        world.until("its leases ran out", lambda: not first & set(at_work(world, job_id)))
        errors = {batch["id"]: batch["error_class"] for batch in world.batches(job_id) if batch["id"] in lost}
        assert "LeaseExpired" in errors.values() or any(
            batch["attempts"] > 1 for batch in world.batches(job_id) if batch["id"] in lost
        )
        # When it is there again, then it works again, as the processes it was
        hosts[0].heal()
        world.until("it is at work again", lambda: first & set(at_work(world, job_id)))
        world.emulator.no_faults()
        world.assert_all_alive()
        # And the job comes to its end, every record where it belongs, and no clock cost a lease
        world.reaches(job_id, JobState.VERIFIED)
        assert_same_index(world.emulator.dump(SMALL), {**before, **as_twins(before)})
        world.assert_accounts(job_id)
    finally:
        joined.stop(patience_s=PATIENCE_S)
