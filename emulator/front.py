"""REST and gRPC on one port: the first bytes of a connection show which of them it uses.

HTTP/1.1 is answered here. HTTP/2, which only gRPC clients use here, is passed through to one grpcio server. That server
serves all indexes and tells them apart by the port of our end of the pass-through connection.
"""

import asyncio
from typing import cast
from weakref import WeakSet

from emulator.http import Handler, HttpConnection
from emulator.index import Index

PREFACE = b"PRI * HTTP/2.0"
HIGH_WATER = 1024 * 1024


class Front(asyncio.Protocol):
    """Waits for enough bytes to recognise the protocol, then hands the connection over."""

    def __init__(
        self, handler: Handler, backend: "Backend", index: Index, connections: "WeakSet[asyncio.Transport]"
    ) -> None:
        self._handler, self._backend, self._index, self._connections = handler, backend, index, connections
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self._transport)

    def data_received(self, data: bytes) -> None:
        self._head += data
        if len(self._head) < len(PREFACE) and PREFACE.startswith(self._head):
            return
        speaks_grpc = self._head.startswith(PREFACE)
        chosen = Passage(self._backend, self._index) if speaks_grpc else HttpConnection(self._handler)
        self._transport.set_protocol(chosen)
        chosen.connection_made(self._transport)
        chosen.data_received(self._head)


class Backend:
    """The grpcio server's address, and the passages that lead to it by their local port."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.passages: dict[int, Passage] = {}


class Passage(asyncio.Protocol):
    """The client's side of a connection that is passed through."""

    def __init__(self, backend: Backend, index: Index) -> None:
        self.index = index
        self._backend = backend
        self._waiting: list[bytes] | None = []  # bytes that came before the other side was connected
        self._onward: asyncio.Transport | None = None
        self._local_port = 0
        self._closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER)
        self._task = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            onward, _ = await loop.create_connection(lambda: Onward(self), "127.0.0.1", self._backend.port)
        except OSError:
            self.transport.abort()
            return
        self._onward = onward
        self._local_port = onward.get_extra_info("sockname")[1]
        self._backend.passages[self._local_port] = self
        onward.set_write_buffer_limits(high=HIGH_WATER)
        onward.writelines(self._waiting or [])
        self._waiting = None
        if self._closed:
            onward.close()

    def data_received(self, data: bytes) -> None:
        if self._waiting is not None:
            self._waiting.append(data)
        elif self._onward:
            self._onward.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        if self._onward:
            self._onward.close()

    def pause_writing(self) -> None:
        if self._onward:
            self._onward.pause_reading()

    def resume_writing(self) -> None:
        if self._onward and not self._onward.is_closing():
            self._onward.resume_reading()

    def onward_lost(self) -> None:
        if self._backend.passages.get(self._local_port) is self:  # another passage may have the port by now
            del self._backend.passages[self._local_port]
        self.transport.close()


class Onward(asyncio.Protocol):
    """The server's side."""

    def __init__(self, passage: Passage) -> None:
        self._passage = passage

    def data_received(self, data: bytes) -> None:
        self._passage.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._passage.onward_lost()

    def pause_writing(self) -> None:
        self._passage.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self._passage.transport.is_closing():
            self._passage.transport.resume_reading()
