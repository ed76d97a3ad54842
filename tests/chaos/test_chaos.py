"""Any fault, any time: made-up indexes, each with faults of its own. `make chaos SEEDS=200` runs more."""

import time

import pytest

from tests.chaos.__main__ import spread, table, told
from tests.chaos.covering import covering, traits
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

SEEDS = range(1, 301)
AT_ONCE = 4  # a life waits for most of its time


@pytest.mark.story
# Two minutes on two quiet cores; on slower ones that another process of pytest keeps busy, several times that.
@pytest.mark.timeout(3_600)
def test_seeds_that_meet_whatever_three_hundred_do_break_no_law() -> None:
    seeds = covering(SEEDS)
    outcomes: list[Outcome] = []

    def tell(outcome: Outcome) -> None:
        outcomes.append(outcome)
        print(told(outcome), flush=True)  # if it is cut off, this says how far it came

    began = time.monotonic()
    live_all(seeds, AT_ONCE, tell)
    print(table(outcomes), f"in {time.monotonic() - began:.0f} s; {spread(outcomes)}", sep="\n")
    assert sorted(outcome.seed for outcome in outcomes) == sorted(seeds)
    broken = [told(outcome) for outcome in outcomes if outcome.wrong]
    assert not broken, "\n".join(broken)


def test_a_seed_that_failed_can_be_tried_again() -> None:
    for seed in SEEDS[:20]:
        assert make_case(seed) == make_case(seed)
        assert make_schedule(make_case(seed)) == make_schedule(make_case(seed))


def test_the_seeds_that_are_lived_here_meet_every_fault_there_is() -> None:
    seeds = covering(SEEDS)
    scheduled = {event.what for seed in seeds for event in make_schedule(make_case(seed)).events}
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
    # And whatever the first twenty seeds meet, in fewer lives
    assert set().union(*map(traits, range(1, 21))) <= set().union(*map(traits, seeds)) and len(seeds) < 20
