"""A REST call ends by its deadline, however slowly the other side takes and gives: httpx bounds each wait alone."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import httpx
import pytest

from tests.contracts.making import pinecone_store
from vecfleet import clock
from vecfleet.bounded_transport import BoundedTransport
from vecfleet.errors import TimedOut, Unavailable
from vecfleet.records import Record
from vecfleet.settings import Settings
from vecfleet.stores.base import Index, IndexInfo, Kind
from vecfleet.stores.pinecone import PineconeStore
from vecfleet.stores.pinecone.clients import PerProcess
from vecfleet.stores.pinecone.serving import AsyncPineconeServing, PineconeServing
from vecfleet.stores.serving import Question

DEADLINE_S = 1.0
DRIP_S = 0.2  # well inside each single wait
HEADERS = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
DRIPS_FOR = 1_000  # bytes: minutes, if nobody ended it
PATIENCE_S = DRIPS_FOR * DRIP_S / 2
LEASE_S = 60.0  # a request's deadline is below it
Talk = Callable[["Dripping", socket.socket], None]


class Dripping:
    """A server whose every connection goes as `talk` says. `hung_up` is set once a client has ended one."""

    def __init__(self, talk: Talk) -> None:
        self.over, self.hung_up = threading.Event(), threading.Event()
        self._talk = talk
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._answer, args=(connection,)))
                self._threads[-1].start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            try:
                self._talk(self, connection)
            except OSError:
                self.hung_up.set()

    def drip(self, connection: socket.socket, first: bytes, drop: bytes) -> None:
        """Take the request, answer with this at once, and then with one drop after another."""
        connection.recv(65_536)
        connection.sendall(first)
        for _ in range(DRIPS_FOR):
            if self.over.wait(DRIP_S):
                return
            connection.sendall(drop)

    def close(self) -> None:
        self.over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()


def drips_its_headers(server: Dripping, connection: socket.socket) -> None:
    server.drip(connection, HEADERS + b"x-slow: ", b"a")


def drips_its_body(server: Dripping, connection: socket.socket) -> None:
    server.drip(connection, HEADERS + b"content-length: 1000000\r\n\r\n{", b" ")


def drips_its_status(server: Dripping, connection: socket.socket) -> None:
    server.drip(connection, b"", b"\r\n")


@pytest.fixture
def start() -> Iterator[Callable[[Talk], Dripping]]:
    started: list[Dripping] = []

    def start(talk: Talk) -> Dripping:
        started.append(Dripping(talk))
        return started[-1]

    yield start
    for server in started:
        server.close()


def store_at(address: str, deadline_s: float = DEADLINE_S) -> PineconeStore:
    return pinecone_store(address, pinecone_transport="rest", request_deadline_seconds=deadline_s)


def index_at(address: str, deadline_s: float = DEADLINE_S) -> Any:
    return store_at(address, deadline_s).open(IndexInfo("an-index", Kind.DENSE, 2, "cosine", address))


RECORD = Record("a", b"\0\0\x80?\0\0\0\0")
QUESTION = Question(vector=[1.0, 0.0], top_k=1)
INFO = IndexInfo("an-index", Kind.DENSE, 2, "cosine", "")


def serving_at(address: str) -> PineconeServing:
    serving = PineconeServing(settings_at(address), "an-index")
    serving._info = PerProcess(lambda: replace(INFO, host=address))
    return serving


def async_serving_at(address: str) -> AsyncPineconeServing:
    serving = AsyncPineconeServing(settings_at(address), "an-index")
    serving._info = PerProcess(lambda: replace(INFO, host=address))
    return serving


def settings_at(address: str) -> Settings:
    return Settings(pinecone_api_key="any", pinecone_controller_host=address, request_deadline_seconds=DEADLINE_S)


async def _no_objection() -> None:
    pass


CALLS: dict[str, Callable[[str], Any]] = {
    "delete": lambda address: index_at(address).delete("ns", ["a"]),
    "delete_namespace": lambda address: index_at(address).delete_namespace("ns"),
    "upsert": lambda address: index_at(address).upsert("ns", [Record("a", b"\0\0\x80?\0\0\0\0")]),
    "list": lambda address: index_at(address).list_ids("ns"),
    "fetch": lambda address: index_at(address).fetch("ns", ["a"]),
    "remove an alias": lambda address: index_at(address).point_alias("old", None),
    "an application's question": lambda address: serving_at(address).ask("ns", QUESTION),
    "an application's write": lambda address: serving_at(address).write("ns", [RECORD], lambda: None),
    "a coroutine's question": lambda address: asyncio.run(async_serving_at(address).ask("ns", QUESTION)),
    "a coroutine's write": lambda address: asyncio.run(async_serving_at(address).write("ns", [RECORD], _no_objection)),
    "describe an index": lambda address: store_at(address).describe("an-index"),
}


@pytest.mark.parametrize("talk", [drips_its_headers, drips_its_body, drips_its_status])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_server_that_drips_does_not_outlive_the_deadline(
    start: Callable[[Talk], Dripping], call: Callable[[str], Any], talk: Talk
) -> None:
    server = start(talk)
    began = clock.now()

    with pytest.raises((TimedOut, Unavailable)):
        call(server.address)

    assert clock.now() - began < PATIENCE_S
    assert server.hung_up.wait(PATIENCE_S), "the call goes on although nobody waits for it"


def test_a_server_that_takes_a_request_bit_by_bit_never_has_the_whole_of_it(start: Callable[[Talk], Dripping]) -> None:
    """A server that has the whole request would carry it out, a deletion say, after the lease of whoever asked."""
    taken, body = bytearray(), b"x" * 1_000_000

    def takes_its_time(server: Dripping, connection: socket.socket) -> None:
        while drop := connection.recv(2_048):
            taken.extend(drop)
            if server.over.wait(DRIP_S / 4):
                return
        server.hung_up.set()

    # Given a connection that the system buffers little of
    little = [(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)]
    transport = BoundedTransport(httpx.HTTPTransport(socket_options=little), DEADLINE_S)
    server = start(takes_its_time)

    with httpx.Client(transport=transport, timeout=DEADLINE_S) as client, pytest.raises(httpx.WriteTimeout):
        client.post(server.address, content=body)

    assert server.hung_up.wait(PATIENCE_S)
    assert len(taken) < len(body) / 2


def test_a_call_has_its_time_anew_after_one_that_used_it_up(start: Callable[[Talk], Dripping]) -> None:
    """The time is the call's, not the connection's or the thread's."""
    talks: list[Talk] = [drips_its_body, lambda _, connection: _answered(connection)]
    server = start(lambda server, connection: talks.pop(0)(server, connection))
    index: Index = index_at(server.address, 5 * DEADLINE_S)

    with pytest.raises((TimedOut, Unavailable)):
        index.delete("ns", ["a"])
    assert index.delete("ns", ["a"]).requests == 1


def _take(connection: socket.socket) -> None:
    """All of a request: who closes a connection before that resets it."""
    taken = b""
    while not taken.endswith(b"}"):
        taken += connection.recv(65_536)


def _answered(connection: socket.socket) -> None:
    _take(connection)
    connection.sendall(HEADERS + b"content-length: 2\r\n\r\n{}")


def test_an_answer_that_takes_several_waits_is_read_to_its_end(start: Callable[[Talk], Dripping]) -> None:
    def takes_a_breath(server: Dripping, connection: socket.socket) -> None:
        _take(connection)
        for part in (HEADERS, b"content-length: 4\r\n\r\n{", b"  ", b"}"):
            connection.sendall(part)
            server.over.wait(0.01)

    assert index_at(start(takes_a_breath).address, LEASE_S / 2).delete("ns", ["a"]).requests == 1
