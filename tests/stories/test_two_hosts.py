"""Workers on two machines, one of which is cut off in the middle of its work and comes back."""

import sys
from collections.abc import Iterator
from functools import partial
from urllib.parse import urlsplit

import pytest

from orchestrator.core.states import BatchKind, BatchState, JobState
from orchestrator.embedded.process import Process
from tests.stories.emulated import as_twins, assert_same_index
from tests.stories.hosts import Host, why_not
from tests.stories.launching import REPOSITORY
from tests.stories.world import SMALL, OpenWorld, World

pytestmark = pytest.mark.story

RECORDS, NAMESPACES = 8, 120  # more than are copied before the story has seen enough: then the service is quick


@pytest.fixture
def world(open_world: OpenWorld) -> World:
    """Two requests at a time on each host, each of which takes a while: there is a middle to be cut off in."""
    world = open_world(lease_seconds=12, request_deadline_seconds=5, worker_threads=2)
    world.fill(**{f"n{number}": RECORDS for number in range(NAMESPACES)})
    world.emulator.fault(operation="upsert", delay_ms=1_200)
    return world


@pytest.fixture
def hosts(world: World) -> Iterator[list[Host]]:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    addresses = [world.env[name] for name in ("DATABASE_URL", "REDIS_URL", "PINECONE_CONTROLLER_HOST")]
    data_plane = [info.host for info in world.fleet.store.indexes()]
    ports = {urlsplit(address if "//" in address else f"//{address}").port for address in (*addresses, *data_plane)}
    made: list[Host] = []
    try:
        for number in (1, 2):
            made.append(Host(world.folder, number, sorted(port for port in ports if port)))
        yield made
    finally:
        world.close()
        for host in made:
            host.remove()


def start_worker_on(world: World, host: Host) -> Process:
    name = f"worker{len(world.workers) + 1}"
    command = [*host.within(), sys.executable, "-m", "orchestrator", "worker"]
    log = world.folder / f"{name}.log"
    world.workers.append(Process.launch(name, command, log=log, cwd=REPOSITORY, env=world.env))
    return world.workers[-1]


def at_work(world: World, job_id: int, worker: Process, kind: BatchKind | None = None) -> set[int]:
    """Batches that this worker has on lease."""
    leased = world.batches(job_id, BatchState.LEASED, kind=kind)
    return {batch["id"] for batch in leased if int(batch["lease_owner"].split(":")[1]) == worker.pid}


def test_a_host_that_is_cut_off_costs_its_leases_and_comes_back(world: World, hosts: list[Host]) -> None:
    before = world.emulator.dump(SMALL)
    # Given workers on two hosts, both at work
    first, second = (start_worker_on(world, host) for host in hosts)
    world.start_dispatcher()
    job_id = world.apply(world.plan(SMALL))
    copying = partial(at_work, world, job_id, kind=BatchKind.COPY)  # each takes a second, and a listing none
    world.until("both are at work", lambda: copying(second) and copying(first))
    # When the first host is cut off, without anybody being told
    hosts[0].cut_off()
    lost = copying(first)
    # Then its batches go back when their leases end, and the other host works on
    world.until("its leases ran out", lambda: not at_work(world, job_id, first))
    assert any(batch["attempts"] > 1 or batch["error_class"] == "LeaseExpired" for batch in world.batches(job_id)
               if batch["id"] in lost)  # fmt: skip
    # When it is there again, then it works again, as the process it was
    hosts[0].heal()
    world.until("it is at work again", lambda: at_work(world, job_id, first))
    world.emulator.no_faults()
    world.assert_all_alive()
    # And the job comes to its end, every record where it belongs
    world.reaches(job_id, JobState.VERIFIED)
    assert_same_index(world.emulator.dump(SMALL), {**before, **as_twins(before)})
    world.assert_accounts(job_id)
