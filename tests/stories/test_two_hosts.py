"""Workers on two machines, one of which is cut off in the middle of its work and comes back."""

from collections.abc import Iterator

import pytest

from orchestrator.core.states import BatchKind, JobState
from orchestrator.embedded.process import Process
from tests.stories.emulated import as_twins, assert_same_index
from tests.stories.hosts import Host, at_work, hosts_of
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
    with hosts_of(world, 2) as hosts:
        yield hosts


def test_a_host_that_is_cut_off_costs_its_leases_and_comes_back(world: World, hosts: list[Host]) -> None:
    before = world.emulator.dump(SMALL)
    # Given workers on two hosts, both at work
    first, second = (host.start_worker(world) for host in hosts)
    world.start_dispatcher()
    job_id = world.apply(world.plan(SMALL))

    def copying(worker: Process) -> set[int]:  # each takes a second, and a listing none
        return at_work(world, job_id, BatchKind.COPY).get(worker.pid, set())

    world.until("both are at work", lambda: copying(second) and copying(first))
    # When the first host is cut off, without anybody being told
    hosts[0].cut_off()
    lost = copying(first)
    # Then its batches go back when their leases end, and the other host works on
    world.until("its leases ran out", lambda: first.pid not in at_work(world, job_id))
    assert any(batch["attempts"] > 1 or batch["error_class"] == "LeaseExpired" for batch in world.batches(job_id)
               if batch["id"] in lost)  # fmt: skip
    # When it is there again, then it works again, as the process it was
    hosts[0].heal()
    world.until("it is at work again", lambda: first.pid in at_work(world, job_id))
    world.emulator.no_faults()
    world.assert_all_alive()
    # And the job comes to its end, every record where it belongs
    world.reaches(job_id, JobState.VERIFIED)
    assert_same_index(world.emulator.dump(SMALL), {**before, **as_twins(before)})
    world.assert_accounts(job_id)
