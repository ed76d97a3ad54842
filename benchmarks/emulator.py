"""Measure the emulator alone, so that its cost is never taken for the fleet's: CPU a request, memory, many namespaces.

    python -m benchmarks.emulator [--quick]

CPU is the emulator process's own.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import orjson
import psutil

from benchmarks.figures import Figure
from benchmarks.reach import REACHES
from benchmarks.runner import alone
from emulator import vector_service_pb2 as pb

REPOSITORY = Path(__file__).resolve().parents[1]
METADATA = {"chunk_text": "x" * 300, "source_id": "abc", "page": 7.0, "is_public": True, "tags": ["a", "b"]}
ROUNDS, ACTS = 10, 30


class Server:
    """An emulator process, and what it has used."""

    def __init__(self, options: Sequence[str]) -> None:
        command = [sys.executable, "-m", "emulator", "--port", "0", *options]
        self.process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.control = str(json.loads(self.process.stdout.readline())["control"])
        self._usage = psutil.Process(self.process.pid)

    def make_index(self, dimension: int) -> str:
        fields = {"_values": {"type": "dense_vector", "dimension": dimension, "metric": "cosine"}}
        body = {"name": f"bench-{dimension}", "schema": {"fields": fields}}
        return str(httpx.post(f"{self.control}/indexes", json=body).raise_for_status().json()["host"])

    def cpu_ms(self) -> float:
        times = self._usage.cpu_times()
        return 1000 * (times.user + times.system)

    def memory(self) -> int:
        return int(self._usage.memory_info().rss)

    def cost(self, act: Callable[[], object]) -> float:
        """CPU milliseconds of one act: the least of a few averages, since neighbours on the machine only ever add."""
        act()
        averages = []
        for _ in range(ROUNDS):
            before = self.cpu_ms()
            for _ in range(ACTS):
                act()
            averages.append((self.cpu_ms() - before) / ACTS)
        return min(averages)


@contextmanager
def server(*options: str) -> Iterator[Server]:
    running = Server(options)
    try:
        yield running
    finally:
        running.process.terminate()
        running.process.wait(timeout=30)


class Rpc:
    def __init__(self, host: str) -> None:
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._channel = grpc.insecure_channel(host.removeprefix("http://"), options=options)

    def __call__(self, name: str, body: bytes) -> bytes:
        return bytes(self._channel.unary_unary(f"/VectorService/{name}")(body))


def upsert_message(ids: Sequence[str], vectors: Any, namespace: str, metadata: dict[str, object] | None) -> bytes:
    request = pb.UpsertRequest(namespace=namespace)
    for id, vector in zip(ids, vectors, strict=True):
        record = request.vectors.add(id=id, values=vector.tobytes())
        if metadata:
            record.metadata.update(metadata)
    return bytes(request.SerializeToString())


def requests_cpu(dimension: int) -> Iterator[Figure]:
    """One request for 100 records."""
    ids = [f"{n:036}" for n in range(100)]
    vectors = np.random.default_rng(1).standard_normal((100, dimension)).astype("f4")
    body = upsert_message(ids, vectors, "n", METADATA)
    fetch = pb.FetchRequest(ids=ids, namespace="n").SerializeToString()
    items = [{"id": id, "values": vector, "metadata": METADATA} for id, vector in zip(ids, vectors, strict=True)]
    text = orjson.dumps({"vectors": items[:40], "namespace": "n"}, option=orjson.OPT_SERIALIZE_NUMPY)
    where = httpx.QueryParams([("namespace", "n"), *(("ids", id) for id in ids)])
    with server() as emulator:
        host = emulator.make_index(dimension)
        rpc = Rpc(host)
        with httpx.Client(base_url=host) as client:
            acts: dict[tuple[str, str], Callable[[], object]] = {
                ("gRPC upsert, 100", "gRPC"): lambda: rpc("Upsert", body),
                ("gRPC fetch, 100", "gRPC"): lambda: rpc("Fetch", fetch),
                ("REST fetch, 100", f"REST, {dimension}"): lambda: _rest(client.get("/vectors/fetch", params=where)),
                ("REST upsert, 40", f"REST, {dimension}"): lambda: _rest(client.post("/vectors/upsert", content=text)),
            }
            for (name, reach), act in acts.items():
                yield Figure(f"{name} × {dimension:,}-d", emulator.cost(act), "CPU-ms", REACHES[f"emulator, {reach}"])


def _rest(answer: httpx.Response) -> None:
    answer.raise_for_status()


def memory(records: int) -> Iterator[Figure]:
    """Resident memory for each byte of raw vectors, beyond an empty emulator's."""
    dimension = 3072
    with server() as emulator:
        rpc = Rpc(emulator.make_index(dimension))
        empty = emulator.memory()
        for start in range(0, records, 100):
            vectors = np.random.default_rng(start).standard_normal((100, dimension)).astype("f4")
            rpc(
                "Upsert",
                upsert_message([f"{start + n:036}" for n in range(100)], vectors, f"n{start % 1000}", METADATA),
            )
        ratio = (emulator.memory() - empty) / (records * dimension * 4)
        name = f"memory with {records:,} × {dimension:,}-d and metadata / raw vectors"
        yield Figure(name, ratio, "×", REACHES["emulator, memory"])


def many_namespaces(records: int, namespaces: int) -> Iterator[Figure]:
    """A large tenant: small records in very many namespaces."""
    each = records // namespaces
    with server() as emulator:
        rpc = Rpc(emulator.make_index(8))
        vectors = np.random.default_rng(1).standard_normal((each, 8)).astype("f4")
        ids = [f"chunk-{n:030}" for n in range(each)]
        began = time.monotonic()
        for number in range(namespaces):
            rpc("Upsert", upsert_message(ids, vectors, f"tenant-{number:06}", None))
        seconds, name = time.monotonic() - began, f"load {records:,} × 8-d into {namespaces:,} namespaces"
        yield Figure(name, seconds, "s", REACHES["emulator, load"])
        began, listed = time.monotonic(), 0
        for number in range(namespaces):
            token = ""
            while True:
                page = pb.ListRequest(namespace=f"tenant-{number:06}", pagination_token=token).SerializeToString()
                answer = pb.ListResponse.FromString(rpc("List", page))
                listed += len(answer.vectors)
                token = answer.pagination.next
                if not token:
                    break
        assert listed == each * namespaces, listed
        yield Figure(f"list all {listed:,} ids of them", time.monotonic() - began, "s", REACHES["emulator, list"])


def measure(quick: bool) -> Iterator[Figure]:
    share = 10 if quick else 1
    for dimension in (1_536, 3_072):
        yield from requests_cpu(dimension)
    yield from memory(20_000 // (2 if quick else 1))  # fewer would weigh what the process takes by itself
    yield from many_namespaces(1_000_000 // share, 12_000 // share)


if __name__ == "__main__":
    raise SystemExit(alone("emulator", measure, __doc__))
