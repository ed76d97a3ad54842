"""Servers on loopback that keep what telemetry sends: one for OTLP over HTTP and for Sentry's envelopes."""

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Span:
    """A span as it arrived, with numbers in hexadecimal."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    failed: bool


@dataclass
class Receiver:
    """Takes whatever is sent, and keeps it, unpacked."""

    requests: list[Request] = field(default_factory=list)
    address: str = ""

    @property
    def dsn(self) -> str:
        return self.address.replace("http://", "http://public-key@") + "/1"

    @property
    def spans(self) -> list[Span]:
        exports = [ExportTraceServiceRequest.FromString(one.body) for one in self._at("/v1/traces")]
        return [
            Span(
                service=_attributes(resource.resource.attributes)["service.name"],
                name=span.name,
                trace=span.trace_id.hex(),
                id=span.span_id.hex(),
                parent=span.parent_span_id.hex(),
                attributes=_attributes(span.attributes),
                failed=span.status.code == span.status.STATUS_CODE_ERROR,
            )
            for export in exports
            for resource in export.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def metrics(self) -> dict[str, Any]:
        """Every metric of every export by its name, the newest last."""
        return {
            metric.name: metric
            for one in self._at("/v1/metrics")
            for resource in ExportMetricsServiceRequest.FromString(one.body).resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    @property
    def reports(self) -> list[dict[str, Any]]:
        """The events in Sentry's envelopes: a header, then for each item its own header and its content."""
        lines = [line for one in self._at("/api/1/envelope/") for line in one.body.splitlines()[1:]]
        events = [json.loads(line) for line in lines if line.startswith(b"{")]
        return [event for event in events if "event_id" in event]

    def _at(self, path: str) -> list[Request]:
        return [request for request in list(self.requests) if request.path == path]


@contextmanager
def receiver() -> Iterator[Receiver]:
    """Serve until the block ends."""
    received = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            received.requests.append(Request(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
