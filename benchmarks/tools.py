"""Tools of others beside the fleet: vecparity, vector-io and vec2pg, from their wheels, in environments of their own.

`make compat` makes these. All read the same records, in turns, each from an emulator that speaks its version of the
API; they lie in the default namespace, because vecparity reads no other. The start of each command counts. They do
different work, so their names say what was measured, and the fleet, which copies and verifies, is compared with what
only reads:

- vecparity reads into its own memory;
- vector-io reads into Parquet files (its import fails on these records: it cannot write metadata that are lists). Its
  client speaks TLS alone, so that a front stands before its emulator and takes some of the processors;
- vec2pg copies into a table of Postgres, and compares nothing.
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from benchmarks.data import Load, create, write
from benchmarks.emulator import server
from benchmarks.figures import Figure
from benchmarks.fleet import Running, applied, end, reached
from benchmarks.loops import client_of
from benchmarks.reach import REACHES
from benchmarks.runner import LeftOut
from orchestrator.core.states import JobState
from tests.compat.conftest import ENVIRONMENTS
from tests.compat.tls_front import ADDRESS, BEHIND, Front
from vecfleet import names
from vecfleet.settings import Settings
from vecfleet.stores.pinecone import PineconeStore

DIMENSION = 1_536
# For vecparity and the fleet; for the other two, which take ten times as long for a record.
WHOLE, QUICK = (200_000, 20_000), (20_000, 2_000)
_PARITY_BYTES = 40 * DIMENSION  # of a record in vecparity's memory: each value is an object of Python's
_REGION = "us-east-1"
_RECENT = ("--absent-version", "2025-10", "--contested", "undeclared_sparse=accept")
_OLDER = ("--absent-version", "2024-07", "--bare-hosts", "--host-name", ADDRESS)


def measured(fleet: Running, quick: bool) -> Iterator[Figure]:
    many, few = QUICK if quick else WHOLE
    rates = list[float]()
    ours = of_fleet(fleet, many)
    yield ours
    lacking = list[str]()
    others: dict[str, Callable[[], Figure]] = {
        "vecparity": lambda: vecparity(many),
        "vector-io": lambda: vector_io(few),
        "vec2pg": lambda: vec2pg(fleet, few),
    }
    for tool, figure_of in others.items():
        if not (ENVIRONMENTS / tool).exists():
            lacking.append(tool)
            continue
        figure = figure_of()
        yield figure
        if figure.name.startswith(f"{tool}, reads"):
            rates.append(figure.value)
    if rates:
        name = f"fleet, copied and verified / fastest tool that only reads, {DIMENSION:,}-d"
        reach = None if quick else REACHES["fleet / fastest tool that only reads"]  # set for many
        yield Figure(name, ours.value / max(rates), "×", reach)
    if lacking:
        raise LeftOut(f"of the tools of others there is no {', no '.join(lacking)} here; `make compat` installs them")


def of_fleet(fleet: Running, records: int) -> Figure:
    """From the plan until everything is verified."""
    load = _load(records)
    store = PineconeStore(fleet.settings)
    write(store.open(create(store, load.index, DIMENSION)), load, names.DEFAULT)
    began = time.monotonic()
    job = applied(fleet, load.index)
    reached(fleet.fleet, job, JobState.VERIFIED)
    seconds = time.monotonic() - began
    end(fleet.fleet, job)
    client_of(fleet).indexes.delete(load.index)
    return _rate("fleet, copied and verified", records, seconds)


def vecparity(records: int) -> Figure:
    if psutil.virtual_memory().available < records * _PARITY_BYTES:
        raise LeftOut(f"vecparity needs {records * _PARITY_BYTES / 1e9:.0f} GB of memory for {records:,} records")
    with _emulated(_RECENT, records) as (control, index):
        ends = ("--from", f"pinecone://{index}", "--to", "memory://copy")
        said, seconds = _ran("vecparity", ("vecparity", "migrate", *ends), control)
    _require(f"Synced {records} records" in said, said)
    return _rate("vecparity, reads only", records, seconds)


def vec2pg(fleet: Running, records: int) -> Figure:
    postgres = fleet.settings.pgvector_url
    assert postgres is not None, "the stack was started with it"
    address = postgres.get_secret_value().replace("postgresql+psycopg:", "postgresql:")
    with _emulated(_RECENT, records) as (control, index):
        command = ("vec2pg", "pinecone", "migrate", index, "any", address)
        _, seconds = _ran("vec2pg", command, control)
    return _rate("vec2pg, copies to Postgres", records, seconds)


def vector_io(records: int) -> Figure:
    script = str(ENVIRONMENTS.parent / "tests" / "compat" / "vector_io.py")
    with TemporaryDirectory(prefix="vecfleet-bench-") as folder, _emulated(_OLDER, records) as (control, index):
        with Front(control, Path(folder)) as front:
            command = ("python", script, index, _REGION, "export")
            said, seconds = _ran("vector-io", command, control, front.trusted(), Path(folder))
    _require(f"exported {records}\n" in said, said)
    return _rate("vector-io, reads only", records, seconds)


def _load(records: int) -> Load:
    return Load("tools", DIMENSION, records, spread=1)


def _rate(name: str, records: int, seconds: float) -> Figure:
    return Figure(f"{name}, {records:,} × {DIMENSION:,}-d", records / seconds, "records/s")


@contextmanager
def _emulated(options: Sequence[str], records: int) -> Iterator[tuple[str, str]]:
    """An emulator with the records: its address, and the name of its index."""
    with server(*options) as emulator:
        control, load = emulator.control.replace(ADDRESS, BEHIND), _load(records)
        known = {"pinecone_api_key": "any", "pinecone_controller_host": control}
        store = PineconeStore(Settings.model_validate(known))
        info = create(store, load.index, DIMENSION)
        port = info.host.rpartition(":")[2]
        write(store.open(replace(info, host=f"http://{BEHIND}:{port}")), load, names.DEFAULT)
        yield control, load.index


def _ran(
    tool: str, words: Sequence[str], control: str, more: Mapping[str, str] | None = None, folder: Path | None = None
) -> tuple[str, float]:
    """Run a program of a tool's environment. What it said, and its seconds."""
    environment = {**os.environ, "PINECONE_CONTROLLER_HOST": control, "PINECONE_API_KEY": "any", **(more or {})}
    began, command = time.monotonic(), [str(ENVIRONMENTS / tool / "bin" / words[0]), *words[1:]]
    ended = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began
    _require(ended.returncode == 0, ended.stdout + ended.stderr)
    return ended.stdout, seconds


def _require(holds: bool, said: str) -> None:
    if not holds:
        raise RuntimeError(f"the tool did not do its work; it said: {said[-2_000:]}")
