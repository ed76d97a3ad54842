"""Many namespaces: what a namespace costs, from plan to proof, and whether it costs the same when there are more.

    python -m benchmarks.scale [--namespaces 100 1200] [--records 100] [--json FILE]

A real fleet on the emulator: plan, apply, listing and copying, a verdict for each namespace, a second verification,
clean-up and purge; and in the middle of it how long an answer to `status` takes. Wall time depends on what else the
machine does, and the load is printed with it; the CPU of each kind of process hardly does.
"""

import argparse
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import psutil
import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from benchmarks.fleet import WHO, Running, copied_in, reached, running
from benchmarks.reach import Reach
from benchmarks.showing import machine
from migrations.creators import Grouping
from migrations.plan import Policies
from migrations.recipes import Common, CreatorsOptions, plan_creators
from orchestrator import applying, purging, services
from orchestrator.cli.watching import look
from orchestrator.embedded.programs import PYTHON
from orchestrator.states import JobState
from vecfleet.records import Record
from vecfleet.stores.base import IndexInfo, Kind
from vecfleet.stores.pinecone import PineconeStore

DIMENSION = 8
LOOKS = 3
REPOSITORY = Path(__file__).resolve().parents[1]
ROLES = ("worker", "dispatcher", "postgres", "redis", "emulator")
# By the name of a measure.
REACHES = {
    "plan, copy and verify": Reach(40.0),
    "status, service": Reach(200.0),
    "status, command line": Reach(1_000.0),
    "job table before clean-up": Reach(120.0),
    "job table after purge": Reach(5.0),
}


@dataclass
class Scale:
    """What was measured with so many namespaces of so many records each. `figures`: name → value and unit."""

    namespaces: int
    records: int
    load: float
    figures: dict[str, tuple[float, str]] = field(default_factory=dict)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.splitlines()[0])
    parser.add_argument("--namespaces", type=int, nargs="+", default=[100, 1_200])
    parser.add_argument("--records", type=int, default=100, help="in each namespace")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    before, console = machine(), Console(width=110)
    found = []
    with TemporaryDirectory(prefix="vecfleet-bench-") as folder, running(Path(folder) / "state") as fleet:
        for namespaces in given.namespaces:
            with console.status(f"{namespaces:,} namespaces"):
                found.append(measure(fleet, namespaces, given.records))
            show(console, found[-1])
    if given.json is not None:
        body = {"benchmark": "scale", "machine": before, "measures": [one for scale in found for one in entries(scale)]}
        given.json.write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")
    return 0


def measure(fleet: Running, namespaces: int, records: int) -> Scale:
    index, names = f"scale-{namespaces}", [f"source-{number:05}" for number in range(namespaces)]
    fill(fleet, index, names, records)
    scale = Scale(namespaces, records, psutil.getloadavg()[0])
    others = bytes_of(fleet)
    figures = scale.figures

    def timed(name: str, act: Callable[[], int | None]) -> int:
        """Seconds by the clock and of each kind of process, per namespace."""
        cpu, own, began = cpu_of(fleet), time.process_time(), time.monotonic()
        answer = act()
        figures[name] = (time.monotonic() - began) / namespaces * 1e3, "ms/namespace"
        for role, used in cpu_of(fleet).items():
            figures[f"{name}, CPU of {role}"] = (used - cpu[role]) / namespaces * 1e3, "ms/namespace"
        figures[f"{name}, CPU of the command"] = (time.process_time() - own) / namespaces * 1e3, "ms/namespace"
        return answer or 0

    plan = None

    def planned() -> None:
        nonlocal plan
        policies = Policies(exclusive=True, cut_over="none", soak_seconds=0)
        options = CreatorsOptions(index=index, grouping=Grouping(creator=WHO), common=Common(policies=policies))
        plan = plan_creators(fleet.fleet.store, options, now=datetime.now(UTC))

    def applied_and_verified() -> int:
        assert plan is not None
        began = time.monotonic()
        job = applying.apply(fleet.fleet, plan, who=WHO, no_backup=True)
        figures["apply"] = (time.monotonic() - began) / namespaces * 1e3, "ms/namespace"
        reached(fleet.fleet, job, JobState.VERIFIED)
        return job

    timed("plan", planned)
    job = timed("apply until verified", applied_and_verified)
    copied, seconds = copied_in(fleet.fleet, job)
    assert copied == namespaces * records, f"{copied:,} of {namespaces * records:,} records were copied"
    figures["list and copy"] = seconds / namespaces * 1e3, "ms/namespace"
    whole = figures["plan"][0] + figures["apply until verified"][0]
    figures["plan, copy and verify"] = whole, "ms/namespace"
    figures["status, service"] = median(looked(fleet, job)), "ms"
    figures["status, command line"] = median(typed(fleet, job)), "ms"
    services.verify(fleet.fleet.database, job, WHO)
    timed("verify alone", lambda: reached(fleet.fleet, job, JobState.VERIFIED))
    million = namespaces * records / 1e6
    figures["job table before clean-up"] = (bytes_of(fleet) - others) / 1e6 / million, "MB/million records"
    services.clean_up(fleet.fleet.database, job, WHO, by_ids=False)
    timed("clean up", lambda: reached(fleet.fleet, job, JobState.CLEANED))
    with fleet.fleet.database.begin() as connection:
        connection.execute(sa.text("UPDATE job SET ended_at = ended_at - interval '2 days'"))
    timed("purge", lambda: purging.purge(fleet.fleet.database, job, WHO))
    figures["job table after purge"] = (bytes_of(fleet) - others) / 1e6 / million, "MB/million records"
    return scale


def fill(fleet: Running, index: str, names: list[str], records: int) -> None:
    """The index with its namespaces; the emulator forgets whatever it held before."""
    store = PineconeStore(fleet.settings)
    for old in store.indexes():
        store.remove(old.name)
    fields = {"_values": {"type": "dense_vector", "dimension": DIMENSION, "metric": "cosine"}}
    shape = IndexInfo(index, Kind.DENSE, DIMENSION, "cosine", host="", schema={"fields": fields})
    opened = store.open(store.create_like(index, shape, "aws", "us-east-1"))
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
    """What the job table takes once the room of what was deleted in it is given back."""
    with fleet.fleet.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("VACUUM FULL"))
        sizes = "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c WHERE relkind = 'r' AND relnamespace = "
        return float(connection.execute(sa.text(f"{sizes} 'public'::regnamespace")).scalar_one())


def show(console: Console, scale: Scale) -> None:
    title = f"{scale.namespaces:,} namespaces × {scale.records} records × {DIMENSION}-d; load {scale.load:.1f}"
    table = Table(title=title, title_justify="left", show_edge=False)
    for heading, side in (("measure", "left"), ("value", "right"), ("", "left"), ("reach", "left")):
        table.add_column(heading, justify=side)  # type: ignore[arg-type]
    for name, (value, unit) in scale.figures.items():
        table.add_row(name, f"{value:,.2f}", unit, _verdict(name, value))
    console.print(table)


def _verdict(name: str, value: float) -> str:
    reach = REACHES.get(name)
    return "" if reach is None else f"{reach}: {'reached' if reach.judge([value]) else 'missed'}"


def entries(scale: Scale) -> Iterator[dict[str, object]]:
    for name, (value, unit) in scale.figures.items():
        reach = REACHES.get(name)
        yield {
            "name": f"{name}, {scale.namespaces} namespaces",
            "value": value,
            "unit": unit,
            "reach": str(reach) if reach else None,
            "ok": reach.judge([value]) if reach else None,
            "load": scale.load,
        }


if __name__ == "__main__":
    raise SystemExit(main())
