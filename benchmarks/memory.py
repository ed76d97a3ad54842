"""Costs of a fleet that must not grow with what it moves: memory of a worker, and bytes on the wire for each record.

    python -m benchmarks.memory [--quick] [--records 10000 1000000] [--json FILE]

The same workers copy and verify so many records of 8 dimensions, the few first, and the largest resident size of one
is watched meanwhile. Then records of 3,072 dimensions are copied: what was sent and answered of fetches and upserts
is in the emulator's log.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import psutil

from benchmarks.data import fill_one
from benchmarks.figures import Figure
from benchmarks.fleet import WHO, Running, applied, end, reached, running
from benchmarks.reach import REACHES
from benchmarks.runner import parser, report
from orchestrator.core.states import JobState
from orchestrator.embedded.record import StackRecord
from vecfleet.records import FLOAT32_BYTES

DIMENSION, WIDE, WIDE_RECORDS = 8, 3_072, 2_000
WHOLE, QUICK = (10_000, 1_000_000), (10_000, 40_000)
_WATCH_S = 0.5


def measure(quick: bool) -> Iterator[Figure]:
    return measured(QUICK if quick else WHOLE)


def measured(sizes: Sequence[int]) -> Iterator[Figure]:
    with TemporaryDirectory(prefix="vecfleet-bench-") as folder, running(Path(folder) / "state") as fleet:
        yield from growing(fleet, *sizes)
        yield wire(fleet)


def growing(fleet: Running, few: int, many: int) -> Iterator[Figure]:
    copied(fleet, "warm-up", few, DIMENSION)
    sizes = []
    for records in (few, many):
        with Watch(fleet) as watch:
            seconds = copied(fleet, f"grows-{records}", records, DIMENSION)
        sizes.append(watch.largest)
        yield Figure(f"worker with {records:,} records", watch.largest / 1e6, "MB")
        yield Figure(f"from apply until {records:,} are verified", seconds, "s")
    yield Figure(f"worker with {many:,} records / with {few:,}", sizes[1] / sizes[0], "×", REACHES["worker memory"])


def wire(fleet: Running) -> Figure:
    """Of a copy alone: its verification, which reads once more, is left out by the namespace that it reads."""
    copied(fleet, "wide", WIDE_RECORDS, WIDE)
    url = f"{fleet.settings.pinecone_controller_host}/_emulator/calls"

    def sent(operation: str, namespace: str) -> int:
        asked = {"operation": operation, "index": "wide", "namespace": namespace}
        calls = httpx.get(url, params=asked, timeout=60).raise_for_status().json()["calls"]
        return sum(call["bytes_in"] + call["bytes_out"] for call in calls)

    total = sent("fetch", "twin") + sent("upsert", f"creator_{WHO}_twin_twin")
    values = WIDE * FLOAT32_BYTES * WIDE_RECORDS
    return Figure(
        f"bytes on the wire of a copy / its {WIDE:,}-d values", total / values, "×", REACHES["bytes on the wire"]
    )


def copied(fleet: Running, index: str, records: int, dimension: int) -> float:
    """Seconds from `apply` until so many records are copied and verified."""
    fill_one(fleet, index, records, dimension)
    began = time.monotonic()
    job = applied(fleet, index)
    reached(fleet.fleet, job, JobState.VERIFIED)
    seconds = time.monotonic() - began
    end(fleet.fleet, job)
    return seconds


class Watch:
    """The largest resident size of a worker process while this is open, in bytes."""

    def __init__(self, fleet: Running) -> None:
        record = StackRecord.read(fleet.state_dir)
        assert record is not None, "a stack that runs is on record"
        self._workers = [psutil.Process(one.pid) for one in record.processes if one.name.startswith("worker")]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.largest = 0

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(_WATCH_S):
            self.largest = max(self.largest, *(one.memory_info().rss for one in self._workers))


def main() -> int:
    arguments = parser("python -m benchmarks.memory", __doc__)
    arguments.add_argument("--records", type=int, nargs=2, metavar=("FEW", "MANY"), help="instead of the usual sizes")
    given = arguments.parse_args()
    sizes = given.records or (QUICK if given.quick else WHOLE)
    return report({"memory": lambda quick: measured(sizes)}, given)


if __name__ == "__main__":
    raise SystemExit(main())
