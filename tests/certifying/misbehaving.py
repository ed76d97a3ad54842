"""A proxy before the emulator that misbehaves as a service might: REST is changed on its way, gRPC passes as it is."""

import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import httpx
import orjson

_GRPC = b"PRI"
_OWN_HEADERS = ("content-length", "transfer-encoding", "content-encoding", "connection", "host", "date", "server")


@dataclass
class Exchange:
    """A request and the emulator's answer to it, which a fault may change. `forward` asks the emulator."""

    method: str
    path: str
    query: Mapping[str, Sequence[str]]
    sent: Any
    status: int = 0
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    forward: Callable[[], None] = lambda: None


Fault = Callable[[Exchange], None]


class Misbehaving:
    """The control plane and each of its indexes, behind proxies of their own. `faults` change what passes."""

    def __init__(self, control: str, *faults: Fault) -> None:
        self._faults = faults
        self._lock = threading.Lock()
        self._servers: dict[str, ThreadingHTTPServer] = {}
        self._control = control

    @property
    def address(self) -> str:
        return self._before(self._control)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers.values():
            server.shutdown()
            server.server_close()

    def _before(self, upstream: str) -> str:
        """Return the address of the proxy before this one; begin it if there is none."""
        with self._lock:
            if upstream not in self._servers:
                server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(upstream, self._exchanged))
                server.daemon_threads = True
                threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
                self._servers[upstream] = server
            return f"http://127.0.0.1:{self._servers[upstream].server_port}"

    def _exchanged(self, exchange: Exchange) -> None:
        ask = exchange.forward

        def forward() -> None:
            ask()
            for described in _indexes(exchange):
                described["host"] = self._before(described["host"])

        exchange.forward = forward
        for fault in self._faults:
            fault(exchange)
        if not exchange.status:
            forward()


def _indexes(exchange: Exchange) -> list[dict[str, Any]]:
    body = exchange.body
    if not exchange.path.startswith("/indexes") or not isinstance(body, dict):
        return []
    return [described for described in [body, *body.get("indexes", ())] if "host" in described]


def answered(exchange: Exchange, path: str) -> bool:
    """Say whether this is an answer of the operation, which is asked for unless another fault did so before."""
    if exchange.path != path:
        return False
    if not exchange.status:
        exchange.forward()
    return exchange.status < 400


def _handler(upstream: str, exchanged: Callable[[Exchange], None]) -> type[BaseHTTPRequestHandler]:
    http = httpx.Client(base_url=upstream, timeout=60)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are two writes

        def handle(self) -> None:
            if self.connection.recv(len(_GRPC), socket.MSG_PEEK) == _GRPC:
                _tunnel(self.connection, upstream)
            else:
                super().handle()

        def _respond(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length", 0)))
            place = urlsplit(self.path)
            exchange = Exchange(self.command, place.path, parse_qs(place.query), _json(content))

            def forward() -> None:
                headers = {name: value for name, value in self.headers.items() if name.lower() not in _OWN_HEADERS}
                answer = http.request(self.command, self.path, content=content, headers=headers)
                exchange.status, exchange.body = answer.status_code, _json(answer.content)
                own = {name: value for name, value in answer.headers.items() if name.lower() not in _OWN_HEADERS}
                exchange.headers = own

            exchange.forward = forward
            exchanged(exchange)
            body = exchange.body if isinstance(exchange.body, bytes) else orjson.dumps(exchange.body)
            with suppress(ConnectionError):
                self.send_response(exchange.status)
                for name, value in {**exchange.headers, "content-length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

        do_GET = do_POST = do_DELETE = do_PATCH = _respond

        def log_message(self, format: str, *args: object) -> None:
            """Keep the test's output to itself."""

    return Handler


def _json(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return content


def _tunnel(client: socket.socket, upstream: str) -> None:
    place = urlsplit(upstream)
    with socket.create_connection((place.hostname, place.port)) as server:
        back = threading.Thread(target=_pump, args=(server, client), daemon=True)
        back.start()
        _pump(client, server)
        back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)
