"""The loops that the fleet is compared with: over namespaces in one process, timed for a window of some seconds."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson
from pinecone import Pinecone

from benchmarks.data import Load
from benchmarks.fleet import Copied, Running

WINDOW_S = 10.0
REQUEST_BYTES = 2_000_000
# The names of the fields, and what a loop adds to the metadata.
_KEYS_BYTES = 150


@dataclass(frozen=True, slots=True)
class Order:
    """The task of a loop: copy namespaces of this index to those of this creator. `record_bytes`: of one in JSON."""

    client: Pinecone
    index: str
    creator: str
    record_bytes: int


@dataclass(frozen=True, slots=True)
class LoopTimes(Copied):
    """The work that a loop did; `cpu_s` is of its one process, which is the loop's alone."""

    namespaces: int


def timed(migrate: Callable[[str], int], sources: Sequence[str]) -> LoopTimes:
    """One namespace after the other, until all are done or the window is over; the last one is finished."""
    done = records = 0
    began, cpu = time.monotonic(), time.process_time()
    for source in sources:
        records += migrate(source)
        done += 1
        if time.monotonic() - began >= WINDOW_S:
            break
    return LoopTimes(records, time.monotonic() - began, time.process_time() - cpu, done)


def client_of(running: Running) -> Pinecone:
    """The SDK with its defaults, but for the TLS that the emulator has not."""
    key = running.settings.pinecone_api_key
    assert key is not None, "the stack names the emulator's key"
    return Pinecone(api_key=key.get_secret_value(), host=running.settings.pinecone_controller_host, grpc_scheme="http")


def record_bytes(client: Pinecone, load: Load) -> int:
    """The largest of some records, as the SDK writes it in the JSON of a request."""
    index = client.index(load.index)
    namespace = next(iter(load.namespaces))
    ids = [item.id for item in index.list_paginated(namespace=namespace, limit=50).vectors if item.id is not None]
    records = index.fetch(ids=ids, namespace=namespace).vectors.values()
    return max(len(orjson.dumps([one.id, one.values, one.metadata])) for one in records) + _KEYS_BYTES
