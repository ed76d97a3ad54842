"""`vecfleet check` of two indexes that differ in one bit: that it finds the one, and that its memory stays flat.

    python -m benchmarks.check [--quick] [--records 10000 1000000] [--json FILE]

Nothing runs but an emulator and the command. Its memory is the most that the system says it held.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import orjson

from benchmarks.emulator import REPOSITORY, Server, server
from benchmarks.figures import Figure
from benchmarks.reach import REACHES
from benchmarks.runner import parser, report
from orchestrator.cli.comparing import DIFFERENT
from vecfleet.records import Record
from vecfleet.settings import Settings
from vecfleet.stores.base import Index, IndexInfo, Kind
from vecfleet.stores.pinecone import PineconeStore

DIMENSION = 8
WHOLE, QUICK = (10_000, 1_000_000), (10_000, 40_000)
_WRITTEN_AT_ONCE = 1_000
_KIB = 1_024  # in which Linux tells the largest resident size


def measured(sizes: Sequence[int]) -> Iterator[Figure]:
    """Compare the few, then the many. Raises ValueError where anything but the flipped bit is found."""
    few, many = sizes
    held = []
    with server() as emulator:
        for records in (few, many):
            filled(emulator, records)
            seconds, memory = checked(emulator, records)
            held.append(memory)
            yield Figure(f"memory of a check of {records:,} records", memory / 1e6, "MB")
            yield Figure(f"one flipped bit found among {records:,}", seconds, "s")
    yield Figure(f"a check of {many:,} records / of {few:,}", held[1] / held[0], "×", REACHES["memory of a check"])


def filled(emulator: Server, records: int) -> None:
    """Fill two indexes alike, but for the lowest bit of one value of the record in the middle."""
    store = PineconeStore(settings(emulator))
    sides = [created(store, f"{side}-{records}") for side in ("left", "right")]
    values = np.random.default_rng(7).standard_normal((_WRITTEN_AT_ONCE, DIMENSION)).astype("<f4")
    for start in range(0, records, _WRITTEN_AT_ONCE):
        ids = range(start, min(start + _WRITTEN_AT_ONCE, records))
        batch = [Record(f"r{number:07}", values[number % _WRITTEN_AT_ONCE].tobytes()) for number in ids]
        for side in sides:
            side.upsert("all", batch)
    middle = records // 2
    flipped = values[middle % _WRITTEN_AT_ONCE].copy()
    flipped.view("<u4")[0] ^= 1
    sides[1].upsert("all", [Record(f"r{middle:07}", flipped.tobytes())])


def created(store: PineconeStore, name: str) -> Index:
    fields = {"_values": {"type": "dense_vector", "dimension": DIMENSION, "metric": "cosine"}}
    shape = IndexInfo(name, Kind.DENSE, DIMENSION, "cosine", host="", schema={"fields": fields})
    return store.open(store.create_like(name, shape, "aws", "us-east-1"))


def checked(emulator: Server, records: int) -> tuple[float, int]:
    """Return the seconds that the command took, and the most bytes that it held."""
    command = [sys.executable, "-m", "orchestrator", "check", f"pinecone:left-{records}", f"pinecone:right-{records}"]
    with TemporaryDirectory(prefix="vecfleet-bench-") as folder:
        environment = os.environ | {
            "PINECONE_API_KEY": "any",
            "PINECONE_CONTROLLER_HOST": emulator.control,
            "VECFLEET_HOME": folder,
        }
        answer = Path(folder) / "answer.json"
        began = time.monotonic()
        with answer.open("wb") as out:
            process = subprocess.Popen([*command, "--json"], cwd=REPOSITORY, env=environment, stdout=out)
            _, status, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        said = orjson.loads(answer.read_bytes())
    expected = [{"symbol": "*", "path": f"all/r{records // 2:07}", "why": None}]
    if (process.returncode, said["counts"]["equal"], said["differences"]) != (DIFFERENT, records - 1, expected):
        raise ValueError(f"the check found something else: {said}")
    return seconds, used.ru_maxrss * _KIB


def settings(emulator: Server) -> Settings:
    return Settings(pinecone_api_key="any", pinecone_controller_host=emulator.control)  # type: ignore[arg-type]


def measure(quick: bool) -> Iterator[Figure]:
    return measured(QUICK if quick else WHOLE)


def main() -> int:
    arguments = parser("python -m benchmarks.check", __doc__)
    arguments.add_argument("--records", type=int, nargs=2, metavar=("FEW", "MANY"), help="instead of the usual sizes")
    given = arguments.parse_args()
    sizes = given.records or (QUICK if given.quick else WHOLE)
    return report({"check": lambda quick: measured(sizes)}, given)


if __name__ == "__main__":
    raise SystemExit(main())
