"""Measure an erasure from the fence to the certificate: the seeds' 27 namespaces, and 1,000.

    python -m benchmarks.erasure

Against the emulator without limits, with the job table as the books.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import SecretStr

from benchmarks.figures import Figure
from benchmarks.reach import REACHES
from benchmarks.runner import alone
from benchmarks.tenancy import emulator, make_index
from orchestrator import schema
from orchestrator.bootstrap import Fleet
from orchestrator.embedded.postgres import Postgres
from orchestrator.services.erase import JobTableBooks
from vecfleet.names import Tenant
from vecfleet.records import Record
from vecfleet.settings import Settings
from vecfleet.stores.base import Index
from vecfleet.tenancy import erasing
from vecfleet.tenancy.finding import in_parallel

DIMENSION = 3_072
VALUES = b"\0\0\x80\x3f" * DIMENSION
NAMESPACES = (27, 1_000)
ROUNDS = 3
RECORDS = 15  # a namespace: the seeds' 428 vectors in 29
BESIDE = 377  # records of others in __default__, which are read to find the tenant's


def measure(quick: bool) -> Iterator[Figure]:
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
                    _env_file=None,  # type: ignore[call-arg]
                )
            )
            index = fleet.store.open(fleet.store.describe("twins"))
            for namespaces in NAMESPACES:
                took = [_measured(fleet, index, namespaces) for _ in range(ROUNDS)]
                yield Figure.of(f"erasing {namespaces:,} namespaces", "s", took, REACHES[f"erasing {namespaces:,}"])
            fleet.database.dispose()


def _measured(fleet: Fleet, index: Index, namespaces: int) -> float:
    _fill(index, namespaces)
    started = time.perf_counter()
    erased = erasing.erase([index], Tenant("ana"), books=JobTableBooks(fleet.database, fleet.settings), lands_s=0)
    took = time.perf_counter() - started
    assert erased.confirmed and erased.records == namespaces * RECORDS, erased.left
    return took


def _fill(index: Index, namespaces: int) -> None:
    mine = [Record(f"{n}", VALUES, metadata={"creator_id": "ana"}) for n in range(RECORDS)]
    in_parallel(lambda twin: index.upsert(f"creator_ana_twin_{twin}", mine), range(namespaces))
    others = [Record(f"o{n}", VALUES, metadata={"creator_id": "bob"}) for n in range(BESIDE)]
    for start in range(0, BESIDE, 100):
        index.upsert("__default__", others[start : start + 100])


if __name__ == "__main__":
    raise SystemExit(alone("erasure", measure, __doc__))
