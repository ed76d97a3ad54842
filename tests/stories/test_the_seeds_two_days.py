"""Seed 001, "Day 1" and "Day 2", through the command line, with the results that it prints."""

import os
import re

import pytest

from orchestrator.core.states import JobState
from orchestrator.services import acts
from tests.stories.emulated import CREATOR, as_twins, assert_same_index
from tests.stories.launching import type_out
from tests.stories.world import SEEDS, WHO, World

pytestmark = pytest.mark.story


def typed(world: World, *words: str) -> str:
    done = type_out(*words, env=os.environ | world.env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_day_1_maps_805_of_805_and_day_2_erases_a_twin_and_then_the_creator(seeds: World) -> None:
    # Day 1: every namespace becomes a twin of the test creator, and the old ones go
    before = seeds.emulator.dump(SEEDS)
    seeds.start(workers=2)
    job_id = seeds.apply(seeds.plan(conflicts="overwrite"))
    seeds.reaches(job_id, JobState.VERIFIED)
    acts.cut_over(seeds.fleet.database, job_id, WHO, 100)
    acts.clean_up(seeds.fleet.database, job_id, WHO, by_ids=False)
    seeds.reaches(job_id, JobState.CLEANED)
    report = typed(seeds, "report", str(job_id))
    assert "moved and verified  805 of 805 records" in report
    assert "namespaces          30 before → 30 after" in report
    assert_same_index(seeds.emulator.dump(SEEDS), as_twins(before))

    # Day 2: a twin, then the creator
    twin = max(before, key=lambda name: len(before[name]) if name != "__default__" else 0)
    day2 = typed(seeds, "rehearse", "deletion", "--creator", CREATOR, "--twin", twin, "--index", SEEDS, "--yes")
    print(report, day2)
    assert re.search(r"Twin Deletion: +PASS", day2)
    assert re.search(r"Creator Deletion: +PASS", day2)
    assert re.search(r"Query Performance: +(PASS|SLOW) +\(p95 \d+ ms\)", day2)
    assert re.search(r"GDPR Compliance: +PASS +\(2 certificates", day2)
    assert [name for name in seeds.emulator.dump(SEEDS) if CREATOR in name] == []
