"""Seconds that a copy loses to a killed worker, and to a 429.

    python -m benchmarks.restart [--quick]

A supervisor (`vecfleet up`) runs the fleet and starts again what dies. The same copy is done undisturbed, with one of
the two workers killed (SIGKILL) once a third of it is copied, and with three fetches answered 429 on the way, in turns.
Its pace is a tenth of the documented limits, so that a copy takes as long each time, whatever else runs here. A killed
worker's batches wait for their leases to run out (LEASE_SECONDS); the copy here is shorter than that, and nothing is
left to do meanwhile: so this is the most that a killed worker delays the end. Of a long copy it costs what was done
twice. Namespaces are small, so that fetches bind: what is refused is what there is least of.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import httpx
import numpy as np
import psutil
import sqlalchemy as sa

from benchmarks.figures import Figure
from benchmarks.fleet import WHO, WORKERS, Running, applied, end
from benchmarks.runner import alone
from orchestrator.bootstrap import Fleet
from orchestrator.core.model import Job
from orchestrator.core.states import JobState
from orchestrator.embedded.background import up_in_background
from orchestrator.embedded.programs import PYTHON
from orchestrator.embedded.record import StackRecord as OnRecord
from orchestrator.embedded.stack import down
from orchestrator.ledger import jobs
from orchestrator.services import acts
from vecfleet.records import Record
from vecfleet.settings import Settings
from vecfleet.stores.base import IndexInfo, Kind
from vecfleet.stores.pinecone import PineconeStore

NAMESPACES, RECORDS, DIMENSION, SHARE = 40, 40, 8, 0.1
ROUNDS, QUICK_ROUNDS = 5, 2
UNDISTURBED, KILLED, REFUSED = "undisturbed", "a worker killed", "a 429"
# When each disturbance strikes: once so much is copied. Of 429s there are some, for one costs less than runs differ by.
STRIKES: dict[str, tuple[float, ...]] = {UNDISTURBED: (), KILLED: (1 / 3,), REFUSED: (1 / 4, 1 / 2, 3 / 4)}
# What might name services of the user's own.
_OURS = dict.fromkeys(("DATABASE_URL", "REDIS_URL", "BROKER_URL", "PINECONE_API_KEY", "PGVECTOR_URL"), "none")
_POLL_S = 0.05
_PATIENCE_S = 120.0


def measure(quick: bool) -> Iterator[Figure]:
    """The cost of each disturbance: by pairs of one round, so that a machine that became busier does not count."""
    took: dict[str, list[float]] = {UNDISTURBED: [], KILLED: [], REFUSED: []}
    twice: list[float] = []
    with TemporaryDirectory(prefix="vecfleet-bench-") as folder, supervised(Path(folder) / "state") as fleet:
        for number in range(QUICK_ROUNDS if quick else ROUNDS):
            for turn, what in enumerate(list(STRIKES) if number % 2 == 0 else list(reversed(STRIKES))):
                seconds, repeated = migrated(fleet, f"restart-{number}-{turn}", what)
                took[what].append(seconds)
                twice += [repeated] if what == KILLED else []
    yield Figure.of("undisturbed, from the job's start until verified", "s", took[UNDISTURBED])
    for what in (KILLED, REFUSED):
        pairs = zip(took[what], took[UNDISTURBED], strict=True)
        lost = [(one - other) / len(STRIKES[what]) for one, other in pairs]
        yield Figure.of(f"lost by {what}", "s", lost)
    yield Figure.of("batches begun again for a killed worker", "batches", twice)


@contextmanager
def supervised(state_dir: Path) -> Iterator[Running]:
    """`vecfleet up` in a process of its own, with the page and Flower; all gone afterwards."""
    with patch.dict(os.environ, _OURS | {"VECFLEET_HOME": str(state_dir)}):
        command = [*PYTHON, "orchestrator", "up", "--workers", str(WORKERS)]
        try:
            environment = up_in_background(command, state_dir).environment
            names = {name.lower(): value for name, value in environment.items()}
            settings = Settings.model_validate({name.lower(): None for name in _OURS} | names)
            yield Running(Fleet(settings), state_dir, environment)
        finally:
            down(state_dir, erase=True)


def migrated(fleet: Running, index: str, what: str) -> tuple[float, int]:
    """Copy an index, disturbed on the way. Seconds until it is verified, and how many batches began anew."""
    fill(fleet, index)
    database = fleet.fleet.database
    job = applied(fleet, index)
    acts.set_lever(database, job, WHO, "pace", SHARE)
    for part in STRIKES[what]:
        until(fleet, job, lambda part=part: written(fleet, job) >= part * NAMESPACES * RECORDS)  # type: ignore[misc]
        if what == KILLED:
            kill(fleet)
        else:
            refuse(fleet)
    until(fleet, job, lambda: job_of(fleet, job).state is JobState.VERIFIED)
    found = job_of(fleet, job)
    assert found.verified_at is not None and found.started_at is not None, "it began, and is verified"
    with database.begin() as connection:
        counted = "SELECT count(*) FROM batch WHERE job_id = :job AND attempts > 1"
        repeated = connection.execute(sa.text(counted), {"job": job}).scalar_one()
    end(fleet.fleet, job)
    return (found.verified_at - found.started_at).total_seconds(), int(repeated)


def fill(fleet: Running, index: str) -> None:
    store = PineconeStore(fleet.settings)
    fields = {"_values": {"type": "dense_vector", "dimension": DIMENSION, "metric": "cosine"}}
    wanted = IndexInfo(index, Kind.DENSE, DIMENSION, "cosine", host="", schema={"fields": fields})
    opened = store.open(store.create_like(index, wanted, "aws", "us-east-1"))
    values = np.random.default_rng(7).standard_normal((RECORDS, DIMENSION)).astype("<f4")
    for number in range(NAMESPACES):
        opened.upsert(f"source-{number:03}", [Record(f"r{n:03}", values[n].tobytes()) for n in range(RECORDS)])


def kill(fleet: Running) -> None:
    """End the first worker as a lack of memory would. Its supervisor finds out by itself."""
    record = OnRecord.read(fleet.state_dir)
    assert record is not None, "a stack that runs is on record"
    (worker,) = (one for one in record.processes if one.name == "worker-1")
    psutil.Process(worker.pid).kill()


def refuse(fleet: Running) -> None:
    """The next fetch is answered 429, once."""
    faults = f"{fleet.settings.pinecone_controller_host}/_emulator/faults"
    httpx.post(faults, json={"operation": "fetch", "status": 429, "count": 1}).raise_for_status()


def until(fleet: Running, job: int, holds: Callable[[], bool]) -> None:
    patience = time.monotonic() + _PATIENCE_S
    while not holds():
        if time.monotonic() > patience:
            found = job_of(fleet, job)
            raise RuntimeError(f"not so far within {_PATIENCE_S:g} s: the job is {found.state}, {found.reason}")
        time.sleep(_POLL_S)


def written(fleet: Running, job: int) -> int:
    with fleet.fleet.database.begin() as connection:
        query = "SELECT coalesce(sum(written), 0) FROM move WHERE job_id = :job"
        return int(connection.execute(sa.text(query), {"job": job}).scalar_one())


def job_of(fleet: Running, job: int) -> Job:
    with fleet.fleet.database.begin() as connection:
        return jobs.get(connection, job)


if __name__ == "__main__":
    raise SystemExit(alone("restart", measure, __doc__))
