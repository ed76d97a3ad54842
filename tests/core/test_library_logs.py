"""A line of the library's log, as an application's `logging` sees it and as a process of the fleet shows it."""

import json
import logging
import subprocess
import sys

import pytest

from vecfleet import logs

PROCESS = """
import structlog
from orchestrator.telemetry.logs import configure
from vecfleet import logs
from vecfleet.settings import Settings

configure(Settings(log_format="json", pinecone_api_key="a-secret-key"))
with structlog.contextvars.bound_contextvars(job=7):
    logs.get_logger("vecfleet.tenancy").warning("the routes cannot be read", why="a-secret-key", known=True)
    logs.get_logger("vecfleet.tenancy").debug("not told at this level")
"""


def test_an_applications_handlers_get_the_event_with_its_fields(caplog: pytest.LogCaptureFixture) -> None:
    log = logs.get_logger("vecfleet.told")

    with caplog.at_level(logging.INFO):
        log.info("plain")
        log.warning("90 % are there", records=3, names=("a", b"b"))
        log.debug("below the level")

    assert caplog.record_tuples == [
        ("vecfleet.told", logging.INFO, "plain"),
        ("vecfleet.told", logging.WARNING, '90 % are there {"records":3,"names":["a","b\'b\'"]}'),
    ]


def test_a_process_of_the_fleet_shows_it_as_one_of_its_own_lines() -> None:
    ran = subprocess.run([sys.executable, "-c", PROCESS], capture_output=True, text=True, check=True)

    [line] = ran.stderr.splitlines()
    told = json.loads(line)
    assert told.pop("timestamp")
    assert told == {
        "event": "the routes cannot be read",
        "why": "**********",
        "known": True,
        "job": 7,
        "level": "warning",
        "logger": "vecfleet.tenancy",
    }
