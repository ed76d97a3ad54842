"""Many namespaces: what a namespace costs, from plan to proof, and whether it costs the same when there are more.

    python -m benchmarks.scale [--quick] [--namespaces 100 12000] [--records 100] [--json FILE]

A real fleet on the emulator: plan, apply, listing and copying, a verdict for each namespace, a second verification,
clean-up and purge; and in the middle of it how long an answer to `status` takes. Wall time depends on what else the
machine does; the CPU of each kind of process hardly does.
"""

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import sqlalchemy as sa

from benchmarks.data import create
from benchmarks.figures import Figure
from benchmarks.fleet import WHO, Running, applied, copied_in, reached, running
from benchmarks.reach import REACHES
from benchmarks.runner import parser, report
from benchmarks.statements import counted
from migrations.creators import Grouping
from migrations.plan import Plan, Policies
from migrations.recipes import Common, CreatorsOptions, plan_creators
from orchestrator.cli.watching import look
from orchestrator.core.states import JobState
from orchestrator.embedded.programs import PYTHON
from orchestrator.services import acts, purge
from orchestrator.services import apply as applying
from vecfleet.records import Record
from vecfleet.stores.pinecone import PineconeStore

DIMENSION = 8
RECORDS = 100  # in each namespace
WHOLE, QUICK = (100, 1_200, 12_000), (100, 1_200)
LOOKS = 3
MOST_LOGGED = 1_200  # namespaces of the job whose statements are counted
REPOSITORY = Path(__file__).resolve().parents[1]
_WHOLE_COST = "plan, copy and verify"
ROLES = ("worker", "dispatcher", "postgres", "redis", "emulator")


def measure(quick: bool) -> Iterator[Figure]:
    return measured(QUICK if quick else WHOLE, RECORDS)


def measured(sizes: Sequence[int], records: int) -> Iterator[Figure]:
    costs = {}
    with TemporaryDirectory(prefix="vecfleet-bench-") as folder, running(Path(folder) / "state") as fleet:
        for namespaces in sizes:
            for name, unit, samples in one_size(fleet, namespaces, records):
                reach = REACHES.get(name) if namespaces == max(sizes) else None  # set for many
                yield Figure.of(f"{name}, {namespaces:,} namespaces", unit, samples, reach)
                if name == _WHOLE_COST:
                    (costs[namespaces],) = samples
        yield from statements(fleet, min(MOST_LOGGED, max(sizes)), records)
    few, many = min(costs), max(costs)
    yield Figure(f"{_WHOLE_COST}, {many:,} namespaces / {few:,}", costs[many] / costs[few], "×")


def statements(fleet: Running, namespaces: int, records: int) -> Iterator[Figure]:
    """Of one more job, because it takes longer while Postgres logs each of them."""
    index = "statements"
    fill(fleet, index, [f"source-{number:05}" for number in range(namespaces)], records)
    by_role = counted(fleet, lambda: reached(fleet.fleet, applied(fleet, index), JobState.VERIFIED))
    every = {**by_role, "workers and dispatcher": sum(by_role.values())}
    for role, number in every.items():
        reach = REACHES["statements"] if role not in by_role else None
        name = f"statements of {role}, plan to verified, {namespaces:,} namespaces"
        yield Figure(name, number / namespaces, "a namespace", reach)


Said = tuple[str, str, list[float]]


class Clock:
    """Milliseconds by the clock and of each kind of process, for a namespace."""

    def __init__(self, fleet: Running, namespaces: int) -> None:
        self._fleet, self._namespaces = fleet, namespaces

    def timed(self, name: str, act: Callable[[], object], *, by_role: bool = False) -> Iterator[Said]:
        cpu, began = cpu_of(self._fleet), time.monotonic()
        act()
        yield self.of(name, time.monotonic() - began)
        used = {role: seconds - cpu[role] for role, seconds in cpu_of(self._fleet).items()}
        if by_role:
            for role, seconds in used.items():
                yield self.of(f"{name}, CPU of {role}", seconds)
        else:
            yield self.of(f"{name}, CPU of all", sum(used.values()))

    def of(self, name: str, seconds: float) -> Said:
        return name, "ms/namespace", [seconds / self._namespaces * 1e3]


def one_size(fleet: Running, namespaces: int, records: int) -> Iterator[Said]:
    """The life of a job, from its plan to its purge. In the middle of it: how soon `status` answers."""
    index, sources = f"scale-{namespaces}", [f"source-{number:05}" for number in range(namespaces)]
    fill(fleet, index, sources, records)
    others, clock = bytes_of(fleet), Clock(fleet, namespaces)
    made: list[Plan] = []
    jobs: list[int] = []

    def plan() -> None:
        policies = Policies(exclusive=True, cut_over="none", soak_seconds=0)
        options = CreatorsOptions(index=index, grouping=Grouping(creator=WHO), common=Common(policies=policies))
        made.append(plan_creators(fleet.fleet.store, options, now=datetime.now(UTC)))

    def apply() -> None:
        jobs.append(applying.apply(fleet.fleet, made[0], who=WHO, no_backup=True))

    def verified() -> None:
        reached(fleet.fleet, jobs[0], JobState.VERIFIED)

    began = time.monotonic()
    yield from clock.timed("plan", plan)
    yield from clock.timed("apply", apply)
    yield from clock.timed("list, copy and verify", verified, by_role=True)
    yield clock.of(_WHOLE_COST, time.monotonic() - began)
    (job,) = jobs
    copied, seconds = copied_in(fleet.fleet, job)
    assert copied == namespaces * records, f"{copied:,} of {namespaces * records:,} records were copied"
    yield clock.of("list and copy", seconds)
    yield "status, service", "ms", list(looked(fleet, job))
    yield "status, command line", "ms", list(typed(fleet, job))
    acts.verify(fleet.fleet.database, job, WHO)
    yield from clock.timed("verify alone", verified)
    million = namespaces * records / 1e6
    yield "job table before clean-up", "MB/million records", [(bytes_of(fleet) - others) / 1e6 / million]
    acts.clean_up(fleet.fleet.database, job, WHO, by_ids=False)
    yield from clock.timed("clean up", lambda: reached(fleet.fleet, job, JobState.CLEANED))
    with fleet.fleet.database.begin() as connection:
        connection.execute(sa.text("UPDATE job SET ended_at = ended_at - interval '2 days'"))
    yield from clock.timed("purge", lambda: purge.purge(fleet.fleet.database, job, WHO))
    yield "job table after purge", "MB/million records", [(bytes_of(fleet) - others) / 1e6 / million]


def fill(fleet: Running, index: str, names: list[str], records: int) -> None:
    """The index with its namespaces; the emulator forgets whatever it held before."""
    store = PineconeStore(fleet.settings)
    for old in store.indexes():
        store.remove(old.name)
    opened = store.open(create(store, index, DIMENSION))
    values = np.random.default_rng(7).standard_normal((records, DIMENSION)).astype("<f4")

    def write(name: str) -> None:
        opened.upsert(name, [Record(f"{name}#chunk-{n:04}", values[n].tobytes()) for n in range(records)])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, names))


def cpu_of(fleet: Running) -> dict[str, float]:
    return {role: fleet.cpu_seconds(role) for role in ROLES}


def looked(fleet: Running, job: int) -> Iterator[float]:
    """Milliseconds until the service has an answer to `status`."""
    for _ in range(LOOKS):
        began = time.perf_counter()
        look(fleet.fleet, job, namespaces=50).to_json()
        yield (time.perf_counter() - began) * 1e3


def typed(fleet: Running, job: int) -> Iterator[float]:
    """Milliseconds of `vecfleet status JOB`, start of Python included."""
    for _ in range(LOOKS):
        began = time.perf_counter()
        command = [*PYTHON, "orchestrator", "status", str(job)]
        subprocess.run(command, env=fleet.environment, cwd=REPOSITORY, check=True, capture_output=True)
        yield (time.perf_counter() - began) * 1e3


def bytes_of(fleet: Running) -> float:
    """Return the room that the job table takes once the room of what was deleted in it is given back."""
    owner = sa.create_engine(fleet.administrator_url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with owner.connect() as connection:
        connection.execute(sa.text("VACUUM FULL"))
        sizes = "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c WHERE relkind = 'r' AND relnamespace = "
        return float(connection.execute(sa.text(f"{sizes} 'public'::regnamespace")).scalar_one())


def main() -> int:
    arguments = parser("python -m benchmarks.scale", __doc__)
    arguments.add_argument("--namespaces", type=int, nargs="+", help="instead of the usual sizes")
    arguments.add_argument("--records", type=int, default=RECORDS, help="in each namespace")
    given = arguments.parse_args()
    sizes = given.namespaces or (QUICK if given.quick else WHOLE)
    return report({"scale": lambda quick: measured(sizes, given.records)}, given)


if __name__ == "__main__":
    raise SystemExit(main())
