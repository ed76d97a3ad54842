"""The cost of a record by its size: dimensions against metadata, copied by the fleet.

Each copy is a real job: with a digest of every record and its check for conflicts. What follows it is a verification of
ids alone, so that the workers do little else. CPU is that of the worker processes.
"""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.data import METADATA_BYTES, Load, fill, require_byte_equal
from benchmarks.figures import Figure
from benchmarks.fleet import WHO, WORKERS, Running, copied, drop, running
from benchmarks.loops import client_of
from benchmarks.reach import REACHES
from benchmarks.runner import alone

DIMENSIONS, METADATA = (8, 384, 1_536, 3_072), (0, 500, 2_000)
QUICK = ((8, 0), (1_536, 500), (3_072, 500))
ROUNDS, QUICK_ROUNDS = 5, 3
# So many records take about ten seconds on two cores.
RECORDS = {8: 50_000, 384: 40_000, 1_536: 25_000, 3_072: 20_000}
QUICK_SHARE = 0.6
SPREAD = 2 * WORKERS
_REACH = (3_072, METADATA_BYTES)  # what the reach was set for


def measure(quick: bool) -> Iterator[Figure]:
    with TemporaryDirectory(prefix="vecfleet-bench-") as folder, running(Path(folder) / "state") as fleet:
        for dimension, metadata in QUICK if quick else product(DIMENSIONS, METADATA):
            records = int(RECORDS[dimension] * (QUICK_SHARE if quick else 1))
            load = Load(f"copy-{dimension}-{metadata}", dimension, records, metadata, SPREAD)
            yield from _measured(fleet, load, QUICK_ROUNDS if quick else ROUNDS)


def _measured(fleet: Running, load: Load, rounds: int) -> Iterator[Figure]:
    fill(fleet.settings, load)
    sources, found = list(load.namespaces), []
    for _ in range(1 + rounds):  # the first one warms up: connections, and the pace, which begins at half
        found.append(copied(fleet, load.index, sources, WHO))
        require_byte_equal(fleet.settings, load, WHO, sources)
        drop(fleet, load.index, sources, WHO)
    client_of(fleet).indexes.delete(load.index)
    about = f"{load.dimension:,}-d, {load.metadata:,} B"
    yield Figure.of(f"copy, {about}", "records/s", [one.per_second for one in found[1:]])
    reach = REACHES["CPU of workers, copy"] if (load.dimension, load.metadata) == _REACH else None
    yield Figure.of(f"CPU of workers, copy, {about}", "ms/record", [one.cpu_ms for one in found[1:]], reach)


if __name__ == "__main__":
    raise SystemExit(alone("copy", measure, __doc__))
