"""The reach of each measure, and a verdict: undecided where the reach lies inside the spread of the samples."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reach:
    """A bound on a measure: at most, or at least, so much of its unit."""

    bound: float
    at_least: bool = False

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}"

    def judge(self, samples: Sequence[float]) -> bool | str:
        """True or False where every sample says so; "undecided" where they do not agree."""
        met = {sample >= self.bound if self.at_least else sample <= self.bound for sample in samples}
        return met.pop() if len(met) == 1 else "undecided"


# By the name of the measure. First what was set for speed and scale, in the order of its table.
REACHES: dict[str, Reach] = {
    "CPU of the lane": Reach(0.05),  # ms a vector of 3,072 dimensions with 500 B of metadata
    "CPU of workers, copy": Reach(0.07),  # the same, with the job table and Celery
    "fleet / bare loop": Reach(0.90, at_least=True),
    "fleet / seed 000's loop": Reach(8.0, at_least=True),
    "fleet / fastest tool that only reads": Reach(2.0, at_least=True),  # 200,000 records of 1,536 dimensions
    "fetches": Reach(5.0),  # of 1,000 records of 3,072 dimensions: copied, verified, and read again on both sides
    "a small job": Reach(2.0),  # s, of the seeds' 805 records
    "requests of an unwritten namespace": Reach(1.0),  # of a pass
    "statements": Reach(25.0),  # a namespace
    "verify / copy, CPU": Reach(1.0),
    "verify / copy, wall": Reach(1.0),
    "allowance used": Reach(0.95, at_least=True),
    "answered 429": Reach(0.005),
    "recovery": Reach(5.0),  # s
    "plan, copy and verify": Reach(18.0),  # ms a namespace
    "a job beside lag": Reach(1.1),  # its end, less one freshness wait, over the same job without lag
    "worker memory": Reach(1.1),  # with 10⁶ records against 10⁴
    "memory of a check": Reach(1.1),  # likewise
    "bytes on the wire": Reach(2.1),  # of 12,288 for a record
    "job table before clean-up": Reach(120.0),  # MB a million records
    "job table after purge": Reach(5.0),
    "status, service": Reach(200.0),  # ms
    "status, command line": Reach(1_000.0),
    "start of a verb": Reach(250.0),
    "prediction": Reach(15.0),  # % off, of what the simulation says
    # For other parts of the house: tenants, erasure, the page, Postgres, and the emulator's own cost.
    "a guard's check": Reach(5.0),  # µs
    "client / SDK": Reach(1.05),  # p95 of a query
    "ten twins / one": Reach(1.6),
    "query under load": Reach(100.0),  # ms, p95
    "erasing 27": Reach(5.0),  # s
    "erasing 1,000": Reach(10.0),
    "first paint": Reach(2_000.0),  # ms
    "update of the page": Reach(100.0),
    "count compared / bare SQL": Reach(1.15),
    "content compared / bare SQL": Reach(1.5),
    "copy of 100,000 rows": Reach(30.0),  # s
    "copy of a small table": Reach(5.0),
    "search / by hand": Reach(1.1),
    "from Postgres / from Pinecone": Reach(0.8, at_least=True),
    "emulator, gRPC": Reach(5.0),  # CPU-ms for 100 records
    "emulator, REST, 1536": Reach(15.0),
    "emulator, REST, 3072": Reach(30.0),
    "emulator, memory": Reach(1.3),
    "emulator, load": Reach(120.0),  # s
    "emulator, list": Reach(60.0),
}
