"""The seeds' case from end to end: the first user's index becomes tenants' namespaces, and the old is gone."""

from typing import Any

import pytest

from orchestrator.core.states import JobState, MoveState
from orchestrator.services import acts
from tests.stories.emulated import as_twins, assert_same_index, target_of
from tests.stories.world import SEEDS, WHO, World

pytestmark = pytest.mark.story


def test_all_namespaces_become_one_creators_twins_and_each_source_goes_only_after_proof(seeds: World) -> None:
    # Given the first user's index, some of whose records hold a key that the migration sets
    before = seeds.emulator.dump(SEEDS)
    assert (sum(map(len, before.values())), len(before)) == (805, 30)
    assert any("twin_id" in row.metadata for row in before["__default__"].values())
    # When it is migrated by two workers: copied, verified, cut over, cleaned up
    seeds.start(workers=2)
    job_id = seeds.apply(seeds.plan(conflicts="overwrite"))
    seeds.reaches(job_id, JobState.VERIFIED)
    assert_same_index(seeds.emulator.dump(SEEDS), {**before, **as_twins(before)})
    acts.cut_over(seeds.fleet.database, job_id, WHO, 100)
    acts.clean_up(seeds.fleet.database, job_id, WHO, by_ids=False)
    seeds.reaches(job_id, JobState.CLEANED)
    # Then the index holds the new namespaces and nothing else, every record byte for byte
    assert_same_index(seeds.emulator.dump(SEEDS), as_twins(before))
    # And the books say so
    seeds.assert_accounts(job_id)
    every = seeds.moves(job_id)
    assert {move.state for move in every} == {MoveState.CLEANED}
    assert sum(move.written for move in every) == sum(move.deleted for move in every) == 805
    # And each source was deleted once, after every record of it had been written to its target and read back there
    calls = seeds.emulator.calls(index=SEEDS)
    for source, rows in before.items():
        assert_deleted_after_proof(calls, source, target_of(source), set(rows))


def assert_deleted_after_proof(calls: list[dict[str, Any]], source: str, target: str, ids: set[str]) -> None:
    """In the order of the emulator's log: every id written to the target, then read from it, then the deletion."""
    written: set[str] = set()
    proven: set[str] = set()
    deletions = 0
    for call in calls:
        if not call["applied"]:
            continue
        if (call["operation"], call["namespace"]) == ("upsert", target):
            assert not deletions, f"{target} was written to after {source} was deleted"
            written |= set(call["ids"])
        elif (call["operation"], call["namespace"]) == ("fetch", target):
            proven |= written & set(call["ids"])
        elif call["operation"] in ("delete", "delete_namespace") and call["namespace"] == source:
            deletions += 1
            assert proven >= ids, f"{source} was deleted before {len(ids - proven)} of its records were proven"
    assert deletions == 1, f"{source} was deleted {deletions} times"
