"""Traces: off unless configured, at no cost; where configured, a collector that is away holds nothing up."""

import subprocess
import sys
import time

import pytest
from receivers import receiver

from orchestrator.core.model import Wakeup
from orchestrator.core.states import BatchKind
from orchestrator.queue import make_app, send

FOREIGN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOTHING_LISTENS = "http://127.0.0.1:9"
# Where the SDK is installed, the client of Redis loads its metrics by itself.
LOADED = ("opentelemetry.sdk.trace", "opentelemetry.exporter", "sentry_sdk")
TRACES = """
import sys
from orchestrator.telemetry import tracing
from vecfleet.settings import Settings
tracing.start(Settings(otel_exporter_otlp_endpoint=sys.argv[1], otel_exporter_otlp_headers="x-team=vectors"), "cli")
"""


def run(program: str, *words: str, seconds: float = 120) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", program, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)


def test_a_fleet_for_which_nothing_is_configured_loads_no_telemetry() -> None:
    modules = "orchestrator.dispatcher", "orchestrator.web.app", "orchestrator.cli.app", "workers.tasks"
    program = f"""
import sys, importlib
for name in {modules}: importlib.import_module(name)
from orchestrator.telemetry import logs, tracing
from vecfleet.settings import Settings
settings = Settings()
logs.configure(settings)
tracing.start(settings, "worker")
with tracing.span("one"), tracing.continued({FOREIGN!r}):
    print(tracing.position(), [name for name in sys.modules if name.startswith({LOADED})])
"""
    assert run(program).stdout == "None []\n"


@pytest.mark.parametrize(
    ("variable", "package", "start"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "opentelemetry.sdk.trace", "tracing.start(settings, 'worker')"),
        ("SENTRY_DSN", "sentry_sdk", "logs.configure(settings)"),
    ],
)
def test_what_is_configured_and_not_installed_is_said_with_its_remedy(variable: str, package: str, start: str) -> None:
    program = f"""
import sys
sys.modules[{package!r}] = None
from orchestrator.telemetry import logs, tracing
from vecfleet.errors import BadInput
from vecfleet.settings import Settings
settings = Settings({variable.lower()}="http://key@127.0.0.1:9/1")
try: {start}
except BadInput as error: print(error.message, "|", error.next_step)
"""
    said = run(program)
    assert said.stdout.startswith(f"{variable} is set, and the packages that it needs are not installed"), said
    assert "requirements.lock" in said.stdout


def test_spans_go_to_the_endpoint_with_the_headers_that_it_asks_for_and_errors_without_their_words() -> None:
    program = (
        TRACES
        + """
try:
    with tracing.span("outer", job=7) as note, tracing.span("inner"):
        note(outcome="none")
        raise ValueError("what zoe told her twin")
except ValueError: pass
"""
    )
    with receiver() as received:
        ended = run(program, received.address)
        assert ended.returncode == 0, ended.stderr
        outer, inner = sorted(received.spans, key=lambda span: span.name, reverse=True)
        assert (inner.parent, inner.trace) == (outer.id, outer.trace) and not outer.parent
        assert outer.attributes["vecfleet.job"] == 7 and outer.attributes["vecfleet.outcome"] == "none"
        assert inner.failed and inner.attributes["error.type"] == "ValueError"
        assert outer.service == "vecfleet-cli"
        assert all(request.headers["x-team"] == "vectors" for request in received.requests)
        assert not any(b"zoe" in request.body for request in received.requests)


def test_a_span_that_a_message_names_is_continued_and_what_is_none_begins_a_trace() -> None:
    program = (
        TRACES
        + f"""
for named in ({FOREIGN!r}, "not a trace; DROP TABLE job", "0" * 10_000, ""):
    with tracing.continued(named), tracing.span("work"): pass
"""
    )
    with receiver() as received:
        ended = run(program, received.address)
        assert ended.returncode == 0, ended.stderr
        parents = [span.parent for span in received.spans]
        assert parents == ["b7ad6b7169203331", "", "", ""]


def test_a_collector_that_is_away_holds_up_neither_the_work_nor_the_end_of_a_process() -> None:
    program = (
        TRACES
        + """
import time
began = time.monotonic()
for _ in range(5_000):
    with tracing.span("work"): pass
print(time.monotonic() - began)
"""
    )
    began = time.monotonic()
    ended = run(program, NOTHING_LISTENS)
    assert ended.returncode == 0, ended.stderr
    assert float(ended.stdout) < 5
    assert time.monotonic() - began < 30


def test_a_wake_up_that_nobody_traces_has_no_header_of_a_trace() -> None:
    celery = make_app("memory://")
    sent = Wakeup(1, 0, BatchKind.COPY, job_id=1, namespace="n", seq=1, of=3, traceparent=FOREIGN)
    assert send(celery, [sent]) == []
    with celery.connection_for_read() as connection:
        message = connection.default_channel.basic_get("copy")
    assert message is not None and "traceparent" not in message.headers
