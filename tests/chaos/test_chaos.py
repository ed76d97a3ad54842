"""Any fault, any time: twenty made-up indexes, each with faults of its own. `make chaos SEEDS=200` runs more."""

import time

import pytest

from tests.chaos.__main__ import spread, table, told
from tests.chaos.fleets import live_all
from tests.chaos.outcome import Outcome
from tests.chaos.schedule import (
    AMBUSHES,
    ERASURE,
    PEOPLE,
    PROCESS_FAULTS,
    SET_BACK,
    STORE_FAULTS,
    STRANGERS,
    VANISHING,
    WRITTEN_BEHIND,
    make_schedule,
)
from tests.chaos.small_index import make_case

SEEDS = range(1, 21)
AT_ONCE = 4  # a life waits for most of its time


@pytest.mark.story
# Three minutes on two quiet cores; on slower ones that another process of pytest keeps busy, several times that.
@pytest.mark.timeout(3_600)
def test_twenty_seeds_of_faults_break_no_law() -> None:
    outcomes: list[Outcome] = []

    def tell(outcome: Outcome) -> None:
        outcomes.append(outcome)
        print(told(outcome), flush=True)  # if it is cut off, this says how far it came

    began = time.monotonic()
    live_all(SEEDS, AT_ONCE, tell)
    print(table(outcomes), f"in {time.monotonic() - began:.0f} s; {spread(outcomes)}", sep="\n")
    assert sorted(outcome.seed for outcome in outcomes) == list(SEEDS)
    broken = [told(outcome) for outcome in outcomes if outcome.wrong]
    assert not broken, "\n".join(broken)


def test_a_seed_that_failed_can_be_tried_again() -> None:
    for seed in SEEDS:
        assert make_case(seed) == make_case(seed)
        assert make_schedule(make_case(seed)) == make_schedule(make_case(seed))


def test_two_hundred_seeds_schedule_every_fault_there_is() -> None:
    schedules = [make_schedule(make_case(seed)) for seed in range(1, 201)]
    scheduled = {event.what for schedule in schedules for event in schedule.events}
    assert scheduled == {
        *STORE_FAULTS,
        *PROCESS_FAULTS,
        *AMBUSHES,
        *VANISHING,
        *PEOPLE,
        SET_BACK,
        *STRANGERS,
        WRITTEN_BEHIND,
        ERASURE,
    }
