"""Mistakes of other tools that move vectors; each has a story here, or docs/guarantees.md names its test."""

from dataclasses import replace

import numpy as np
import pytest

from orchestrator import schema
from orchestrator.core.states import BatchKind, BatchState, JobState
from orchestrator.services import acts
from tests.stories.emulated import as_twins, assert_same_index, row, target_of
from tests.stories.world import SMALL, WHO, OpenWorld
from vecfleet.errors import BadInput, Refused, VecfleetError

pytestmark = pytest.mark.story


def test_a_re_run_drops_nothing_and_writes_nothing(open_world: OpenWorld) -> None:
    world = open_world()
    before = world.fill(alma=30, bruno=20)
    plan = world.plan(SMALL)
    world.start(workers=1)
    job_id = world.apply(plan)
    world.reaches(job_id, JobState.VERIFIED)
    since = world.emulator.last_call()
    # When everything that set it up is run again
    schema.upgrade(world.env["DATABASE_URL"])
    with pytest.raises(Refused):
        world.apply(plan)
    # Then the job table and the index are as they were
    assert world.job(job_id).state is JobState.VERIFIED
    assert world.emulator.writes(since=since) == []
    assert_same_index(world.emulator.dump(SMALL), {**before, **as_twins(before)})
    # And even once the job was given up, its plan does not run into what stands there
    acts.cancel(world.fleet.database, job_id, WHO)
    world.reaches(job_id, JobState.CANCELLED)
    with pytest.raises((Refused, BadInput)) as refusal:
        world.apply(plan)
    assert isinstance(refusal.value, VecfleetError) and refusal.value.message
    assert world.emulator.writes(since=since) == []


def test_a_job_that_goes_on_after_a_death_knows_one_id_in_two_namespaces_apart(open_world: OpenWorld) -> None:
    world = open_world()
    world.fill()
    # Given two namespaces with the very same ids and other vectors
    for seed, name in enumerate(("alma", "bruno")):
        world.emulator.write(SMALL, name, [row(f"chunk-{n}", seed=seed, of=name) for n in range(60)])
    before = world.emulator.dump(SMALL)
    # When the worker that copies them dies after an upsert, and another one goes on
    world.emulator.fault(operation="upsert", namespace=target_of("bruno"), delay_ms=3_000, count=1)
    first = world.start(workers=1).workers[0]
    job_id = world.apply(world.plan(SMALL))
    world.until("a batch is leased", lambda: world.batches(job_id, BatchState.LEASED, kind=BatchKind.COPY))
    world.kill(first)
    world.lapse(first)
    world.start_worker()
    world.reaches(job_id, JobState.VERIFIED)
    # Then each namespace arrived with its own
    assert_same_index(world.emulator.dump(SMALL), {**before, **as_twins(before)})
    world.assert_accounts(job_id)


def test_sparse_values_arrive_to_the_bit(open_world: OpenWorld) -> None:
    world = open_world()
    # Given an index whose records have dense values and sparse ones, some of them only the former
    world.emulator.create_index(SMALL, _sparse_values={"type": "sparse_vector"})
    chance = np.random.default_rng(7)
    rows = [row(f"h{n}", page=n) for n in range(40)]
    for n in range(30):
        indices = tuple(sorted(int(index) for index in chance.choice(2**32 - 1, 9, replace=False)))
        rows[n] = replace(rows[n], sparse=(indices, chance.random(9, dtype="<f4").tobytes()))
    world.emulator.write(SMALL, "alma", rows)
    before = world.emulator.dump(SMALL)
    assert sum(one.sparse is not None for one in before["alma"].values()) == 30
    # When they are moved, and both sides are asked for their neighbours too
    world.start(workers=1)
    job_id = world.apply(world.plan(SMALL, verify="content+query", query_sample=12, query_top_k=5))
    world.reaches(job_id, JobState.VERIFIED)
    # Then every bit is there, and both answer alike
    assert_same_index(world.emulator.dump(SMALL), {**before, **as_twins(before)})
    verdict = world.targets(job_id)[target_of("alma")].verdict
    assert verdict is not None
    assert (verdict["queries"]["compared"], verdict["queries"]["overlap_worst"]) == (12, 1.0)


def test_a_source_that_looks_empty_does_not_empty_its_target(open_world: OpenWorld) -> None:
    world = open_world()
    before = world.fill(alma=30)
    world.start(workers=1)
    job_id = world.apply(world.plan(SMALL))
    world.reaches(job_id, JobState.VERIFIED)
    # Given a source that is empty all at once, and a target that lost a record
    world.emulator.delete(SMALL, "alma", *before["alma"])
    world.emulator.delete(SMALL, target_of("alma"), "alma-3")
    # When it is verified, and repaired as often as the plan allows
    acts.verify(world.fleet.database, job_id, WHO)
    job = world.reaches(job_id, JobState.NEEDS_ATTENTION)
    # Then the rest is where it was, and a person is asked
    assert job.reason == "1 target differs from its sources"
    assert len(world.emulator.records(SMALL, target_of("alma"))) == 29
    assert world.move(job_id, "alma").written == 30
