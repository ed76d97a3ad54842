"""Somebody who knows Celery starts a worker as always, and looks at it, steers it and stops it by Celery's commands."""

import re
import shlex
from textwrap import dedent

import pytest

from orchestrator import doctor
from orchestrator.core.states import BatchKind, BatchState, JobState
from tests.stories.emulated import as_twins, assert_same_index, target_of
from tests.stories.launching import REPOSITORY, type_out
from tests.stories.world import SMALL, OpenWorld, World

pytestmark = pytest.mark.story

PAGE = (REPOSITORY / "docs" / "celery.md").read_text()
BLOCKS = [dedent(block).splitlines() for block in re.findall(r"(?:^    .*\n)+", PAGE, re.MULTILINE)]


def typed(world: World, line: str) -> str:
    """Return what a command of Celery's printed, which ended well."""
    module, *words = shlex.split(line)
    ran = type_out(*words, module=module, env=world.env, folder=world.folder)
    assert ran.returncode == 0, f"{line}\nended with {ran.returncode}:\n{ran.stdout}{ran.stderr}"
    return ran.stdout


def workers_check(world: World) -> doctor.Check:
    return next(check for check in doctor.examine(world.fleet.settings) if check.name == "workers")


def test_the_pages_first_line_alone_works_a_job_to_its_end_and_the_others_do_as_it_says(open_world: OpenWorld) -> None:
    # Given a worker as the page starts it
    [[*_, first], commands] = BLOCKS
    world = open_world()
    before = world.fill(alma=60, bruno=40, chiara=1)
    world.start_celery(*shlex.split(first)[1:])
    world.start_dispatcher()
    world.until_all_answer()
    # When a job is applied, then it is worked to its end, through every queue
    job_id = world.apply(world.plan(SMALL))
    world.reaches(job_id, JobState.VERIFIED)
    assert_same_index(world.emulator.dump(SMALL), {**before, **as_twins(before)})
    assert workers_check(world).ok
    # When its other commands are typed, then each ends well
    said = {line.removeprefix("celery -A workers "): typed(world, line) for line in commands}
    # And they say what people look for
    assert "1 node online" in said["status"]
    assert all(name in said["inspect active_queues"] for name in ("control", "copy", "verify", "cleanup"))
    assert "vecfleet.copy_batch" in said["inspect registered"]
    assert "workers.threads:TaskPool" in said["inspect stats"]
    assert '"task_acks_late": true' in said["inspect conf"] and "results:disabled" in said["report"]
    assert "pool will grow" in said["control pool_grow 2"]
    assert "no longer consuming from copy" in said["control cancel_consumer copy"]
    assert "add consumer copy" in said["control add_consumer copy"]
    assert "new rate limit set successfully" in said["control rate_limit vecfleet.copy_batch 100/m"]
    # And it serves every queue again, and none of a mistyped name
    assert "there is no queue cpoy; it is one of control, copy" in typed(
        world, "celery -A workers control add_consumer cpoy"
    )
    assert workers_check(world).ok
    # And a limit that is left on is named
    typed(world, "celery -A workers control rate_limit vecfleet.list_namespace 1/m")
    assert "takes at most 1/m of vecfleet.list_namespace, until `celery -A" in workers_check(world).detail
    [stats] = (world.fleet.celery.control.inspect().stats() or {}).values()
    assert (stats["pool"]["max-concurrency"], stats["prefetch_count"]) == (10, 10)


def test_a_purge_loses_wake_ups_and_no_work(open_world: OpenWorld) -> None:
    world = open_world()
    before = world.fill(alma=20, bruno=10)
    # Given wake-ups that nobody takes yet
    world.start_dispatcher()
    job_id = world.apply(world.plan(SMALL))
    world.until("they wait", lambda: world.batches(job_id, BatchState.DISPATCHED))
    # When they are purged
    assert "Purged 2 messages" in typed(world, "celery -A workers purge -f")
    # Then the work is done all the same
    world.start_celery()
    world.reaches(job_id, JobState.VERIFIED)
    assert_same_index(world.emulator.dump(SMALL), {**before, **as_twins(before)})


def test_a_shutdown_from_afar_hands_back_what_cannot_be_finished(open_world: OpenWorld) -> None:
    world = open_world(lease_seconds=3_600, worker_grace_seconds=0.3)
    world.fill(**{f"n{number}": 12 for number in range(6)})
    # Given a worker whose copies all wait for the service
    world.emulator.fault(operation="upsert", status=429, retry_after=30)
    world.start_celery()
    world.start_dispatcher()
    job_id = world.apply(world.plan(SMALL))
    world.until("its copies wait", lambda: world.emulator.struck() >= 4)
    # When one of them is to be terminated, then that is refused, and it goes on waiting
    control = world.fleet.celery.control
    [[task, *_]] = (control.inspect(timeout=5, limit=1).active() or {}).values()
    [answer] = control.terminate(task["id"], reply=True, timeout=5, limit=1)
    assert all("a thread cannot be killed: `vecfleet pause JOB`" in said["error"] for said in answer.values())
    # And a time limit, which no thread keeps, is not taken either
    [answer] = control.time_limit("vecfleet.copy_batch", hard=1, reply=True, timeout=5, limit=1)
    assert all("this worker has none: start it with `-P prefork`" in said["error"] for said in answer.values())
    assert len(world.batches(job_id, BatchState.LEASED)) >= 4
    # When it is told to shut down
    world.fleet.celery.control.shutdown()
    [worker] = world.workers
    assert worker.child is not None
    worker.child.wait(timeout=240)
    # Then it holds nothing any more
    assert world.batches(job_id, BatchState.LEASED) == []
    back = [batch for batch in world.batches(job_id, kind=BatchKind.COPY) if batch["error_class"] == "Released"]
    assert back and {batch["attempts"] for batch in back} == {0}


def test_receivers_of_celerys_signals_hear_what_became_of_each_batch(open_world: OpenWorld) -> None:
    # Given receivers of somebody's own, in each process of a worker
    world = open_world()
    world.fill(alma=20, bruno=10)
    world.emulator.fault(operation="upsert", namespace=target_of("bruno"), status=409, message="the target is locked")
    heard = world.folder / "heard"
    (world.folder / "receivers.py").write_text(RECEIVERS.format(file=str(heard)))
    world.env["PYTHONPATH"] = f"{world.folder}:{world.env.get('PYTHONPATH', '')}"
    world.start_celery("-A", "workers", "worker", "-P", "prefork", "-c", "1", "-I", "receivers")
    world.start_dispatcher()
    # When one batch fails and another does not
    job_id = world.apply(world.plan(SMALL))
    world.reaches(job_id, JobState.NEEDS_ATTENTION)
    # Then one failure is heard, in the sentence that Flower shows, and no success of that batch
    [failed] = world.batches(job_id, BatchState.PARKED)
    copies = [line for line in heard.read_text().splitlines() if ".copy" in line]
    [failure] = [line for line in copies if f".b{failed['id']}." in line]
    assert failure.startswith("failure ") and f"parked: `vecfleet retry {job_id} failed --batch" in failure
    [success] = [line for line in copies if line != failure]
    assert success.startswith("success ") and "copied 20" in success


RECEIVERS = """
from celery import signals

def note(*words):
    with open({file!r}, "a") as file:
        print(*words, file=file)

@signals.task_success.connect
def succeeded(sender, result, **_):
    note("success", sender.request.id, result)

@signals.task_failure.connect
def failed(task_id, exception, **_):
    note("failure", task_id, exception)
"""


def test_workers_of_celery_multi_work_a_job_to_its_end_and_stop(open_world: OpenWorld) -> None:
    world = open_world()
    before = world.fill(alma=20, bruno=10)
    files = f"--pidfile={world.folder}/%n.pid --logfile={world.folder}/%n.log"
    try:
        typed(world, f"celery multi start w1 w2 -A workers -l INFO -c 2 {files}")
        world.start_dispatcher()
        job_id = world.apply(world.plan(SMALL))
        world.reaches(job_id, JobState.VERIFIED)
        assert_same_index(world.emulator.dump(SMALL), {**before, **as_twins(before)})
        world.until(
            "both said so", lambda: all("ready" in (world.folder / f"{n}.log").read_text() for n in ("w1", "w2"))
        )
    finally:
        typed(world, f"celery multi stopwait w1 w2 --pidfile={world.folder}/%n.pid")
    assert not list(world.folder.glob("w?.pid"))


def test_doctor_names_the_queues_that_nobody_serves(open_world: OpenWorld) -> None:
    world = open_world()
    file = world.folder / "w7.log"
    logged = ("-n", "w7@%h", "-l", "INFO", "--logfile", str(file.with_stem("%n")))
    world.start_celery("-A", "workers.tasks", "worker", "-Q", "control,verify", "-c", "2", *logged)
    world.until_all_answer()
    assert "w7@" in file.read_text() and " ready." in file.read_text()
    check = workers_check(world)
    assert not check.ok
    assert "nobody serves copy,cleanup: such batches wait" in check.detail
    assert "vecfleet worker --queues copy,cleanup" in (check.remedy or "")


def room(world: World) -> int:
    """Return how many wake-ups the one worker may have in hand."""
    [stats] = (world.fleet.celery.control.inspect(timeout=5, limit=1).stats() or {}).values()
    return int(stats["pool"]["max-concurrency"])


@pytest.mark.parametrize(("pool", "sizes"), [("processes", "4,1"), ("threads", "4")])
def test_autoscale_makes_room_while_wake_ups_wait_and_takes_it_away_again(
    open_world: OpenWorld, monkeypatch: pytest.MonkeyPatch, pool: str, sizes: str
) -> None:
    monkeypatch.setenv("AUTOSCALE_KEEPALIVE", "1")  # Celery's own: so long it keeps room that nobody needs
    world = open_world()
    before = world.fill(**{f"n{number}": 12 for number in range(9)})
    world.emulator.fault(operation="upsert", delay_ms=2_000)
    world.start_celery("-A", "workers", "worker", "-P", pool, "--autoscale", sizes)
    world.start_dispatcher()
    world.until_all_answer()
    assert room(world) == 1
    # When many namespaces wait to be copied, then more are taken at a time
    job_id = world.apply(world.plan(SMALL))
    world.until("four batches are worked on at once", lambda: len(world.batches(job_id, BatchState.LEASED)) == 4)
    world.emulator.no_faults()
    world.reaches(job_id, JobState.VERIFIED)
    assert_same_index(world.emulator.dump(SMALL), {**before, **as_twins(before)})
    # And with nothing to do it is as small as before
    world.until("it is small again", lambda: room(world) == 1)


@pytest.mark.parametrize("pool", ["prefork", "solo", "threads"])
def test_a_job_is_worked_to_its_end_by_each_pool(open_world: OpenWorld, pool: str) -> None:
    world = open_world()
    before = world.fill(alma=60, bruno=40)
    world.start_celery("-A", "workers", "worker", "-P", pool, "-c", "2")
    world.start_dispatcher()
    world.until_all_answer()
    [stats] = (world.fleet.celery.control.inspect().stats() or {}).values()
    assert pool in stats["pool"]["implementation"]
    job_id = world.apply(world.plan(SMALL))
    world.reaches(job_id, JobState.VERIFIED)
    assert_same_index(world.emulator.dump(SMALL), {**before, **as_twins(before)})
