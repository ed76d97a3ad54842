"""Traces of the fleet, exported by OTLP where OTEL_EXPORTER_OTLP_ENDPOINT is set; else nothing here does anything.

A trace is a job: `apply`, each wake-up that is sent, the work on each batch, each call to a store. Spans hold numbers
of jobs and batches, kinds, operations and classes of errors. Namespaces, records, texts, keys and addresses stay out.

`start` alone loads OpenTelemetry. A collector that is away costs spans and nothing else: they are sent by a thread.
"""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from vecfleet import __version__
from vecfleet.errors import BadInput
from vecfleet.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.trace import Tracer

ProcessName = Literal["cli", "dispatcher", "worker", "web"]
Attribute = str | int
Note = Callable[..., None]
"""`note(name=value …)` adds attributes to a span, by their names."""

HEADER = "traceparent"
# A process that ends waits so long for a collector that is away.
_EXPORT_WITHIN_S = 3.0

_tracer: "Tracer | None" = None


def start(settings: Settings, process: ProcessName) -> None:
    """Export the spans of this process from now on, if an endpoint is configured. Safe to repeat; the first counts."""
    global _tracer
    if settings.otel_exporter_otlp_endpoint is None or _tracer is not None:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise not_installed("OTEL_EXPORTER_OTLP_ENDPOINT") from error
    provider = TracerProvider(resource=resource(process))
    exporter = OTLPSpanExporter(**destination(settings, "traces"))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    _tracer = provider.get_tracer("vecfleet", __version__)


def not_installed(variable: str) -> BadInput:
    """Return the error of a setting whose packages are missing."""
    return BadInput(
        f"{variable} is set, and the packages that it needs are not installed",
        next_step="`pip install -r requirements.lock` where the fleet is installed; or unset it",
    )


def resource(process: ProcessName) -> "Resource":
    """Describe this process; OTEL_RESOURCE_ATTRIBUTES adds what an operator wants to tell besides."""
    from opentelemetry.sdk.resources import Resource

    return Resource.create(
        {
            "service.namespace": "vecfleet",
            "service.name": f"vecfleet-{process}",
            "service.version": __version__,
            "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
        }
    )


def destination(settings: Settings, signal: Literal["traces", "metrics"]) -> dict[str, Any]:
    """Return what an OTLP exporter is told: where to send this signal, with which headers, and how patient it is."""
    from opentelemetry.util.re import parse_env_headers

    assert settings.otel_exporter_otlp_endpoint is not None, "nothing is exported without an endpoint"
    base = settings.otel_exporter_otlp_endpoint.get_secret_value().rstrip("/")
    headers = settings.otel_exporter_otlp_headers
    said = parse_env_headers(headers.get_secret_value(), liberal=True) if headers is not None else {}
    return {"endpoint": f"{base}/v1/{signal}", "headers": said, "timeout": _EXPORT_WITHIN_S}


@contextmanager
def span(name: str, *, within: str | None = None, **attributes: Attribute) -> Iterator[Note]:
    """Trace a block, as part of the span around it or of the one at `within`. Yield a function that adds attributes.

    An error is told by its class: its words may quote a record.
    """
    if _tracer is None:
        yield _note_nothing
        return
    from opentelemetry.trace import StatusCode

    with _tracer.start_as_current_span(
        name,
        _context(within) if within is not None else None,
        attributes=_named(attributes),
        record_exception=False,
        set_status_on_exception=False,
    ) as opened:
        try:
            yield lambda **more: opened.set_attributes(_named(more))
        except BaseException as error:
            opened.set_status(StatusCode.ERROR)
            opened.set_attribute("error.type", type(error).__name__)
            raise


@contextmanager
def continued(traceparent: str | None) -> Iterator[None]:
    """Make the spans of a block parts of the span that a message or a row names."""
    if _tracer is None or traceparent is None:
        yield
        return
    from opentelemetry import context

    token = context.attach(_context(traceparent))
    try:
        yield
    finally:
        context.detach(token)


def position() -> str | None:
    """Return the current span as W3C's `traceparent`, for a message or a row. None where nothing is traced."""
    if _tracer is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get(HEADER)


def _context(traceparent: str) -> Any:
    """Return the context of a `traceparent`; an empty one if it is none."""
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({HEADER: traceparent}, context=Context())


def _named(attributes: dict[str, Attribute]) -> dict[str, Attribute]:
    return {f"vecfleet.{name}": value for name, value in attributes.items()}


def _note_nothing(**_: Attribute) -> None:
    """Add nothing: nothing is traced."""
