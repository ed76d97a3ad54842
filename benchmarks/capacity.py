"""The capacity model: hours, dollars, job table and workers of a migration, before there is one.

    python -m benchmarks.capacity [--records N] [--namespaces N] [--dimension N] [--cores N] [--shared]

Calls, units and the service's limits come from the estimate that every plan prints (`migrations/estimating.py`); what
a record, a batch and a namespace cost us comes from measurements, and stands below with where it was measured.
"""

import argparse
import random
from dataclasses import dataclass
from uuid import UUID

from rich.console import Console
from rich.table import Table

from migrations.estimating import CostModel, Shape
from migrations.plan import PlannedMove, Policies
from orchestrator.core import manifests
from vecfleet.records import FLOAT32_BYTES
from vecfleet.stores.base import Limits
from vecfleet.stores.pinecone.index import LANE_FETCH_IDS

# Ids are taken for UUIDs, which hardly compress; ids that share long prefixes take a tenth of their room.
ID_CHARS = 36
# What surrounds a record in a request.
FRAME_BYTES = 100
# CPU of workers, with 3,072 dimensions and 500 B of metadata: a record copied with digest and conflict check (0.078 by
# `benchmarks.overhead`); one read back and compared (`benchmarks.main_job`). Half of it goes with the dimension: bytes
# are moved and digested. All of it on a machine of 2026; one that was tried before took twice as long for everything.
COPY_MS, READ_MS = 0.08, 0.043
# CPU of everything of ours for a namespace beyond its records, half of it until its verdict and half for its clean-up:
# `benchmarks.scale` with 12,000 namespaces of a hundred records, 37 and 32 ms with those.
NAMESPACE_MS = 60.0
# The job table before clean-up: a digest for each record beside its id, three rows for each batch, the rows of a
# namespace; and what of the last stays after `purge`.
DIGEST_BYTES, BATCH_BYTES, NAMESPACE_BYTES, KEPT_BYTES = 8, 1_050, 5_400, 900
# Of each record: copied, read back, and read again on both sides right before its deletion.
READINGS = 3


@dataclass(frozen=True, slots=True)
class Load:
    """A load to migrate: so many records in so many namespaces of one size; `metadata` in bytes of JSON."""

    records: int
    namespaces: int
    dimension: int
    metadata: int


@dataclass(frozen=True, slots=True)
class Capacity:
    """The time that a migration takes. `limit_s`: at the whole allowance of the service; `cpu_s`: of one core."""

    limit_s: float
    cpu_s: float
    cores: int
    dollars: float
    egress_bytes: float
    batches: int
    table_bytes: float
    kept_bytes: float

    @property
    def seconds(self) -> float:
        return max(self.limit_s, self.cpu_s / self.cores)

    @property
    def binds(self) -> str:
        return "the service's limits" if self.limit_s >= self.cpu_s / self.cores else "the workers' processors"


def capacity(load: Load, cores: int, *, exclusive: bool = True) -> Capacity:
    values = FLOAT32_BYTES * load.dimension
    billed = values + load.metadata + ID_CHARS
    shape = Shape(record=billed, request=billed + FRAME_BYTES, answer=billed + FRAME_BYTES, id=ID_CHARS)
    model = CostModel(shape, Policies(exclusive=exclusive), limits=Limits(fetch_ids=LANE_FETCH_IDS))
    each, rest = divmod(load.records, load.namespaces)
    moves = [
        PlannedMove(source=f"s{n}", records=each + (n < rest), to=f"t{n}", creator="c", twin=f"s{n}")
        for n in range(load.namespaces)
    ]
    estimate = model.estimate(moves)
    batches = sum(-(-move.records // model.batch_records) for move in moves)
    chance = random.Random(7)
    ids = sorted(str(UUID(int=chance.getrandbits(128))) for _ in range(model.batch_records))
    id_bytes = len(manifests.pack(ids)) / len(ids)
    by_size = 0.5 + 0.5 * values / (FLOAT32_BYTES * 3_072)
    return Capacity(
        limit_s=estimate.seconds,
        cpu_s=(load.records * (COPY_MS + READINGS * READ_MS) * by_size + load.namespaces * NAMESPACE_MS) / 1e3,
        cores=cores,
        dollars=estimate.dollars,
        egress_bytes=estimate.egress_bytes,
        batches=batches,
        table_bytes=load.records * (DIGEST_BYTES + id_bytes)
        + batches * BATCH_BYTES
        + load.namespaces * NAMESPACE_BYTES,
        kept_bytes=load.namespaces * KEPT_BYTES,
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.capacity", description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=100_000_000)
    parser.add_argument("--namespaces", type=int, default=12_000)
    parser.add_argument("--dimension", type=int, default=3_072)
    parser.add_argument("--metadata", type=int, default=500, help="bytes")
    parser.add_argument("--cores", type=int, default=4, help="of all workers together")
    parser.add_argument("--shared", action="store_true", help="live readers use the index too: half of its limits")
    given = parser.parse_args()
    load = Load(given.records, given.namespaces, given.dimension, given.metadata)
    found = capacity(load, given.cores, exclusive=not given.shared)
    rows = (
        ("from the first listing to the last deletion", f"{found.seconds / 3_600:,.1f} h"),
        ("what binds", found.binds),
        ("at the service's limits alone", f"{found.limit_s / 3_600:,.1f} h"),
        (f"processors alone, {given.cores} cores", f"{found.cpu_s / given.cores / 3_600:,.1f} h"),
        ("cores from which on the limits bind", f"{found.cpu_s / found.limit_s:,.1f}"),
        ("read and write units", f"${found.dollars:,.0f}"),
        ("egress", f"{found.egress_bytes / 1e12:,.2f} TB"),
        ("batches", f"{found.batches:,}"),
        ("job table before clean-up", f"{found.table_bytes / 1e9:,.1f} GB"),
        ("  for a million records", f"{found.table_bytes / load.records:,.0f} MB"),
        ("job table after purge", f"{found.kept_bytes / 1e6:,.0f} MB"),
        ("  for a million records", f"{found.kept_bytes / load.records:,.2f} MB"),
    )
    title = f"{load.records:,} records × {load.dimension:,}-d, {load.metadata} B, in {load.namespaces:,} namespaces"
    table = Table(title=title, title_justify="left", show_header=False, show_edge=False)
    for row in rows:
        table.add_row(*row)
    Console(width=110).print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
