"""Reports of errors: what went wrong and where in the code, and no word that may quote a record."""

import subprocess
import sys

from receivers import receiver

TEXT = "what-zoe-told-her-twin"
# Each way in which a process of the fleet may tell of an error; the text is in messages, arguments and local variables.
PROGRAM = f"""
import logging, sys, threading
import structlog
from orchestrator.telemetry import logs
from vecfleet.settings import Settings

logs.configure(Settings(sentry_dsn=sys.argv[1], log_format="json"))
log = structlog.get_logger("vecfleet.worker")

def read(record):
    text = record
    raise ValueError(f"no number: {{text}}")

def chained():
    try:
        read({TEXT!r})
    except ValueError as error:
        raise RuntimeError({TEXT!r}) from error

log.warning("no error", why={TEXT!r})
log.error("batch parked", job=7, batch=8, kind="COPY", namespace={TEXT!r}, why={TEXT!r}, error="BadRequest")
try:
    chained()
except RuntimeError:
    log.exception("a tick failed", topic={TEXT!r})
    logging.getLogger("celery.worker").error("Task %s failed", {TEXT!r}, exc_info=True, extra={{"data": {TEXT!r}}})
thread = threading.Thread(target=read, args=({TEXT!r},), name={TEXT!r})
thread.start()
thread.join()
read({TEXT!r})
"""


def test_each_error_is_reported_with_its_lines_of_code_and_without_a_word_of_records() -> None:
    with receiver() as received:
        ended = subprocess.run(
            [sys.executable, "-c", PROGRAM, received.dsn], capture_output=True, text=True, timeout=120, check=False
        )
        assert ended.returncode == 1, ended.stderr
        parked, tick, library, thread, crash = received.reports
        # Our own lines by their sentences and numbers
        assert parked["message"] == "batch parked" and parked["level"] == "error"
        assert parked["tags"] == {"job": "7", "batch": "8", "kind": "COPY", "error": "BadRequest"}
        assert tick["message"] == "a tick failed"
        # A library's by the place alone
        assert library["message"].startswith("an error in celery.worker.")
        # Exceptions by their classes, what caused them too, and the functions that they passed
        for report, classes in (
            (tick, ["ValueError", "RuntimeError"]),
            (library, ["ValueError", "RuntimeError"]),
            (thread, ["ValueError"]),
            (crash, ["ValueError"]),
        ):
            exceptions = report["exception"]["values"]
            assert [one["type"] for one in exceptions] == classes
            assert "read" in [frame["function"] for frame in exceptions[0]["stacktrace"]["frames"]]
        # And in no byte what a record says
        assert received.requests
        for request in received.requests:
            assert TEXT.encode() not in request.body, request.body
            assert TEXT not in str((request.path, request.headers))
