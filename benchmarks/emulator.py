"""What the emulator itself costs, so that it is never taken for the fleet: CPU a request, memory, many namespaces.

    python -m benchmarks.emulator [--quick]

Each figure is printed beside its target; the exit code is 1 when one is missed. CPU is the emulator process's own.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import orjson
import psutil

from emulator import vector_service_pb2 as pb

REPOSITORY = Path(__file__).resolve().parents[1]
METADATA = {"chunk_text": "x" * 300, "source_id": "abc", "page": 7.0, "is_public": True, "tags": ["a", "b"]}
ROUNDS, ACTS = 10, 30


@dataclass
class Figure:
    name: str
    value: float
    target: float
    unit: str

    def __str__(self) -> str:
        verdict = "ok" if self.value <= self.target else "MISSED"
        return f"{self.name:<64} {self.value:8.2f} {self.unit:<12} (target <= {self.target:g})  {verdict}"


class Server:
    """An emulator process, and what it has used."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "emulator", "--port", "0"]
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
def server() -> Iterator[Server]:
    running = Server()
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


def requests_cpu(dimension: int, rest_target_ms: float) -> Iterator[Figure]:
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
        yield Figure(f"gRPC upsert, 100 x {dimension}", emulator.cost(lambda: rpc("Upsert", body)), 5, "CPU-ms")
        yield Figure(f"gRPC fetch, 100 x {dimension}", emulator.cost(lambda: rpc("Fetch", fetch)), 5, "CPU-ms")
        with httpx.Client(base_url=host) as client:
            read = emulator.cost(lambda: client.get("/vectors/fetch", params=where).raise_for_status())
            yield Figure(f"REST fetch, 100 x {dimension}", read, rest_target_ms, "CPU-ms")
            wrote = emulator.cost(lambda: client.post("/vectors/upsert", content=text).raise_for_status())
            yield Figure(f"REST upsert, 40 x {dimension}", wrote, rest_target_ms, "CPU-ms")


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
        yield Figure(f"memory, {records} x {dimension} with metadata, over raw vectors", ratio, 1.3, "x")


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
        yield Figure(f"load {records} x 8 into {namespaces} namespaces", time.monotonic() - began, 120, "s")
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
        yield Figure(f"list all {listed} ids of them", time.monotonic() - began, 60, "s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the records")
    share = 10 if parser.parse_args().quick else 1
    missed = False
    parts = (
        requests_cpu(1536, 15),
        requests_cpu(3072, 30),
        memory(20_000 // share),
        many_namespaces(1_000_000 // share, 12_000 // share),
    )
    for part in parts:
        for figure in part:
            print(figure, flush=True)
            missed |= figure.value > figure.target
    sys.exit(missed)


main()
