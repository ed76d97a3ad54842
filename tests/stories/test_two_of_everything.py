"""Two dispatchers, the same plan twice, two indexes: what there is one of stays one."""

import numpy as np
import pytest
from pinecone import Pinecone

from migrations.plan import Policies
from migrations.recipes import Common, IndexOptions, plan_index
from orchestrator.core.states import BatchKind, JobState
from orchestrator.ledger import jobs
from orchestrator.services import acts
from tests.stories.emulated import Row, as_twins, assert_same_index, row
from tests.stories.world import NOW, SEEDS, SMALL, WHO, OpenWorld, World
from vecfleet.errors import Refused

pytestmark = pytest.mark.story


def test_two_dispatchers_do_no_harm_and_one_takes_over_when_the_other_dies(seeds: World) -> None:
    before = seeds.emulator.dump(SEEDS)
    seeds.emulator.fault(operation="upsert", delay_ms=500)
    # Given two dispatchers and a job half way
    seeds.start(workers=2, dispatchers=2)
    job_id = seeds.apply(seeds.plan(conflicts="overwrite"))
    seeds.until("some batches are copied", lambda: sum(move.written for move in seeds.moves(job_id)) > 20)
    # When the one that leads is killed
    leader = seeds.leader()
    seeds.kill(leader)
    # Then the other leads, and the job ends as with one
    seeds.reaches(job_id, JobState.VERIFIED)
    seeds.until("the other leads", lambda: seeds.leader() is not leader)
    assert_same_index(seeds.emulator.dump(SEEDS), {**before, **as_twins(before)})
    seeds.assert_accounts(job_id)
    # And no batch was given out twice
    assert {batch["attempts"] for batch in seeds.batches(job_id, kind=BatchKind.COPY)} == {1}
    upserts = [call for call in seeds.emulator.calls(operation="upsert") if call["applied"]]
    assert sum(len(call["ids"]) for call in upserts) == 805


def test_a_plan_runs_once_at_a_time(open_world: OpenWorld) -> None:
    # Given a job that was just applied
    world = open_world()
    world.fill(alma=5, bruno=5)
    plan = world.plan(SMALL)
    job_id = world.apply(plan)
    # When the same plan is applied again, or another one for the same namespaces
    other = world.plan(SMALL, conflicts="overwrite")
    for again, why in ((plan, "runs this very plan now"), (other, f"is a target of job {job_id}")):
        with pytest.raises(Refused, match=why):
            world.apply(again)
    # Then there is one job still, and nobody wrote anything
    with world.fleet.database.begin() as connection:
        assert [job.id for job in jobs.every(connection)] == [job_id]
    assert not world.emulator.writes(since=world.filled_at)


def test_two_jobs_on_one_index_do_not_disturb_each_other(open_world: OpenWorld) -> None:
    world = open_world()
    before = world.fill(alma=30, bruno=20, chiara=10)
    world.start(workers=2)
    # Given a job for some namespaces and, while it runs, another for the rest
    plans = [world.plan(SMALL, skip=("chiara",)), world.plan(SMALL, skip=("alma", "bruno"))]
    ids = [world.apply(plan) for plan in plans]
    # When both end, and one is rolled back while the other is cleaned up
    for job_id in ids:
        world.reaches(job_id, JobState.VERIFIED)
    acts.cut_over(world.fleet.database, ids[0], WHO, 100)
    acts.clean_up(world.fleet.database, ids[0], WHO, by_ids=False)
    acts.roll_back(world.fleet.database, ids[1], WHO, None)
    world.reaches(ids[0], JobState.CLEANED)
    world.reaches(ids[1], JobState.ROLLED_BACK)
    # Then each did its own
    chiara = {"chiara": before.pop("chiara")}
    assert_same_index(world.emulator.dump(SMALL), {**as_twins(before), **chiara})


def test_hybrid_records_move_to_another_index_with_their_sparse_values(open_world: OpenWorld) -> None:
    world = open_world()
    # Given a hybrid index, made with the SDK, whose records have sparse values, or none
    fields = {
        "_values": {"type": "dense_vector", "dimension": 8, "metric": "dotproduct"},
        "_sparse_values": {"type": "sparse_vector"},
    }
    Pinecone(api_key="any", host=world.emulator.address).indexes.create(name="hybrid", schema={"fields": fields})
    for namespace in ("alma", "__default__"):
        world.emulator.write("hybrid", namespace, [with_sparse(f"{namespace}-{n}", n % 4) for n in range(25)])
    before = world.emulator.dump("hybrid")
    # When it is moved into another index that is not there yet, and cleaned up
    world.start(workers=1)
    options = IndexOptions(source="hybrid", target="newer", common=Common(policies=Policies(soak_seconds=0)))
    job_id = world.apply(plan_index(world.fleet.store, options, now=NOW))
    world.reaches(job_id, JobState.VERIFIED)
    acts.cut_over(world.fleet.database, job_id, WHO, 100)
    acts.clean_up(world.fleet.database, job_id, WHO, by_ids=False)
    world.reaches(job_id, JobState.CLEANED)
    # Then the new index holds the very same records under the same names, and the old one none
    assert_same_index(world.emulator.dump("newer"), before)
    assert not any(world.emulator.dump("hybrid").values())


def with_sparse(id: str, terms: int) -> Row:
    one = row(id, title="größer", page=1.5, tags=["a", "b"])
    weights = np.arange(1, terms + 1, dtype="<f4") / np.float32(3)
    indices = tuple(4_294_967_295 - 7 * n for n in range(terms))
    return Row(one.id, one.values, (indices, weights.tobytes()) if terms else None, one.metadata)
