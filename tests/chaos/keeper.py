"""A process that keeps one fleet: each line of its input is a seed, each of its output what became of that seed's life,
and whether the fleet is whole after it.

It ends with its input, or when it is told to, and leaves nothing running.
"""

import json
import os
import signal
import sys
from pathlib import Path

from tests.chaos import books
from tests.chaos.fleet import ChaosFleet
from tests.chaos.life import live


def main() -> None:
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever prints meanwhile prints into the log
    with ChaosFleet(Path(sys.argv[1])) as fleet:
        books.watch(fleet.sql)
        for line in sys.stdin:
            outcome = vars(live(fleet, int(line)))
            answers.write(json.dumps({"outcome": outcome, "whole": fleet.is_whole}) + "\n")
    sys.stderr.flush()
    os._exit(0)  # an erasure that was given up may still be asking, in a thread that Python would wait for


def _end(number: int, _: object) -> None:
    for one in (signal.SIGTERM, signal.SIGINT):  # once is enough: what is running is being stopped
        signal.signal(one, signal.SIG_IGN)
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
