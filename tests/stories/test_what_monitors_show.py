"""Celery's monitors, such as Flower, show what became of each batch: in a state of Celery's, with a sentence."""

import ast
import re
from collections.abc import Iterator

import pytest
from celery.events.state import Task

from orchestrator import queue
from orchestrator.core.model import Wakeup
from orchestrator.core.states import BatchKind, BatchState, JobState
from tests.stories.emulated import row, target_of
from tests.stories.monitor import Monitor, watching
from tests.stories.world import SMALL, OpenWorld, World

pytestmark = pytest.mark.story

SECRET = "what-zoe-told-her-twin"


@pytest.fixture
def world(open_world: OpenWorld) -> World:
    return open_world()


@pytest.fixture
def monitor(world: World) -> Iterator[Monitor]:
    with watching(world.fleet.celery) as monitor:
        yield monitor


def start(world: World, monitor: Monitor, *options: str) -> None:
    world.start_celery("-A", "workers", "worker", "--task-events", *options)
    world.until("the monitor knows the worker", lambda: monitor.workers)
    world.start_dispatcher()


def number_of(task: Task) -> str:
    return str(ast.literal_eval(task.kwargs)["batch"])


def test_a_task_says_what_it_did_and_which_batch_of_how_many_it_was(world: World, monitor: Monitor) -> None:
    # Given one source of three batches, and some of one
    world.fill(alma=2_500, bruno=3, chiara=2, dora=1)
    start(world, monitor)
    # When it was copied and verified
    job_id = world.apply(world.plan(SMALL))
    world.reaches(job_id, JobState.VERIFIED)
    made = world.batches(job_id, kind=BatchKind.COPY)
    # Then each batch has a task of its own, whoever went on with it without a wake-up, and each says what it did
    copies = world.until(
        "every copy has ended", lambda: (ended := monitor.ended("copy_batch")) and len(ended) == len(made) and ended
    )
    assert {task.state for task in copies} == {"SUCCESS"}
    told = [int(re.fullmatch(r"copied ([\d,]+), \d+\.\d s", task.result)[1].replace(",", "")) for task in copies]  # type: ignore[index]
    assert sum(told) == 2_506
    [listing] = [task for task in monitor.ended("list_namespace") if "alma" in task.uuid]
    assert listing.result.startswith("listed 2,500, ")
    # And its number with the true total, or the least that it can be while its source is still listed
    of_alma = {number_of(task) for task in copies if "alma" in task.uuid}
    total = max(batch["seq"] for batch in made if batch["source"] == "alma")
    assert all(re.fullmatch(rf"\d+ of ({total}|at least [1-{total}])", number) for number in of_alma), of_alma
    assert {number_of(task) for task in copies if "bruno" in task.uuid} <= {"1 of 1", "1 of at least 1"}
    # And who went on from one to the next shows it
    followers = [task for task in monitor.tasks() if task.parent_id]
    assert {task.parent_id for task in followers} <= {task.uuid for task in monitor.tasks()}


def test_a_failed_batch_is_a_failure_one_that_waits_a_retry_and_neither_quotes_anybody(
    world: World, monitor: Monitor
) -> None:
    # Given a record that outgrows the limit, a target that refuses in words about a record, and one that is away
    world.fill(alma=20, bruno=30, chiara=5)
    world.emulator.write(SMALL, "alma", [row("huge", chunk_text="x" * (40_000 - 40))])
    world.emulator.fault(operation="upsert", namespace=target_of("bruno"), status=409, message=SECRET)
    world.emulator.fault(operation="upsert", namespace=target_of("chiara"), status=503, message=SECRET)
    start(world, monitor)
    job_id = world.apply(world.plan(SMALL))

    def first(namespace: str, state: str) -> Task:
        def shown() -> Task | None:
            ended = monitor.ended("copy_batch", state=state)
            return next((task for task in ended if namespace in task.uuid), None)

        return world.until(f"{namespace} is {state}", shown)

    # Then who is tried again says why, and that it is
    waiting = first("chiara", "RETRY")
    assert re.fullmatch(r"Unavailable: The vector store is not available; again in \d+ s", waiting.result)
    # And who parked a record, or was parked, failed, and says how to go on
    of_alma, of_bruno = first("alma", "FAILURE"), first("bruno", "FAILURE")
    world.emulator.no_faults()
    world.reaches(job_id, JobState.NEEDS_ATTENTION)
    [parked] = world.batches(job_id, BatchState.PARKED)
    assert of_alma.result.startswith("copied 20, parked 1, ")
    assert f"`vecfleet park list {job_id}`" in of_alma.result
    assert of_bruno.result.startswith("Conflict: ") and "; parked: `vecfleet retry " in of_bruno.result
    assert f"`vecfleet retry {job_id} failed --batch {parked['id']}`" in of_bruno.result
    # And the next attempt is a task of its own, which succeeded
    assert first("chiara", "SUCCESS").uuid != waiting.uuid
    # And no task quotes the service, or has a traceback
    assert not [task.uuid for task in monitor.tasks() if task.traceback or SECRET in str(task.info())]


def test_a_stale_wake_up_shows_nothing(world: World, monitor: Monitor) -> None:
    world.fill(alma=5, bruno=5)
    start(world, monitor)
    job_id = world.apply(world.plan(SMALL, skip=("bruno",)))
    world.reaches(job_id, JobState.VERIFIED)
    [done] = world.batches(job_id, kind=BatchKind.COPY)
    [copied] = world.until("its copy shows", lambda: monitor.ended("copy_batch"))

    def taken() -> int:
        [stats] = (world.fleet.celery.control.inspect().stats() or {"nobody": {"total": {}}}).values()
        return int(stats["total"].get("vecfleet.copy_batch", 0))

    # When its wake-up comes once more, and one of a generation that never was
    stale = [Wakeup(done["id"], generation, BatchKind.COPY, job_id, "alma", 1, 1) for generation in (0, 77)]
    before = taken()
    assert queue.send(world.fleet.celery, stale) == []
    world.until("both were taken", lambda: taken() >= before + 2)
    # And after them one that does show
    other = world.apply(world.plan(SMALL, skip=("alma",)))
    world.reaches(other, JobState.VERIFIED)
    world.until("it shows", lambda: len(monitor.ended("copy_batch")) > 1)
    # Then no monitor has a row for them, and the batch is what it was
    assert [task.uuid for task in monitor.tasks("copy_batch") if task.uuid.startswith(f"j{job_id}.")] == [copied.uuid]
    assert copied.state == "SUCCESS"


def test_forked_workers_show_one_task_a_wake_up_in_its_worst_state(world: World, monitor: Monitor) -> None:
    world.fill(alma=20, bruno=30)
    world.emulator.fault(operation="upsert", namespace=target_of("bruno"), status=409, message=SECRET)
    start(world, monitor, "-P", "processes", "-c", "2")
    job_id = world.apply(world.plan(SMALL))
    world.reaches(job_id, JobState.NEEDS_ATTENTION)
    failed = world.until("a failure shows", lambda: monitor.ended(state="FAILURE"))
    assert {task.state for task in failed} == {"FAILURE"}
    assert all(task.result.startswith("Conflict: ") and SECRET not in task.result for task in failed)
    assert all(ast.literal_eval(task.kwargs)["job"] == job_id for task in failed)
    assert not any(task.traceback for task in monitor.tasks())


def test_a_batch_whose_process_was_killed_is_shown_as_tried_again(world: World, monitor: Monitor) -> None:
    # Given a process that a limit of Celery's kills in the middle of a copy
    world.fill(alma=20)
    world.emulator.fault(operation="upsert", hang=True)
    start(world, monitor, "-P", "prefork", "-c", "1", "--time-limit", "4")
    world.apply(world.plan(SMALL))
    # Then its task waits for nobody: the lease brings the batch back
    [copy, *_] = world.until("its end shows", lambda: monitor.ended("copy_batch"))
    assert copy.state == "RETRY"
    assert copy.result == "its worker could not record what became of it; it is retried once its lease has expired"
    assert copy.traceback is None
