"""How long an erasure takes, from the fence to the certificate: the seeds' 27 namespaces, and 1,000.

    python -m benchmarks.erasure

Against the emulator without limits, with the job table as the books. Each figure is printed beside its target; the exit
code is 1 when one is missed.
"""

import os
import tempfile
import time
from pathlib import Path

from pydantic import SecretStr

from benchmarks.tenancy import Figure, emulator, make_index
from orchestrator import schema
from orchestrator.bootstrap import Fleet
from orchestrator.embedded import Postgres
from orchestrator.erasing import JobTableBooks
from vecfleet.names import Tenant
from vecfleet.records import Record
from vecfleet.settings import Settings
from vecfleet.stores.base import Index
from vecfleet.tenancy import erasing
from vecfleet.tenancy.finding import in_parallel

DIMENSION = 3_072
VALUES = b"\0\0\x80\x3f" * DIMENSION
TARGETS_S = {27: 5.0, 1_000: 10.0}
RECORDS = 15  # a namespace: the seeds' 428 vectors in 29
BESIDE = 377  # records of others in __default__, which are read to find the tenant's


def main() -> int:
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder, emulator() as control:
        with Postgres(Path(folder) / "postgres", durable=False) as postgres:
            schema.upgrade(postgres.url)
            make_index(control)
            fleet = Fleet(
                Settings(
                    database_url=SecretStr(postgres.url),
                    pinecone_api_key=SecretStr("any"),
                    pinecone_controller_host=control,
                    vecfleet_home=Path(folder) / "home",
                    vecfleet_root=Path(folder),
                    _env_file=None,
                )
            )
            index = fleet.store.open(fleet.store.describe("twins"))
            figures = [_measured(fleet, index, namespaces) for namespaces in TARGETS_S]
            fleet.database.dispose()
    return 0 if all(figure.met for figure in figures) else 1


def _measured(fleet: Fleet, index: Index, namespaces: int) -> Figure:
    _fill(index, namespaces)
    started = time.perf_counter()
    erased = erasing.erase([index], Tenant("ana"), books=JobTableBooks(fleet.database, fleet.settings))
    took = time.perf_counter() - started
    assert erased.confirmed and erased.records == namespaces * RECORDS, erased.left
    figure = Figure(f"erasing {namespaces:,} namespaces", took, TARGETS_S[namespaces], "s", samples=1)
    print(figure, flush=True)
    return figure


def _fill(index: Index, namespaces: int) -> None:
    mine = [Record(f"{n}", VALUES, metadata={"creator_id": "ana"}) for n in range(RECORDS)]
    in_parallel(lambda twin: index.upsert(f"creator_ana_twin_{twin}", mine), range(namespaces))
    others = [Record(f"o{n}", VALUES, metadata={"creator_id": "bob"}) for n in range(BESIDE)]
    for start in range(0, BESIDE, 100):
        index.upsert("__default__", others[start : start + 100])


if __name__ == "__main__":
    raise SystemExit(main())
