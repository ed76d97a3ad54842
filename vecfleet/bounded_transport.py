"""An end for a REST call as a whole. httpx bounds each wait of a call by itself, and a call has any number of them.

A server that sends or takes a byte now and then would keep a call alive for ever. A deletion that is still being sent
would then land long after its lease. Here each wait gets what is left of the call's own time, and nothing is sent after
it. The system looks up a host's name, with limits of its own; nothing was sent by then.
"""

import threading
from collections.abc import Iterable
from ssl import SSLContext
from typing import Any, cast

import httpcore
import httpx

from vecfleet import clock
from vecfleet.deadlines import left_of
from vecfleet.errors import BadInput


class _Call(threading.local):
    """This thread's call. A call, the reading of its answer included, is one thread's."""

    until = 0.0
    """The end of the request that is sent."""


_call = _Call()


class BoundedTransport(httpx.BaseTransport):
    """A transport around the given one that ends each call after so many seconds. Makes its connections itself."""

    def __init__(self, transport: httpx.HTTPTransport, seconds: float) -> None:
        self._transport = transport
        self._seconds = seconds
        pool = cast(Any, transport)._pool
        if type(pool) is not httpcore.ConnectionPool:
            raise BadInput("a call through a proxy has no end", next_step="connect to the service directly")
        pool._network_backend = _Backend(pool._network_backend)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        _call.until = clock.now() + left_of(self._seconds)
        return self._transport.handle_request(request)

    def close(self) -> None:
        self._transport.close()


def _left(over: type[httpcore.TimeoutException]) -> float:
    left = _call.until - clock.now()
    if left <= 0:
        raise over("the call's time is over")
    return left


class _Backend(httpcore.NetworkBackend):
    """Makes connections that know how long the call of the asking thread may last."""

    def __init__(self, backend: httpcore.NetworkBackend) -> None:
        self._backend = backend

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        left = _left(httpcore.ConnectTimeout)
        return _Stream(self._backend.connect_tcp(host, port, left, local_address, socket_options))


class _Stream(httpcore.NetworkStream):
    """A connection whose waits each end with the call."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write by the socket itself: the stream waits anew for each part that the other side takes."""
        socket, rest = self._stream.get_extra_info("socket"), memoryview(buffer)
        try:
            while rest:
                socket.settimeout(_left(httpcore.WriteTimeout))
                rest = rest[socket.send(rest) :]
        except TimeoutError as error:
            raise httpcore.WriteTimeout("the call's time is over") from error
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, _left(httpcore.ConnectTimeout)))

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
