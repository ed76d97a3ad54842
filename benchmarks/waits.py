"""The cost of the waits for fresh reads: from `apply` to the last deletion, with reads that lag and without.

    python -m benchmarks.waits [--quick] [--namespaces 12000] [--lag 10] [--json FILE]

The same job twice, each on a stack of its own: reads of its emulator show a write at once, or so many seconds later.
The job has no cut-over, and its clean-up is asked for as soon as it is verified: the waits overlap nothing but its own
copying and verification.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks.figures import Figure
from benchmarks.fleet import WHO, applied, reached, running
from benchmarks.reach import REACHES
from benchmarks.runner import parser, report
from benchmarks.scale import RECORDS, fill
from orchestrator.core.states import JobState
from orchestrator.services import acts

WHOLE, QUICK = 12_000, 300
LAG_S = 10.0
INDEX = "waits"


def measure(quick: bool) -> Iterator[Figure]:
    return measured(QUICK if quick else WHOLE, LAG_S)


def measured(namespaces: int, lag_s: float) -> Iterator[Figure]:
    at_once, late = seconds(namespaces, 0.0), seconds(namespaces, lag_s)
    for run, reads in ((at_once, "that do not lag"), (late, f"{lag_s:g} s late")):
        yield Figure(f"a job, {namespaces:,} namespaces, reads {reads}", run.whole, "s")
        yield Figure(f"of it until verified, reads {reads}", run.verified, "s")
        yield Figure(f"of it the clean-up, reads {reads}", run.whole - run.verified, "s")
    ratio = (late.whole - late.wait) / at_once.whole
    reach = REACHES["a job beside lag"] if namespaces == WHOLE else None  # a small job has too little to overlap
    yield Figure.of("a job beside lag", "×", [ratio], reach)


class Seconds(NamedTuple):
    """Seconds from `apply` until a job is verified, and until its sources are deleted; one wait of its stack."""

    verified: float
    whole: float
    wait: float


def seconds(namespaces: int, lag_s: float) -> Seconds:
    with TemporaryDirectory(prefix="vecfleet-bench-") as folder, running(Path(folder) / "state", lag_s) as fleet:
        fill(fleet, INDEX, [f"source-{number:05}" for number in range(namespaces)], RECORDS)
        time.sleep(lag_s)  # what was filled in shows: a job plans by what it reads
        began = time.monotonic()
        job = applied(fleet, INDEX)
        reached(fleet.fleet, job, JobState.VERIFIED)
        verified = time.monotonic() - began
        acts.clean_up(fleet.fleet.database, job, WHO, by_ids=False)
        reached(fleet.fleet, job, JobState.CLEANED)
        return Seconds(verified, time.monotonic() - began, fleet.settings.freshness_wait_seconds)


def main() -> int:
    arguments = parser("python -m benchmarks.waits", __doc__)
    arguments.add_argument("--namespaces", type=int, help="instead of the usual number")
    arguments.add_argument("--lag", type=float, default=LAG_S, help="seconds by which reads lag")
    given = arguments.parse_args()
    namespaces = given.namespaces or (QUICK if given.quick else WHOLE)
    return report({"waits": lambda quick: measured(namespaces, given.lag)}, given)


if __name__ == "__main__":
    raise SystemExit(main())
