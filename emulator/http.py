"""HTTP/1.1 on asyncio: one protocol object a connection, requests answered in the order in which they came."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import cast
from urllib.parse import parse_qsl, unquote

import httptools
import orjson

from emulator.errors import Hang, Refusal, Reset, invalid

_log = logging.getLogger(__name__)
MAX_BODY = 64 * 1024 * 1024  # the most that is read; the service's own limits are far below


@dataclass(slots=True)
class Request:
    method: str
    segments: list[str]
    query: list[tuple[str, str]]
    headers: Mapping[str, str]
    body: bytes
    url_length: int
    last: bool = False  # the client wants the connection closed after the answer
    version: str = ""  # of the API, as the service's planes read it from the headers

    def argument(self, name: str) -> str | None:
        return next((value for key, value in self.query if key == name), None)

    def arguments(self, name: str) -> list[str]:
        return [value for key, value in self.query if key == name]

    def number(self, name: str, default: int) -> int:
        text = self.argument(name)
        if text is None or text == "":
            return default
        try:
            return int(text)
        except ValueError:
            raise invalid(f"{name} must be an integer, got '{text[:40]}'") from None

    def json(self) -> dict[str, object]:
        """Return the body as an object; an empty body is an empty object."""
        try:
            value = orjson.loads(self.body) if self.body else {}
        except orjson.JSONDecodeError as error:
            raise invalid(f"The request body is not valid JSON: {error}") from None
        if not isinstance(value, dict):
            raise invalid("The request body must be a JSON object")
        return value


@dataclass(slots=True)
class Response:
    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    stream: AsyncIterator[bytes] | None = None  # instead of `body`


Handler = Callable[[Request], Awaitable[Response]]


def json_response(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    body = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(status, body, headers or {})


class HttpConnection(asyncio.Protocol):
    """One connection. httptools calls the callbacks named `on_*`."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[Request] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._gone = asyncio.Event()
        self._broken = False

    # -- asyncio ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._broken:
            return
        try:
            self._parser.feed_data(data)
        except Refusal as refusal:
            self._refuse(refusal)
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, Refusal) else invalid(f"This is not an HTTP/1.1 request: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        # A request under way is still carried out: a client that gives up does not undo its write.
        self._broken = True
        self._may_write.set()
        self._gone.set()

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    # -- httptools ----------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._size = 0

    def on_url(self, part: bytes) -> None:
        self._url += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._headers.get("expect", "").lower() == "100-continue" and self._transport:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > MAX_BODY:
            raise Refusal(413, f"Request bodies may have at most {MAX_BODY} bytes")
        self._body.append(part)

    def on_message_complete(self) -> None:
        path, _, query = self._url.decode("latin-1").partition("?")
        self._waiting.append(
            Request(
                method=self._parser.get_method().decode(),
                segments=[unquote(segment) for segment in path.split("/")[1:]],
                query=parse_qsl(query, keep_blank_values=True) if query else [],
                headers=self._headers,
                body=b"".join(self._body),
                url_length=len(self._url),
                last=not self._parser.should_keep_alive(),
            )
        )
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._work())

    # -- answers ------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while self._waiting and not self._broken:
            request = self._waiting.popleft()
            try:
                response = await self._handler(request)
            except Reset:
                assert self._transport
                self._transport.abort()
                break
            except Hang:
                await self._gone.wait()
                break
            except Exception:  # noqa: BLE001 - one bad request must not end the connection's others
                _log.exception("%s /%s failed", request.method, "/".join(request.segments))
                response = json_response(Refusal(500, "Internal error; the emulator's log says more").data_plane(), 500)
            await self._send(response, request.last)
        self._worker = None

    async def _send(self, response: Response, close: bool) -> None:
        if self._broken or self._transport is None:
            return
        head = [f"HTTP/1.1 {response.status} {_phrase(response.status)}", f"content-type: {response.content_type}"]
        head += [f"{name}: {value}" for name, value in response.headers.items()]
        head.append("transfer-encoding: chunked" if response.stream else f"content-length: {len(response.body)}")
        if close:
            head.append("connection: close")
        start = "\r\n".join([*head, "", ""]).encode("latin-1", "replace")
        if response.stream is None:
            self._transport.writelines([start, response.body])
        else:
            self._transport.write(start)
            async for part in response.stream:
                await self._may_write.wait()
                if self._broken:
                    return
                self._transport.writelines([b"%x\r\n" % len(part), part, b"\r\n"])
            self._transport.write(b"0\r\n\r\n")
        if close:
            self._transport.close()

    def _refuse(self, refusal: Refusal) -> None:
        """Answer once and close: the stream of requests cannot be followed any more."""
        self._broken = True
        if self._transport:
            body = orjson.dumps(refusal.data_plane())
            head = (
                f"HTTP/1.1 {refusal.status} {_phrase(refusal.status)}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self._transport.writelines([head.encode(), body])
            self._transport.close()


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
