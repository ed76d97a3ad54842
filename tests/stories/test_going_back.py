"""Stopping a job, and undoing it: a pause is a pause, and rolling back leaves the index as it was."""

import pytest
import sqlalchemy as sa

from orchestrator.core.states import BatchState, JobState
from orchestrator.ledger import tables as t
from orchestrator.services import acts
from tests.stories.emulated import as_twins, assert_same_index, row, target_of
from tests.stories.world import SEEDS, SMALL, WHO, OpenWorld, World

pytestmark = pytest.mark.story


def test_a_pause_stops_the_writing_until_it_is_resumed(seeds: World) -> None:
    # Given a job half way
    before = seeds.emulator.dump(SEEDS)
    seeds.emulator.fault(operation="upsert", delay_ms=1_000)
    seeds.start(workers=2)
    job_id = seeds.apply(seeds.plan(conflicts="overwrite"))
    seeds.until("some batches are copied", lambda: len(seeds.batches(job_id, BatchState.DONE)) > 10)
    # When a person pauses it
    acts.pause(seeds.fleet.database, job_id, WHO)
    seeds.reaches(job_id, JobState.PAUSED)
    # Then no batch is on its way, much is left to do, and nothing more is written
    assert not seeds.batches(job_id, BatchState.LEASED, BatchState.DISPATCHED)
    written = sum(move.written for move in seeds.moves(job_id))
    assert written < 805
    paused_at = seeds.emulator.last_call()
    # And when it is resumed it goes on to the end, writing only what was not yet written
    assert not seeds.emulator.writes(since=paused_at)
    seeds.emulator.no_faults()
    acts.resume(seeds.fleet.database, job_id, WHO)
    seeds.reaches(job_id, JobState.VERIFIED)
    upserts = [call for call in seeds.emulator.calls(operation="upsert", since=paused_at) if call["applied"]]
    assert sum(len(call["ids"]) for call in upserts) == 805 - written
    assert_same_index(seeds.emulator.dump(SEEDS), {**before, **as_twins(before)})
    seeds.assert_accounts(job_id)


def test_a_cancelled_job_is_rolled_back_to_the_byte(seeds: World) -> None:
    # Given a job cancelled half way
    before = seeds.emulator.dump(SEEDS)
    seeds.emulator.fault(operation="upsert", delay_ms=1_000)
    seeds.start(workers=2)
    job_id = seeds.apply(seeds.plan(conflicts="overwrite"))
    seeds.until("some batches are copied", lambda: len(seeds.batches(job_id, BatchState.DONE)) > 33)
    acts.cancel(seeds.fleet.database, job_id, WHO)
    seeds.reaches(job_id, JobState.CANCELLED)
    assert seeds.emulator.dump(SEEDS).keys() > before.keys()
    # When it is rolled back
    acts.roll_back(seeds.fleet.database, job_id, WHO, None)
    seeds.reaches(job_id, JobState.ROLLED_BACK)
    # Then the index is what it was, and no source was ever written to
    assert_same_index(seeds.emulator.dump(SEEDS), before)
    assert not {call["namespace"] for call in seeds.emulator.writes()} & before.keys()
    # And the same plan can be run again
    seeds.emulator.no_faults()
    again = seeds.apply(seeds.plan(conflicts="overwrite"))
    seeds.reaches(again, JobState.VERIFIED)
    assert_same_index(seeds.emulator.dump(SEEDS), {**before, **as_twins(before)})


def test_rolling_back_lists_changed_records_and_keeps_them_only_when_told(
    open_world: OpenWorld,
) -> None:
    world = open_world()
    before = world.fill(alma=30, bruno=20)
    world.start(workers=1)
    job_id = world.apply(world.plan(SMALL))
    world.reaches(job_id, JobState.VERIFIED)
    # Given that somebody changed one record at a target and wrote another there
    changed = row("alma-3", seed=1, note="by somebody else")
    added = row("new", note="by somebody else")
    world.emulator.write(SMALL, target_of("alma"), [changed, added])
    as_it_is = world.emulator.dump(SMALL)
    # When it is rolled back and nothing is said about such records
    acts.roll_back(world.fleet.database, job_id, WHO, None)
    job = world.reaches(job_id, JobState.NEEDS_ATTENTION)
    # Then it is refused, naming the changed record, and nothing was removed
    assert job.reason == "refused: 1 record at the targets is no longer what the job wrote"
    assert changed_records(world, job_id) == [(target_of("alma"), "alma-3")]
    assert_same_index(world.emulator.dump(SMALL), as_it_is)
    # And when they are to be kept, everything else goes, and the sources were never touched
    acts.roll_back(world.fleet.database, job_id, WHO, "keep")
    world.reaches(job_id, JobState.ROLLED_BACK)
    kept = {target_of("alma"): {"alma-3": changed, "new": added}}
    assert_same_index(world.emulator.dump(SMALL), {**before, **kept})


def changed_records(world: World, job_id: int) -> list[tuple[str, str]]:
    query = (
        sa.select(t.target.c.namespace, t.finding.c.record_id)
        .join(t.target, t.target.c.id == t.finding.c.target_id)
        .where(t.target.c.job_id == job_id, t.finding.c.kind == "changed")
    )
    with world.fleet.database.begin() as connection:
        return [(row.namespace, row.record_id) for row in connection.execute(query)]
