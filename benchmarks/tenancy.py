"""Measure the tenants' client: against the bare SDK, across twins, under the seeds' load, and the guard alone.

    python -m benchmarks.tenancy [--quick]

The bare SDK and the client ask the same emulator the same question in turns, so that neighbours on the machine slow
both; the interval of their ratio is the bootstrap's 95 %.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
from pinecone import Pinecone
from pydantic import SecretStr

from benchmarks.figures import Figure
from benchmarks.reach import REACHES
from benchmarks.runner import alone
from vecfleet.settings import Settings
from vecfleet.tenancy import PineconeDelphiClient, TenantGuard

REPOSITORY = Path(__file__).resolve().parents[1]
DIMENSION = 3_072  # the seeds'
RECORDS = 68  # of the seeds' fourth namespace
TWINS = 10
CREATOR = "sainath.no.1"
HEADERS = {"Api-Key": "any", "X-Pinecone-Api-Version": "2026-07"}
PACE_PER_S = 20.0
DELAY_MS = 50
BOOTSTRAPS = 2_000


def measure(quick: bool) -> Iterator[Figure]:
    share = 0.1 if quick else 1.0
    yield guard()
    with emulator() as control:
        make_index(control)
        settings = Settings(pinecone_api_key=SecretStr("any"), pinecone_controller_host=control, _env_file=None)  # type: ignore[call-arg]
        client = PineconeDelphiClient("twins", settings=settings)
        vectors = np.random.default_rng(7).standard_normal((RECORDS, DIMENSION)).tolist()
        for twin in range(TWINS):
            records = [
                {"id": f"{n}", "values": values, "metadata": {"text": "x" * 300}} for n, values in enumerate(vectors)
            ]
            client.upsert_vectors(records, CREATOR, f"t{twin}")
        yield from against_the_sdk(client, control, vectors[0], int(5_000 * share))
        late = {"operation": "query", "delay_ms": DELAY_MS}
        httpx.post(f"{control}/_emulator/faults", json=late).raise_for_status()
        yield from across_twins(client, vectors[0], int(200 * share))
        yield under_load(client, vectors[0], 60 * share)


@contextmanager
def emulator() -> Iterator[str]:
    """An emulator process. Gives the address of its control plane."""
    command = [sys.executable, "-m", "emulator", "--port", "0"]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        yield str(json.loads(process.stdout.readline())["control"])
    finally:
        process.terminate()
        process.wait(timeout=30)


def make_index(control: str) -> None:
    body = {
        "name": "twins",
        "schema": {"fields": {"_values": {"type": "dense_vector", "dimension": DIMENSION, "metric": "cosine"}}},
        "deployment": {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"},
    }
    httpx.post(f"{control}/indexes", json=body, headers=HEADERS).raise_for_status()


def guard() -> Figure:
    """One check, from a loop of many; in time of this process, for neighbours on the machine are not its cost."""
    checks = 200_000
    namespace = f"creator_{CREATOR}_twin_coach"
    took = []
    for _ in range(5):
        started = time.process_time()
        for _ in range(checks):
            TenantGuard.validate_namespace_access(user_creator_id=CREATOR, namespace=namespace)
        took.append((time.process_time() - started) / checks * 1e6)
    return Figure.of("a guard's check", "µs", took, REACHES["a guard's check"])


def against_the_sdk(client: PineconeDelphiClient, control: str, asked: list[float], queries: int) -> Iterator[Figure]:
    """p95 of the client over p95 of the SDK, asked in turns; who goes first changes each time."""
    bare = Pinecone(api_key="any", host=control).index("twins")
    namespace = f"creator_{CREATOR}_twin_t0"

    def by_sdk() -> None:
        bare.query(vector=asked, top_k=10, namespace=namespace, include_metadata=True)

    def by_client() -> None:
        client.query(asked, CREATOR, "t0", 10)

    for _ in range(200):  # connections and caches
        by_sdk()
        by_client()
    took: dict[Callable[[], None], list[float]] = {by_sdk: [], by_client: []}
    for number in range(queries):
        for ask in (by_sdk, by_client) if number % 2 else (by_client, by_sdk):
            took[ask].append(_timed(ask))
    ours, theirs = np.array(took[by_client]), np.array(took[by_sdk])
    for whose, samples in (("SDK", theirs), ("client", ours)):
        yield Figure(f"a query, {whose}, p95", float(np.percentile(samples, 95)) * 1e3, "ms")
        yield Figure(f"a query, {whose}, median", float(np.median(samples)) * 1e3, "ms")
    ratio = float(np.percentile(ours, 95) / np.percentile(theirs, 95))
    reach, spread = REACHES["client / SDK"], _interval(ours, theirs)
    yield Figure(f"client / SDK, p95 of {queries:,} queries", ratio, "×", reach, spread=spread)


def _interval(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """Of the ratio, by drawing pairs: what slowed the machine slowed both of a pair."""
    chance = np.random.default_rng(11)
    ratios = []
    for _ in range(BOOTSTRAPS):
        drawn = chance.integers(0, len(ours), len(ours))
        ratios.append(np.percentile(ours[drawn], 95) / np.percentile(theirs[drawn], 95))
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(low), float(high)


def across_twins(client: PineconeDelphiClient, asked: list[float], rounds: int) -> Iterator[Figure]:
    """Ten twins at once over one, at 50 ms a query."""
    twins = [f"t{number}" for number in range(TWINS)]
    client.query_across_twins(asked, CREATOR, twins)
    one, ten = [], []
    for _ in range(rounds):
        one.append(_timed(lambda: client.query(asked, CREATOR, "t0")))
        ten.append(_timed(lambda: client.query_across_twins(asked, CREATOR, twins)))
    yield Figure.of(f"one twin, {DELAY_MS} ms a query", "ms", [1e3 * seconds for seconds in one])
    ratio = float(np.median(ten) / np.median(one))
    yield Figure(f"ten twins at once / one, {DELAY_MS} ms a query", ratio, "×", REACHES["ten twins / one"])


def under_load(client: PineconeDelphiClient, asked: list[float], seconds: float) -> Figure:
    """p95 at 20 queries a second, 50 ms each, counted from when each was due: a late start is no excuse."""
    count = int(seconds * PACE_PER_S)
    took: list[float] = []
    began = time.perf_counter() + 0.1

    def ask(due: float) -> None:
        client.query(asked, CREATOR, f"t{len(took) % TWINS}")
        took.append(time.perf_counter() - due)

    with ThreadPoolExecutor(32) as threads:
        for number in range(count):
            due = began + number / PACE_PER_S
            time.sleep(max(0.0, due - time.perf_counter()))
            threads.submit(ask, due)
    assert len(took) == count, "a query failed"
    name = f"p95 at {PACE_PER_S:g} queries/s for {seconds:g} s, {DELAY_MS} ms each"
    return Figure(name, float(np.percentile(took, 95)) * 1e3, "ms", REACHES["query under load"])


def _timed(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


if __name__ == "__main__":
    raise SystemExit(alone("tenancy", measure, __doc__))
