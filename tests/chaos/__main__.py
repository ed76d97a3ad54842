"""`python -m tests.chaos --seeds 200 --at-once 3`, or `--seed 17` to try one again."""

import argparse
import os
import signal
import sys
import time
from collections import Counter

from tests.chaos.fleets import live_all
from tests.chaos.outcome import Outcome
from tests.chaos.schedule import FRESHNESS

# A life keeps about a core busy; where there are many, more fleets than these get in each other's way.
MOST_AT_ONCE = 8


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="how many seeds, from 1")
    parser.add_argument("--seed", type=int, action="append", help="this one only; may be repeated")
    few = min(os.cpu_count() or 1, MOST_AT_ONCE)
    parser.add_argument("--at-once", type=int, default=few, help="how many fleets; one a core, where nothing is said")
    parser.add_argument("--timeline", action="store_true", help="print what happened when, of good seeds too")
    parser.add_argument("--freshness", type=float, help="seconds the fleets wait for reads, which lag nearly as long")
    arguments = parser.parse_args()
    if arguments.freshness is not None:
        os.environ[FRESHNESS] = str(arguments.freshness)  # for the processes of the fleets
    seeds = arguments.seed or list(range(1, arguments.seeds + 1))
    for number in (signal.SIGTERM, signal.SIGINT):  # whoever ends it leaves no fleet behind, and is told what hit
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    began = time.monotonic()
    outcomes: list[Outcome] = []

    def tell(outcome: Outcome) -> None:
        outcomes.append(outcome)
        print(told(outcome, arguments.timeline), flush=True)

    try:
        live_all(seeds, arguments.at_once, tell)
    finally:
        print(table(outcomes))
        print(f"{len(outcomes)} seeds in {time.monotonic() - began:.0f} s; {spread(outcomes)}")
    return 1 if any(outcome.wrong for outcome in outcomes) else 0


def spread(outcomes: list[Outcome]) -> str:
    """Return how long a life took, for most and at most."""
    seconds = sorted(outcome.seconds for outcome in outcomes) or [0.0]
    parts = (("half of them", 0.5), ("nine of ten", 0.9), ("the longest", 1.0))
    return ", ".join(f"{name} {seconds[min(len(seconds) - 1, int(len(seconds) * part))]:.1f} s" for name, part in parts)


def told(outcome: Outcome, always: bool = False) -> str:
    """A line for a good seed; for one that broke a law, what happened when."""
    line = f"seed {outcome.seed:4}  {outcome.seconds:5.1f} s  {outcome.state:12} {'BROKEN' if outcome.wrong else 'ok'}"
    if outcome.wrong or always:
        lines = [*outcome.wrong, *outcome.timeline, f"again: make chaos SEED={outcome.seed}"]
        line += "\n" + "\n".join(f"    {each}" for each in lines)
    return line


def table(outcomes: list[Outcome]) -> str:
    """Return how often each fault hit."""
    hit: Counter[str] = Counter()
    for outcome in outcomes:
        hit += outcome.hit
    width = max((len(name) for name in hit), default=0)
    return "\n".join(["what hit, and how often", *(f"  {name:{width}}  {hit[name]:6,}" for name in sorted(hit))])


if __name__ == "__main__":
    sys.exit(main())
