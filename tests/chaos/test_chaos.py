"""Any fault, any time: twenty made-up indexes, each with faults of its own. `make chaos SEEDS=200` runs more."""

from pathlib import Path

import pytest

from tests.chaos import books
from tests.chaos.__main__ import table, told
from tests.chaos.fleet import ChaosFleet
from tests.chaos.life import live
from tests.chaos.schedule import AMBUSHES, ERASURE, PEOPLE, PROCESS_FAULTS, STORE_FAULTS, VANISHING, make_schedule
from tests.chaos.small_index import make_case

SEEDS = range(1, 21)


@pytest.mark.story
def test_twenty_seeds_of_faults_break_no_law(tmp_path: Path) -> None:
    with ChaosFleet(tmp_path) as fleet:
        books.watch(fleet.sql)
        outcomes = [live(fleet, seed) for seed in SEEDS]
    print(table(outcomes))
    broken = [told(outcome) for outcome in outcomes if outcome.wrong]
    assert not broken, "\n".join(broken)


def test_a_seed_that_failed_can_be_tried_again() -> None:
    for seed in SEEDS:
        assert make_case(seed) == make_case(seed)
        assert make_schedule(make_case(seed)) == make_schedule(make_case(seed))


def test_two_hundred_seeds_schedule_every_fault_there_is() -> None:
    schedules = [make_schedule(make_case(seed)) for seed in range(1, 201)]
    scheduled = {event.what for schedule in schedules for event in schedule.events}
    assert scheduled == {*STORE_FAULTS, *PROCESS_FAULTS, *AMBUSHES, *VANISHING, *PEOPLE, ERASURE}
