"""The main job against seed 000's loop, in turns, on one emulator.

Each round makes an index of its own. In it the fleet regroups every namespace by a real job (plan → apply → copied →
verified), then verifies it once more, alone; the loop copies the same namespaces under another creator. Who goes first
changes from round to round. The emulator then says, with code of its own, whether both copies are byte-equal.

All of it is done twice: as fast as the emulator answers, where the processors of this one machine are the limit and
share the work of the service too; and with every answer a little late, as a service far away would be.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import orjson
from pinecone import Pinecone
from rich.console import Console

from benchmarks.data import Load, fill
from benchmarks.fleet import WORKERS, JobTimes, Running, migrate, running
from benchmarks.seed_loop import SeedLoop, batch_that_fits
from benchmarks.showing import Measure, Result, machine, show, write_json

SEED = 20_260_211
SIZES = ((1_536, 20_000), (3_072, 5_000))
ROUNDS = 4
DELAYS_MS = (0, 30)
FLEET, LOOP = "fleet", "loop"
# The names of the fields, and what the loop adds to the metadata.
_KEYS_BYTES = 150
_ENRICHED = "creator_id,twin_id,migrated_from"


@dataclass(frozen=True, slots=True)
class LoopTimes:
    records: int
    seconds: float
    cpu_s: float  # of this one process
    batch: int


@dataclass(frozen=True, slots=True)
class Round:
    """One index, copied twice."""

    first: str
    fleet: JobTimes
    loop: LoopTimes
    byte_equal: bool


def run(share: float, json_file: Path | None, console: Console) -> bool:
    """Measure, show, and keep the raw samples where asked. Returns whether every copy was byte-equal."""
    before = machine()
    with TemporaryDirectory(prefix="vecfleet-bench-") as folder, running(Path(folder) / "state") as fleet:
        console.print(f"{before['processor']}, {before['cores']} cores, Python {before['python']}")
        with console.status("warming up"):
            _round(fleet, Load("bench-warm-up", 1_536, 500, SEED), number=0, delay_ms=0)
        results = [
            _measure(fleet, dimension, int(records * share), delay_ms, console)
            for delay_ms in DELAYS_MS
            for dimension, records in SIZES
        ]
    show(results, console)
    if json_file is not None:
        write_json(json_file, results, _settings(share), before)
        console.print(f"Raw samples: {json_file}")
    return all(result.byte_equal for result in results)


def _settings(share: float) -> dict[str, float]:
    return {"seed": SEED, "rounds": ROUNDS, "workers": WORKERS, "share": share, "quick": share < 1}


def _measure(fleet: Running, dimension: int, records: int, delay_ms: int, console: Console) -> Result:
    rounds = []
    for number in range(ROUNDS):
        with console.status(f"{dimension:,} dimensions, round {number + 1} of {ROUNDS}"):
            load = Load(f"bench-{dimension}-{delay_ms}-{number}", dimension, records // ROUNDS, SEED + number)
            rounds.append(_round(fleet, load, number, delay_ms))
    copied = sum(one.fleet.records for one in rounds)
    batch = rounds[0].loop.batch
    return Result(
        title=f"{copied:,} × {dimension:,}-d in {ROUNDS} jobs, {_said(delay_ms)}; the loop by {batch}",
        dimension=dimension,
        delay_ms=delay_ms,
        records=copied,
        seed_batch=batch,
        byte_equal=all(one.byte_equal for one in rounds),
        measures=tuple(_measures(rounds)),
        raw=tuple(asdict(one) for one in rounds),
    )


def _said(delay_ms: int) -> str:
    return f"answers {delay_ms} ms late" if delay_ms else "answers at once"


def _round(running: Running, load: Load, number: int, delay_ms: int) -> Round:
    fill(running.settings, load)
    batch = batch_that_fits(_record_bytes(running, load))
    faults = f"{running.settings.pinecone_controller_host}/_emulator/faults"
    httpx.post(faults, json={"operation": "*", "index": load.index, "delay_ms": delay_ms}).raise_for_status()
    if number % 2:
        looped = _loop(running, load, batch)
        migrated = migrate(running, load.index, FLEET)
    else:
        migrated = migrate(running, load.index, FLEET)
        looped = _loop(running, load, batch)
    equal = _byte_equal(running, load)
    httpx.delete(faults).raise_for_status()
    _client(running).indexes.delete(load.index)
    return Round(LOOP if number % 2 else FLEET, migrated, looped, equal)


def _record_bytes(running: Running, load: Load) -> int:
    """The largest of some records, as the SDK writes it in the JSON of a request."""
    index = _client(running).index(load.index)
    namespace = next(iter(load.namespaces))
    ids = [item.id for item in index.list_paginated(namespace=namespace, limit=50).vectors if item.id is not None]
    records = index.fetch(ids=ids, namespace=namespace).vectors.values()
    return max(len(orjson.dumps([one.id, one.values, one.metadata])) for one in records) + _KEYS_BYTES


def _loop(running: Running, load: Load, batch: int) -> LoopTimes:
    loop = SeedLoop(_client(running), load.index, batch)
    began, cpu = time.monotonic(), time.process_time()
    records = sum(loop.migrate(namespace, LOOP, namespace) for namespace in load.namespaces)
    return LoopTimes(records, time.monotonic() - began, time.process_time() - cpu, batch)


def _client(running: Running) -> Pinecone:
    """The SDK with its defaults."""
    key = running.settings.pinecone_api_key
    assert key is not None, "the stack names the emulator's key"
    return Pinecone(api_key=key.get_secret_value(), host=running.settings.pinecone_controller_host)


def _byte_equal(running: Running, load: Load) -> bool:
    """Whether each copy holds what its source does, the three enriched keys apart."""
    answer = httpx.get(
        f"{running.settings.pinecone_controller_host}/_emulator/digest",
        params={"index": load.index, "ignore": _ENRICHED},
        timeout=60,
    ).raise_for_status()
    digests = answer.json()["namespaces"]
    return all(
        digests[name] == digests[f"creator_{creator}_twin_{name}"] and digests[name]["count"] == count
        for name, count in load.namespaces.items()
        for creator in (FLEET, LOOP)
    )


def _measures(rounds: list[Round]) -> Iterator[Measure]:
    def of(name: str, unit: str, *samples: float) -> Measure:
        return Measure(name, unit, samples)

    fleets, loops = [one.fleet for one in rounds], [one.loop for one in rounds]
    yield of("copy", "vectors/s", *(one.records / one.copied_s for one in fleets))
    yield of("copy and verify, from apply", "vectors/s", *(one.records / one.verified_s for one in fleets))
    yield of("verify alone", "vectors/s", *(one.records / one.verify_s for one in fleets))
    yield of("worker CPU, copy", "ms/vector", *((one.cpu_s - one.verify_cpu_s) / one.records * 1e3 for one in fleets))
    yield of("worker CPU, verify", "ms/vector", *(one.verify_cpu_s / one.records * 1e3 for one in fleets))
    yield of("worker CPU, verify / copy", "×", *(one.verify_cpu_s / (one.cpu_s - one.verify_cpu_s) for one in fleets))
    yield of("emulator CPU, copy and verify", "ms/vector", *(one.emulator_cpu_s / one.records * 1e3 for one in fleets))
    yield of("seed 000's loop", "vectors/s", *(one.records / one.seconds for one in loops))
    yield of("seed 000's loop, CPU", "ms/vector", *(one.cpu_s / one.records * 1e3 for one in loops))
    yield of("copy / seed 000's loop", "×", *(_ratio(one, one.fleet.copied_s) for one in rounds))
    yield of("copy and verify / seed 000's loop", "×", *(_ratio(one, one.fleet.verified_s) for one in rounds))


def _ratio(one: Round, seconds: float) -> float:
    return (one.fleet.records / seconds) / (one.loop.records / one.loop.seconds)
