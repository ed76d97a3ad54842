"""The capacity model checked by a simulation: three jobs predicted, then measured on a real fleet.

    python -m benchmarks.simulation [--example PART]

The simulation (`benchmarks/simulating/`) runs the real dispatcher, job table, pace and worker steps on a counted clock;
the service, the processors and Celery are modelled. What a transaction, a call and a record cost each kind of process
is learned from three small jobs on the real fleet (`CALIBRATION`), of other sizes and shapes than those that are
predicted (`CASES`): one that the service's limits hold, one that the processors hold, and one of many namespaces whose
answers are late. Time is from the job's start until every target has its verdict, by the clock of the job table.
What other programs take of the processors is seen during the calibration and taken to stay so: on a machine whose load
changes meanwhile, which is printed, predictions are off by as much.

`--example 1000` also simulates a thousandth of 100 million records in 12,000 namespaces, on two machines of two cores
with a service of its own: a coarse answer, for what that takes grows with the records where a limit of the index binds.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np
import psutil

from benchmarks.figures import Figure
from benchmarks.fleet import WHO, WORKERS, Running, applied, end, running
from benchmarks.reach import REACHES
from benchmarks.runner import parser, report
from benchmarks.simulating.costs import EMULATOR, ROLES, Costs, learned
from benchmarks.simulating.fleet import Servers, servers
from benchmarks.simulating.kernel import Kernel
from benchmarks.simulating.world import Machine, World
from orchestrator.bootstrap import Fleet
from orchestrator.core.states import JobState
from orchestrator.ledger import jobs
from orchestrator.services import acts
from orchestrator.telemetry import logs
from vecfleet.records import Record
from vecfleet.settings import Settings
from vecfleet.stores.base import Index, IndexInfo, Kind
from vecfleet.stores.pinecone import PineconeStore

METADATA_BYTES = 500
_REQUEST_BYTES = 1_500_000
_DISTINCT = 1_000  # vectors; of more records some have the same
_ENDS = {JobState.NEEDS_ATTENTION, JobState.PAUSED, JobState.CANCELLED}
_POLL_S = 0.2  # each look costs Postgres a little
_PATIENCE_S = 180.0


@dataclass(frozen=True, slots=True)
class Case:
    """A job: so many namespaces of so many records, at this share of the limits, answers so late."""

    name: str
    namespaces: int
    records: int
    dimension: int
    share: float = 1.0
    late_ms: float = 0.0

    @property
    def index(self) -> str:
        return self.name.replace(" ", "-")


CALIBRATION = (
    Case("small namespaces", 50, 10, 8),
    Case("small records", 2, 5_000, 8),
    Case("wide records", 2, 3_000, 3_072),
)
# The second is so large that the processors take most of its time, and not what it begins and ends with.
CASES = (
    Case("the limits bind", 10, 2_000, 8, share=0.1, late_ms=30.0),
    Case("the processors bind", 10, 6_000, 1_536),
    Case("many namespaces", 160, 50, 8, late_ms=30.0),
)
EXAMPLE = Case("the example", 12_000, 8_334, 3_072, late_ms=30.0)


@dataclass(frozen=True, slots=True)
class Measured:
    """A job on the real fleet. `used`: processor seconds by role; `others`: cores that other programs kept busy."""

    seconds: float
    used: Mapping[str, float]
    others: float


@dataclass(frozen=True, slots=True)
class Predicted:
    """A job in the simulation. `counted`: how much of each unit each role did."""

    seconds: float
    counted: Mapping[tuple[str, str], float]


def measure(quick: bool) -> Iterator[Figure]:
    return simulated(None)


def simulated(example: int | None) -> Iterator[Figure]:
    logs.configure(Settings.model_validate({}), "WARNING")  # of workers that are threads of this process
    with TemporaryDirectory(prefix="vecfleet-bench-") as folder:
        with running(Path(folder) / "real") as fleet:
            measured(fleet, Case("warm up", 4, 50, 8))
            known = [measured(fleet, case) for case in CALIBRATION]
            real = [measured(fleet, case) for case in CASES]
        others = sum(one.others * one.seconds for one in known) / sum(one.seconds for one in known)
        yield Figure("cores that other programs keep busy", others, f"of {cores()}")
        with servers(Path(folder) / "simulated") as empty:
            costs = calibrated(empty, known, others)
            for (role, unit), seconds in costs.seconds.items():
                yield Figure(f"learned: {role}, for each of its {unit}", seconds * 1e3, "ms")
            for case, measured_then in zip(CASES, real, strict=True):
                yield from compared(case, predict(empty, case, costs, here(case, others)).seconds, measured_then)
            if example is not None:
                yield from exemplified(empty, example, costs)


def compared(case: Case, predicted: float, real: Measured) -> Iterator[Figure]:
    yield Figure(f"{case.name}: predicted", predicted, "s")
    yield Figure(f"{case.name}: measured", real.seconds, "s")
    yield Figure(f"{case.name}: other programs meanwhile", real.others, "cores")
    off = abs(predicted / real.seconds - 1) * 100
    yield Figure(f"{case.name}: predicted is off by", off, "%", REACHES["prediction"])


def cores() -> int:
    return psutil.cpu_count() or 1


def calibrated(empty: Servers, known: Sequence[Measured], others: float) -> Costs:
    """Costs that explain the calibration. What was done in it is counted in simulations of it: first of a fleet that
    costs nothing, then of one that costs what was learned from that.
    """
    costs = Costs()
    for _ in range(2):
        counted = [predict(empty, case, costs, here(case, others)).counted for case in CALIBRATION]
        costs = learned(counted, [one.used for one in known])
    return costs


def exemplified(empty: Servers, part: int, costs: Costs) -> Iterator[Figure]:
    """A part of a migration too long to be measured, with the costs of this machine and none of the emulator."""
    case = replace(EXAMPLE, namespaces=max(1, round(EXAMPLE.namespaces / part)))
    ours = Costs({unit: seconds for unit, seconds in costs.seconds.items() if unit[0] != EMULATOR})
    machine = Machine(cores=4, workers=4, late_s=case.late_ms / 1e3)
    seconds = predict(empty, case, ours, machine).seconds
    records = case.namespaces * case.records
    yield Figure(f"{records:,} records of the example, until verified: predicted", seconds, "s")
    hours = seconds * EXAMPLE.namespaces / case.namespaces / 3_600
    yield Figure("all of the example at that rate, until verified", hours, "h")


def here(case: Case, others: float) -> Machine:
    """This machine, with so many of its cores taken by other programs."""
    return Machine(cores(), WORKERS, others, case.late_ms / 1e3)


def predict(empty: Servers, case: Case, costs: Costs, machine: Machine) -> Predicted:
    """Simulate a job until it is verified."""
    world = World(Kernel(machine.cores), costs, machine)
    with empty.simulated(world) as simulated:
        fill(simulated.index(shape_of(case, host="simulated")), case)
        fleet = Running(simulated.fleet, Path(), {})
        job = begun(fleet, case)
        simulated.work(lambda: not verified(fleet.fleet, job) and world.kernel.now < _PATIENCE_S)
        return Predicted(seconds_of(fleet.fleet, job), world.counted)


def measured(fleet: Running, case: Case) -> Measured:
    """The same on the real fleet."""
    store = PineconeStore(fleet.settings)
    info = store.create_like(case.index, shape_of(case), "aws", "us-east-1")
    fill(store.open(info), case)
    faults = f"{fleet.settings.pinecone_controller_host}/_emulator/faults"
    rule = {"operation": "*", "index": case.index, "delay_ms": case.late_ms}
    httpx.post(faults, json=rule).raise_for_status()
    before, busy, own, began = used_by(fleet), busy_s(), time.process_time(), time.monotonic()
    job = begun(fleet, case)
    until = time.monotonic() + _PATIENCE_S
    while not verified(fleet.fleet, job) and time.monotonic() < until:
        time.sleep(_POLL_S)
    took = time.monotonic() - began
    used = {role: seconds - before[role] for role, seconds in used_by(fleet).items()}
    others = busy_s() - busy - sum(used.values()) - (time.process_time() - own)
    found = Measured(seconds_of(fleet.fleet, job), used, max(0.0, others / took))
    httpx.delete(faults).raise_for_status()
    end(fleet.fleet, job)
    store.remove(case.index)
    return found


def used_by(fleet: Running) -> dict[str, float]:
    return {role: fleet.cpu_seconds(role) for role in ROLES}


def busy_s() -> float:
    """Seconds that the processors of this machine were busy so far."""
    times = psutil.cpu_times()
    return sum(times[:3]) + sum(times[5:8])  # without `idle`, `iowait` and what guests used, which `user` holds too


def begun(fleet: Running, case: Case) -> int:
    job = applied(fleet, case.index)
    acts.set_lever(fleet.fleet.database, job, WHO, "pace", case.share)
    return job


def verified(fleet: Fleet, job_id: int) -> bool:
    with fleet.database.begin() as connection:
        job = jobs.get(connection, job_id)
    if job.state in _ENDS:
        raise RuntimeError(f"the job is {job.state}: {job.reason}")
    return job.state is JobState.VERIFIED


def seconds_of(fleet: Fleet, job_id: int) -> float:
    """From a job's start until it was verified, by the clock of its job table."""
    with fleet.database.begin() as connection:
        job = jobs.get(connection, job_id)
    if job.started_at is None or job.verified_at is None:
        raise RuntimeError(f"the job was not verified within {_PATIENCE_S:g} s: it is {job.state}, {job.reason}")
    return (job.verified_at - job.started_at).total_seconds()


def shape_of(case: Case, host: str = "") -> IndexInfo:
    fields = {"_values": {"type": "dense_vector", "dimension": case.dimension, "metric": "cosine"}}
    return IndexInfo(case.index, Kind.DENSE, case.dimension, "cosine", host=host, schema={"fields": fields})


def fill(index: Index, case: Case) -> None:
    drawn = np.random.default_rng(7).standard_normal((min(case.records, _DISTINCT), case.dimension)).astype("<f4")
    values = [one.tobytes() for one in drawn]
    metadata = {"text": "x" * METADATA_BYTES}
    at_once = min(1_000, int(_REQUEST_BYTES / (len(values[0]) + METADATA_BYTES + 100)))

    def write(number: int) -> None:
        records = [
            Record(f"source-{number:04}#{n:06}", values[n % _DISTINCT], metadata=metadata) for n in range(case.records)
        ]
        for start in range(0, case.records, at_once):
            index.upsert(f"source-{number:04}", records[start : start + at_once])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(case.namespaces)))


def main() -> int:
    arguments = parser("python -m benchmarks.simulation", __doc__)
    whole = "one PART-th of 100 M records in 12,000 namespaces"
    arguments.add_argument("--example", type=int, metavar="PART", help=whole)
    given = arguments.parse_args()
    return report({"simulation": lambda quick: simulated(given.example)}, given)


if __name__ == "__main__":
    raise SystemExit(main())
