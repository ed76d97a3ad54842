"""Connections that the bytes lane opens to an index, counted in the kernel's tables, on the real emulator."""

import struct
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import repeat
from urllib.parse import urlsplit
from uuid import uuid4

import grpc
import httpx
import psutil
import pytest

from tests.contracts.making import like, pinecone_store
from vecfleet.records import Record
from vecfleet.stores.base import IndexInfo, Kind
from vecfleet.stores.pinecone.bytes_lane import BytesLane
from vecfleet.stores.pinecone.channels import CALLS, CONNECTIONS, Channels

NS = "creator_x_twin_y"
RECORDS = {f"r{n}": struct.pack("<4f", n, 1, 2, 3) for n in range(60)}
# So late that all calls of a test are in flight at once, however slowly its threads start.
LATE_MS = 1_500


@pytest.fixture
def info(emulator: str) -> IndexInfo:
    """A new index with these records."""
    store = pinecone_store(emulator, pinecone_transport="rest")
    index = store.open(store.create_like(f"index-{uuid4().hex[:8]}", like(Kind.DENSE), None, None))
    index.upsert(NS, [Record(name, values) for name, values in RECORDS.items()])
    return index.info


def connections(info: IndexInfo) -> set[int]:
    """Of this process to that index, by the port at our end."""
    port = urlsplit(info.host).port
    every = psutil.Process().net_connections("tcp")
    ours = [one for one in every if one.raddr and one.raddr.port == port]
    return {one.laddr.port for one in ours if one.status == psutil.CONN_ESTABLISHED}


def fetched_at_once(lane: BytesLane, calls: int) -> list[dict[str, bytes]]:
    """So many fetches, each of one record."""
    ids = [f"r{n}" for n in range(calls)]
    with ThreadPoolExecutor(calls) as threads:
        answers = list(threads.map(lambda one: lane.fetch(NS, [one]), ids))
    return [{one.id: bytes(one.values) for one in answer.records.values()} for answer in answers]


def answers_come_late(emulator: str, info: IndexInfo) -> None:
    fault = {"operation": "fetch", "index": info.name, "delay_ms": LATE_MS}
    httpx.post(f"{emulator}/_emulator/faults", json=fault).raise_for_status()


@pytest.mark.parametrize(
    ("calls", "wanted"),
    [(1, 1), (CALLS, 1), (CALLS + 1, 2), (3 * CALLS, 3), (3 * CALLS * CONNECTIONS, CONNECTIONS)],
)
def test_many_slow_calls_open_more_connections_than_few(
    emulator: str, info: IndexInfo, calls: int, wanted: int
) -> None:
    # Given a service that takes its time, when so many calls are in flight at once
    answers_come_late(emulator, info)
    lane, before = BytesLane(info, "a key", 60.0), connections(info)
    found = fetched_at_once(lane, calls)

    # Then there are as many connections as they need, and each has what it asked for
    assert len(connections(info) - before) == wanted
    assert found == [{f"r{n}": RECORDS[f"r{n}"]} for n in range(calls)]


def test_calls_one_after_another_keep_to_one_connection(info: IndexInfo) -> None:
    lane, before = BytesLane(info, "a key", 60.0), connections(info)
    for _ in range(3 * CALLS):
        lane.fetch(NS, ["r1"])
    assert len(connections(info) - before) == 1


def test_a_call_takes_the_channel_with_the_fewest_in_flight() -> None:
    # Given two channels that are full, the second of which has ended two of its calls
    dialed: list[grpc.Channel] = []

    def dial() -> grpc.Channel:
        dialed.append(grpc.insecure_channel("127.0.0.1:1"))
        return dialed[-1]

    channels = Channels(dial)
    with ExitStack() as first, ExitStack() as second:
        for _ in repeat(None, CALLS):
            assert first.enter_context(channels.least_busy()) is dialed[0]
        for _ in repeat(None, CALLS - 2):
            assert second.enter_context(channels.least_busy()) is dialed[1]

        # Then the next two go there, and none is opened for them
        for _ in repeat(None, 2):
            assert second.enter_context(channels.least_busy()) is dialed[1]
        assert len(dialed) == 2

    # When all have ended, also by an error, then one is as good as another
    with pytest.raises(ValueError, match="refused"), channels.least_busy():
        raise ValueError("refused")
    with channels.least_busy() as channel:
        assert channel is dialed[0]
