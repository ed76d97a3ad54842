"""The main job, from `apply` to its proof, and a second proof alone.

Each round regroups every namespace by a real job (plan → apply → copied → verified), then verifies it once more. The
emulator then says, with code of its own, whether the copies are byte-equal. One more job goes on to its clean-up, which
reads both sides again: its fetches are counted. A small job is that of the seeds' 805 records, on a stack that is just
up.

The whole form does it twice: as fast as the emulator answers, where the processors of this one machine are the limit
and share the work of the service too; and with every answer a little late, as a service far away would be.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.data import Load, fill, require_byte_equal
from benchmarks.figures import Figure
from benchmarks.fleet import WHO, JobTimes, Running, drop, late, migrate, planned, reached, running
from benchmarks.loops import client_of
from benchmarks.reach import REACHES
from benchmarks.runner import alone
from emulator import seeds
from orchestrator.core.states import JobState
from orchestrator.services import acts, apply

JUDGED = 3_072  # the dimension that the reaches were set for
WHOLE, QUICK = ((1_536, 20_000), (JUDGED, 20_000)), ((JUDGED, 15_000),)
# Namespaces as large as those that the reach was set for: of small ones every last batch is a fetch of a few records.
FETCHED = Load("fetched", JUDGED, 2 * 8_334, spread=2)
ROUNDS, QUICK_ROUNDS = 5, 3
DELAYS_MS, QUICK_DELAYS_MS = (0, 30), (0,)


def measure(quick: bool) -> Iterator[Figure]:
    rounds = QUICK_ROUNDS if quick else ROUNDS
    yield small(rounds)
    with TemporaryDirectory(prefix="vecfleet-bench-") as folder, running(Path(folder) / "state") as fleet:
        for dimension, records in QUICK if quick else WHOLE:
            load = Load(f"main-{dimension}", dimension, records)
            fill(fleet.settings, load)
            _round(fleet, load)  # connections, and the pace, which begins at half
            for delay_ms in QUICK_DELAYS_MS if quick else DELAYS_MS:
                with late(fleet, load.index, delay_ms):
                    times = [_round(fleet, load) for _ in range(rounds)]
                yield from _figures(times, dimension, delay_ms)
            client_of(fleet).indexes.delete(load.index)
        fill(fleet.settings, FETCHED)
        yield from fetches(fleet, FETCHED)


def small(rounds: int) -> Figure:
    """The seeds' records, planned, copied and verified by jobs one after the other; the first is the slowest."""
    with (
        TemporaryDirectory(prefix="vecfleet-bench-") as folder,
        running(Path(folder) / "state", load="seeds") as fleet,
    ):
        index = fleet.fleet.store.open(fleet.fleet.store.describe(seeds.INDEX))
        sources = [found.name for found in index.namespaces()]
        # Some of the records hold a key that the job sets.
        found = [
            migrate(fleet, seeds.INDEX, sources, f"{WHO}-{number}", conflicts="overwrite") for number in range(rounds)
        ]
    name = f"{found[0].copied.records:,} records of the seeds, from plan to verified"
    return Figure.of(name, "s", [one.verified_s for one in found], REACHES["a small job"])


def fetches(fleet: Running, load: Load) -> Iterator[Figure]:
    """Fetch requests of a job from `apply` on, until it is verified and until its sources are deleted."""
    plan = planned(fleet, load.index, list(load.namespaces))  # which fetches samples, so many whatever the records
    thousands, since = load.records / 1_000, fleet.last_call()
    job = apply.apply(fleet.fleet, plan, who=WHO, no_backup=True)
    reached(fleet.fleet, job, JobState.VERIFIED)
    verified = len(fleet.calls(since, operation="fetch", index=load.index))
    acts.clean_up(fleet.fleet.database, job, WHO, by_ids=False)
    reached(fleet.fleet, job, JobState.CLEANED)
    cleaned = len(fleet.calls(since, operation="fetch", index=load.index))
    about = f"{load.dimension:,}-d"
    yield Figure(f"fetches, copied and verified, {about}", verified / thousands, "a 1,000 records")
    name = f"fetches, copied, verified and both sides rechecked, {about}"
    yield Figure(name, cleaned / thousands, "a 1,000 records", REACHES["fetches"])


def _round(fleet: Running, load: Load) -> JobTimes:
    sources = list(load.namespaces)
    times = migrate(fleet, load.index, sources, WHO)
    require_byte_equal(fleet.settings, load, WHO, sources)
    drop(fleet, load.index, sources, WHO)
    return times


def _figures(rounds: list[JobTimes], dimension: int, delay_ms: int) -> Iterator[Figure]:
    about = f"{dimension:,}-d, {f'answers {delay_ms} ms late' if delay_ms else 'answers at once'}"
    records = rounds[0].copied.records

    def of(name: str, unit: str, samples: Iterator[float]) -> Figure:
        reach = REACHES.get(name) if dimension == JUDGED else None
        return Figure.of(f"{name}, {about}", unit, list(samples), reach)

    yield of("copy, while verified", "records/s", (one.copied.per_second for one in rounds))
    yield of("copy and verify, from apply", "records/s", (records / one.verified_s for one in rounds))
    yield of("verify alone", "records/s", (records / one.verify_s for one in rounds))
    yield of("CPU of workers, copy and verify", "ms/record", (one.copied.cpu_ms for one in rounds))
    yield of("CPU of workers, verify", "ms/record", (one.verify_cpu_s / records * 1e3 for one in rounds))
    copies = (one.verify_cpu_s / (one.copied.cpu_s - one.verify_cpu_s) for one in rounds)
    yield of("verify / copy, CPU", "×", copies)
    yield of("verify / copy, wall", "×", (one.verify_s / one.copied.seconds for one in rounds))
    emulator = (one.emulator_cpu_s / records * 1e3 for one in rounds)
    yield of("CPU of the emulator, copy and verify", "ms/record", emulator)


if __name__ == "__main__":
    raise SystemExit(alone("main_job", measure, __doc__))
