"""The fleet against the same lane in a bare loop: what Celery, job table, pace and fence cost on top of a copy.

Both copy the same namespaces in batches of the same size with as many processes and threads, in turns on one emulator;
who goes first changes from round to round. The fleet's time goes from the start of its job until its last batch is
copied; CPU is that of the worker processes, and of the loop's.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import sqlalchemy as sa

from benchmarks.bare_loop import BareLoop
from benchmarks.data import Load, fill, require_byte_equal
from benchmarks.figures import Figure
from benchmarks.fleet import WORKERS, Copied, Running, copied, drop, running
from benchmarks.reach import REACHES
from benchmarks.runner import alone

DIMENSION = 3_072
# Some ten seconds of work for two cores, a third of it in the quick form: the half second until a job's first batch is
# listed is little in that, as it is in hours.
RECORDS, ROUNDS = 100_000, 5
QUICK_RECORDS, QUICK_ROUNDS = 32_000, 3
# An equal share for each process of the loop; they end together, so that no worker verifies while another one copies.
SPREAD = 2 * WORKERS
FLEET, LOOP = "fleet", "loop"


def measure(quick: bool) -> Iterator[Figure]:
    with TemporaryDirectory(prefix="vecfleet-bench-") as folder, running(Path(folder) / "state") as fleet:
        load = Load("overhead", DIMENSION, QUICK_RECORDS if quick else RECORDS, spread=SPREAD)
        info = fill(fleet.settings, load)
        with BareLoop(fleet.settings, info, WORKERS) as loop:
            _round(fleet, loop, load, 0)  # connections, and the pace, which begins at half
            rounds = [_round(fleet, loop, load, number) for number in range(QUICK_ROUNDS if quick else ROUNDS)]
    fleets, loops = zip(*rounds, strict=True)
    about = f"{DIMENSION:,}-d, {load.metadata} B"
    ratios = [ours.per_second / bare.per_second for ours, bare in rounds]
    yield Figure.of(f"fleet / bare loop, {about}", "×", ratios, REACHES["fleet / bare loop"])
    yield Figure.of(f"fleet, {about}", "records/s", [one.per_second for one in fleets])
    yield Figure.of(f"bare loop, {about}", "records/s", [one.per_second for one in loops])
    of_fleet, of_lane = [one.cpu_ms for one in fleets], [one.cpu_ms for one in loops]
    yield Figure.of(f"CPU of workers, copy, {about}", "ms/record", of_fleet, REACHES["CPU of workers, copy"])
    yield Figure.of(f"CPU of the lane alone, {about}", "ms/record", of_lane, REACHES["CPU of the lane"])


def _round(fleet: Running, loop: BareLoop, load: Load, number: int) -> tuple[Copied, Copied]:
    sources = list(load.namespaces)
    by_loop = loop.copy(sources, LOOP, _batch(fleet)) if number % 2 else None
    by_fleet = copied(fleet, load.index, sources, FLEET)
    by_loop = by_loop or loop.copy(sources, LOOP, _batch(fleet))
    for creator in (FLEET, LOOP):
        require_byte_equal(fleet.settings, load, creator, sources)
        drop(fleet, load.index, sources, creator)
    return by_fleet, by_loop


def _batch(fleet: Running) -> int:
    """Return how many records the fleet put into a batch of its newest job."""
    with fleet.fleet.database.begin() as connection:
        newest = "SELECT max(size) FROM batch WHERE kind = 'copy' AND job_id = (SELECT max(id) FROM job)"
        return int(connection.execute(sa.text(newest)).scalar_one())


if __name__ == "__main__":
    raise SystemExit(alone("overhead", measure, __doc__))
