"""A server on the loopback address that answers as it is told and remembers what it was asked."""

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import orjson


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: method, path with query, body, headers by their names in lower case."""

    method: str
    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response. `after` is called before it is sent."""

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    after: Callable[[], object] = lambda: None


class Answering:
    """`answer` decides; `asked` is what was asked, in order."""

    def __init__(self, answer: Callable[[Asked], Answer]) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _respond(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(self.command, self.path, body, headers)
                outer.asked.append(asked)
                answer = outer.answer(asked)
                answer.after()
                content = answer.body if isinstance(answer.body, bytes) else orjson.dumps(answer.body)
                with suppress(ConnectionError):  # the client may have given up
                    self.send_response(answer.status)
                    for name, value in {"content-length": str(len(content)), **answer.headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(content)

            do_GET = do_POST = do_DELETE = _respond

            def log_message(self, format: str, *args: object) -> None:
                """Keep the test's output to itself."""

        return Handler
