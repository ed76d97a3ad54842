"""deploy/systemd: the unit of a worker, as systemd reads it and as Celery takes its command."""

import configparser
import shlex
from pathlib import Path

import pytest
from celery.bin.base import CLIContext
from celery.bin.celery import celery

from workers.celery import app

REPOSITORY = Path(__file__).resolve().parents[2]
UNIT = REPOSITORY / "deploy" / "systemd" / "vecfleet-worker@.service"


@pytest.fixture
def service() -> configparser.SectionProxy:
    unit = configparser.ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(UNIT.read_text())
    return unit["Service"]


def test_its_command_is_one_that_celery_takes_and_its_name_differs_for_each_worker(
    service: configparser.SectionProxy,
) -> None:
    program, *typed = shlex.split(service["ExecStart"].replace("%i", "7").replace("%%", "%"))
    assert program.endswith("/bin/celery")
    assert typed[:3] == ["-A", "workers", "worker"]
    worker = celery.commands["worker"]
    worker.make_context("worker", typed[3:], obj=CLIContext(app=app, no_color=True, workdir=None))
    assert typed[typed.index("--hostname") + 1] == "7@%h"


def test_a_worker_that_is_stopped_has_the_time_that_the_pages_name(service: configparser.SectionProxy) -> None:
    assert service["TimeoutStopSec"] == "45"
    assert service["KillMode"] == "mixed"  # SIGTERM to the worker alone: a pool of processes stops its own
    assert service["Restart"] == "always"
