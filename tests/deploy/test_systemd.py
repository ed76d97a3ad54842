"""deploy/systemd: the units, as systemd reads them and as Celery and our own command take what they start."""

import configparser
import shlex
from pathlib import Path

import pytest
from celery.bin.base import CLIContext
from celery.bin.celery import celery

from orchestrator.cli.app import main as vecfleet
from workers.celery import app

REPOSITORY = Path(__file__).resolve().parents[2]
UNITS = {unit.name: unit for unit in (REPOSITORY / "deploy" / "systemd").iterdir()}


def service(name: str) -> configparser.SectionProxy:
    unit = configparser.ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(UNITS[name].read_text())
    return unit["Service"]


def test_a_workers_command_is_one_that_celery_takes_and_its_name_differs_for_each_worker() -> None:
    typed_there = service("vecfleet-worker@.service")["ExecStart"].replace("%i", "7").replace("%%", "%")
    program, *typed = shlex.split(typed_there)
    assert program.endswith("/bin/celery")
    assert typed[:3] == ["-A", "workers", "worker"]
    worker = celery.commands["worker"]
    worker.make_context("worker", typed[3:], obj=CLIContext(app=app, no_color=True, workdir=None))
    assert typed[typed.index("--hostname") + 1] == "7@%h"


def test_the_dispatchers_command_is_ours_and_what_it_remembers_lies_where_it_may_write() -> None:
    dispatcher = service("vecfleet-dispatcher.service")
    program, *typed = shlex.split(dispatcher["ExecStart"])
    assert program.endswith("/bin/vecfleet")
    assert vecfleet([*typed, "--help"]) == 0
    # All else is read-only to it
    assert dispatcher["ProtectSystem"] == "strict"
    assert dispatcher["Environment"] == f"VECFLEET_HOME=/var/lib/{dispatcher['StateDirectory']}"


@pytest.mark.parametrize("name", UNITS)
def test_what_is_stopped_has_the_time_that_the_pages_name(name: str) -> None:
    unit = service(name)
    assert unit["TimeoutStopSec"] == "45"
    assert unit["KillMode"] == "mixed"  # SIGTERM to the process alone: a pool of processes stops its own
    assert unit["Restart"] == "always"
