"""Writers need not stop: the sources are read pass by pass until what was copied is what is there."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from orchestrator.core.states import JobState
from orchestrator.services import acts
from orchestrator.web.applications import JobTableRoutes
from tests.stories.emulated import CREATOR, Row, as_twins, assert_same_index, row, target_of
from tests.stories.world import SMALL, WHO, OpenWorld, World
from vecfleet.errors import VecfleetError
from vecfleet.tenancy import CachedRoutes, PineconeDelphiClient, Rollout

pytestmark = pytest.mark.story

EVERY_S = 0.2  # a pass over these few records takes less


@contextmanager
def writing(write: Callable[[int], None]) -> Iterator[None]:
    """Somebody who writes again and again, until the block is left."""
    stop = threading.Event()
    failed: list[BaseException] = []

    def work() -> None:
        number = 0
        try:
            while not stop.wait(EVERY_S):
                write(number)
                number += 1
        except (httpx.HTTPError, VecfleetError, AssertionError) as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert not failed, failed


def test_delta_what_writers_change_add_and_delete_meanwhile_arrives(open_world: OpenWorld) -> None:
    # Given a slow service, a plan that lets writers go on, and a writer who does not know of us
    world = open_world()
    world.fill(alma=300, bruno=40)
    world.emulator.fault(operation="fetch", delay_ms=1_000)
    world.start(workers=1)
    job_id = world.apply(world.plan(SMALL, writers="delta"))
    world.until("something is copied", lambda: world.move(job_id, "alma").written)
    world.emulator.write(SMALL, "alma", [row("alma-7", seed=9, note="changed meanwhile"), row("alma-new", seed=8)])
    world.emulator.write(SMALL, "bruno", [row(f"added-{n}", seed=n) for n in range(120)])
    world.emulator.delete(SMALL, "alma", "alma-0", "alma-150")
    world.emulator.no_faults()
    # When the job comes to its end
    world.reaches(job_id, JobState.VERIFIED)
    # Then the targets hold what the sources hold now, and the accounts are in order
    now = {name: world.emulator.records(SMALL, name) for name in ("alma", "bruno")}
    assert len(now["alma"]) == 299 and len(now["bruno"]) == 160
    assert_same_index(world.emulator.dump(SMALL), {**now, **as_twins(now)})
    world.assert_accounts(job_id)
    assert world.job(job_id).passes >= 3  # one that copied, two that found nothing changed
    assert world.move(job_id, "alma").gone == 2
    # And the old can be deleted
    acts.cut_over(world.fleet.database, job_id, WHO, 100)
    acts.clean_up(world.fleet.database, job_id, WHO, by_ids=False)
    world.reaches(job_id, JobState.CLEANED)
    assert_same_index(world.emulator.dump(SMALL), as_twins(now))


def test_a_dual_job_ends_although_its_application_never_stops_writing(
    open_world: OpenWorld,
) -> None:
    world = open_world()
    world.fill(alma=200)
    world.start(workers=1)
    job_id = world.apply(world.plan(SMALL, writers="dual", max_passes=50))

    def write(number: int) -> None:
        record = row(f"alma-{number % 50}", seed=number + 1, note="written to both")
        world.emulator.write(SMALL, "alma", [record])
        world.emulator.write(SMALL, target_of("alma"), [twin(record)])

    world.until("the target is there", lambda: world.emulator.dump(SMALL).get(target_of("alma")))
    with writing(write):
        # When it has read, and read again, while the application went on
        world.reaches(job_id, JobState.VERIFIED)
    # Then one more pass, with the application at rest, finds both sides equal
    acts.another_pass(world.fleet.database, job_id, WHO)
    world.until("it has begun", lambda: world.job(job_id).state is not JobState.COPIED)
    world.reaches(job_id, JobState.VERIFIED)
    assert_twins(world)


def test_dual_an_application_that_uses_our_client_loses_nothing_from_the_first_copy_to_the_clean_up(
    open_world: OpenWorld,
) -> None:
    # Given an application whose client reads the job table's routes
    world = open_world()
    world.fill(alma=200)
    world.start(workers=1)
    routes = CachedRoutes(JobTableRoutes(world.fleet.database), cache_s=0.2)
    rollout = Rollout(routes, flag=False)
    client = PineconeDelphiClient(SMALL, settings=world.fleet.settings, rollout=rollout)
    job_id = world.apply(world.plan(SMALL, writers="dual", max_passes=50))
    world.until("it writes to both sides", lambda: rollout.where(CREATOR, "alma").dual)

    def write(number: int) -> None:
        vectors = [{"id": f"alma-{number % 50}", "values": [number + 1.0] * 8, "metadata": {"n": number}}]
        client.upsert_vectors(vectors, CREATOR, "alma")
        if number < 5:
            client.upsert_vectors([{"id": f"new-{number}", "values": [1.0] * 8}], CREATOR, "alma")
            client.delete_vectors([f"alma-{100 + number}"], CREATOR, "alma")

    # When it adds and deletes, and changes records all the time, and the new side is away for one of the writes
    with writing(write):
        world.reaches(job_id, JobState.VERIFIED)
    world.emulator.fault(operation="upsert", namespace=target_of("alma"), status=507)
    client.upsert_vectors([{"id": "alma-60", "values": [7.0] * 8}], CREATOR, "alma")
    world.emulator.no_faults()
    assert client.journal.count() == 1
    world.until("the journal is empty", lambda: client.replay() == 0)
    # Then another pass finds both sides equal
    acts.another_pass(world.fleet.database, job_id, WHO)
    world.until("it has begun", lambda: world.job(job_id).state is not JobState.COPIED)
    world.reaches(job_id, JobState.VERIFIED)
    assert_twins(world)
    # And so they are once readers have moved, until the old side goes
    acts.cut_over(world.fleet.database, job_id, WHO, 100)
    world.until("the new side is first", lambda: rollout.where(CREATOR, "alma").side == "new")
    client.upsert_vectors([{"id": name, "values": [8.0] * 8} for name in ("alma-61", "later")], CREATOR, "alma")
    client.delete_vectors(["alma-63"], CREATOR, "alma")
    assert_twins(world)
    # And what came and went since the last pass is in the accounts after another one
    acts.another_pass(world.fleet.database, job_id, WHO)
    world.until("it has begun", lambda: world.job(job_id).state is not JobState.COPIED)
    world.reaches(job_id, JobState.CUT_OVER)
    acts.clean_up(world.fleet.database, job_id, WHO, by_ids=False)
    world.reaches(job_id, JobState.CLEANED)
    world.until("one side is left", lambda: not rollout.where(CREATOR, "alma").dual)
    client.upsert_vectors([{"id": "alma-62", "values": [9.0] * 8}], CREATOR, "alma")
    there = world.emulator.dump(SMALL)
    assert set(there) == {target_of("alma")} and {"alma-60", "alma-61", "alma-62", "later"} <= set(
        there[target_of("alma")]
    )


def test_dual_an_application_that_adds_records_all_the_time_does_not_keep_the_job_from_its_verdict(
    open_world: OpenWorld,
) -> None:
    # Given an application that writes new records to both sides, faster than a target is looked at
    world = open_world()
    world.fill(alma=60)
    world.start(workers=1)
    rollout = Rollout(CachedRoutes(JobTableRoutes(world.fleet.database), cache_s=0.2), flag=False)
    client = PineconeDelphiClient(SMALL, settings=world.fleet.settings, rollout=rollout)
    job_id = world.apply(world.plan(SMALL, writers="dual"))
    world.until("it writes to both sides", lambda: rollout.where(CREATOR, "alma").dual)

    def write(number: int) -> None:
        vectors = [{"id": f"new-{number}-{n}", "values": [n + 1.0] * 8} for n in range(3)]
        client.upsert_vectors(vectors, CREATOR, "alma")

    # When it goes on through every pass, then the job comes to its verdict, which tells of them
    with writing(write):
        world.reaches(job_id, JobState.VERIFIED)
        verdict = world.until("it tells of them", lambda: verdict_on_added(world, job_id))
    assert "more were written to both sides since" in verdict["reason"]
    # And a record that came to one side only is extra, as ever
    world.emulator.write(SMALL, target_of("alma"), [row("strange")])
    acts.verify(world.fleet.database, job_id, WHO)
    world.until("it is found", lambda: (found := world.targets(job_id)[target_of("alma")].verdict) and found["extra"])


def verdict_on_added(world: World, job_id: int) -> dict[str, Any] | None:
    """One that was made while records were added; another is asked for where none came just then."""
    verdict = world.targets(job_id)[target_of("alma")].verdict
    if verdict is not None and verdict["added"]:
        return verdict
    if world.job(job_id).state is JobState.VERIFIED:
        acts.verify(world.fleet.database, job_id, WHO)
    return None


def assert_twins(world: World) -> None:
    alma = {"alma": world.emulator.records(SMALL, "alma")}
    assert_same_index(world.emulator.dump(SMALL), {**alma, **as_twins(alma)})


def test_where_many_records_go_away_from_a_source_between_two_passes_a_person_is_asked(open_world: OpenWorld) -> None:
    world = open_world()
    world.fill(alma=60)
    world.start(workers=1)
    job_id = world.apply(world.plan(SMALL, writers="delta"))
    world.reaches(job_id, JobState.VERIFIED)
    target = world.emulator.records(SMALL, target_of("alma"))
    # Given a source that lost eleven records
    world.emulator.delete(SMALL, "alma", *(f"alma-{n}" for n in range(11)))
    acts.another_pass(world.fleet.database, job_id, WHO)
    # Then nothing is removed from the target, and a person is asked
    job = world.reaches(job_id, JobState.PAUSED)
    assert job.reason is not None and job.reason.startswith("11 records of alma went away after they were copied")
    assert world.emulator.records(SMALL, target_of("alma")).keys() == target.keys()
    # When the person says that it is meant, then the target follows
    acts.set_lever(world.fleet.database, job_id, WHO, "missing", 11)
    acts.resume(world.fleet.database, job_id, WHO)
    world.reaches(job_id, JobState.VERIFIED)
    alma = {"alma": world.emulator.records(SMALL, "alma")}
    assert_same_index(world.emulator.dump(SMALL), {**alma, **as_twins(alma)})


def test_sources_that_never_rest_pause_the_job_after_so_many_passes(open_world: OpenWorld) -> None:
    world = open_world()
    world.fill(alma=20)
    world.start(workers=1)
    job_id = world.apply(world.plan(SMALL, writers="delta", max_passes=2))
    with writing(lambda number: world.emulator.write(SMALL, "alma", [row("alma-1", seed=number + 1)])):
        job = world.reaches(job_id, JobState.PAUSED)
    assert job.reason is not None and job.reason.startswith("2 passes, and the sources still change")
    # And once the writer rests and more passes are allowed, it comes to its end
    acts.set_lever(world.fleet.database, job_id, WHO, "passes", 5)
    acts.resume(world.fleet.database, job_id, WHO)
    world.reaches(job_id, JobState.VERIFIED)
    alma = {"alma": world.emulator.records(SMALL, "alma")}
    assert_same_index(world.emulator.dump(SMALL), {**alma, **as_twins(alma)})


def test_a_source_that_lists_nothing_any_more_takes_nothing_from_its_target(open_world: OpenWorld) -> None:
    world = open_world()
    world.fill(alma=20, bruno=5)
    world.start(workers=1)
    job_id = world.apply(world.plan(SMALL, writers="delta"))
    world.reaches(job_id, JobState.VERIFIED)
    target = world.emulator.records(SMALL, target_of("alma"))
    for number in range(20):
        world.emulator.delete(SMALL, "alma", f"alma-{number}")
    acts.another_pass(world.fleet.database, job_id, WHO)
    world.reaches(job_id, JobState.NEEDS_ATTENTION, JobState.PAUSED)
    assert world.emulator.records(SMALL, target_of("alma")) == target


def twin(record: Row) -> Row:
    return record.enriched("alma", CREATOR, "alma")


def test_a_small_source_that_was_deleted_between_two_passes_takes_nothing_from_its_target(
    open_world: OpenWorld,
) -> None:
    """Eight records are below any cap: it is the source's absence that speaks."""
    world = open_world()
    world.fill(alma=8, bruno=5)
    world.start(workers=1)
    job_id = world.apply(world.plan(SMALL, writers="delta"))
    world.reaches(job_id, JobState.VERIFIED)
    target = world.emulator.records(SMALL, target_of("alma"))
    world.emulator.delete(SMALL, "alma", *(f"alma-{n}" for n in range(8)))
    acts.another_pass(world.fleet.database, job_id, WHO)
    world.reaches(job_id, JobState.NEEDS_ATTENTION, JobState.PAUSED)
    assert world.emulator.records(SMALL, target_of("alma")) == target
