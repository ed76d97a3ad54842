"""Flower as the fleet runs it: on the loopback address, behind a password, unable to change anything, and readable."""

import runpy
import sys
from collections.abc import Iterator
from copy import copy
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from celery.events.state import State, Task

from orchestrator.embedded import programs
from orchestrator.embedded.ports import claim_port
from orchestrator.embedded.programs import Program

SETTINGS = Path(programs.__file__).parent.parent / "flower_settings.py"
ACCOUNT = ("operator", "secret")


@pytest.fixture
def flower(redis_url: str, tmp_path: Path) -> Iterator[Program]:
    env = {"REDIS_URL": redis_url, "FLOWER_USER": ACCOUNT[0], "FLOWER_PASSWORD": ACCOUNT[1]}
    program = programs.flower(tmp_path, env, claim_port(tmp_path, "flower"))
    yield program.start()
    program.stop()


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("FLOWER_PASSWORD", "secret")
    return runpy.run_path(str(SETTINGS))


def test_it_asks_for_the_password_changes_nothing_and_stays_on_this_machine(flower: Program) -> None:
    address = f"http://127.0.0.1:{flower.port}"
    # Given a stranger, nothing is shown
    assert httpx.get(f"{address}/workers").status_code == 401
    assert httpx.get(f"{address}/api/tasks").status_code == 401
    # Given the operator, the pages are shown, and nothing can be changed from them
    assert httpx.get(f"{address}/tasks", auth=ACCOUNT).status_code == 200
    assert httpx.post(f"{address}/api/task/revoke/some-task", auth=ACCOUNT).status_code in (403, 404, 405)
    # And it listens here only
    assert flower.process is not None
    sockets = psutil.Process(flower.process.pid).net_connections("inet")
    assert {socket.laddr.ip for socket in sockets if socket.status == psutil.CONN_LISTEN} == {"127.0.0.1"}


def test_without_a_password_one_is_made_and_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FLOWER_PASSWORD", raising=False)
    [account] = runpy.run_path(str(SETTINGS))["basic_auth"]
    user, _, password = account.partition(":")
    assert len(password) >= 16
    assert f"user {user}, password {password}" in capsys.readouterr().err


KWARGS = "{'job': 17, 'namespace': 'creator_a_twin_b', 'batch': '3 of 40'}"


def test_a_task_reads_as_job_namespace_and_batch(settings: dict[str, Any]) -> None:
    assert settings["format_task"](Task(kwargs=KWARGS)).kwargs == "job 17 · batch 3 of 40 · creator_a_twin_b"
    whole = Task(kwargs=KWARGS.replace("3 of 40", "whole"))
    assert settings["format_task"](whole).kwargs == "job 17 · whole namespace · creator_a_twin_b"


def test_a_failure_that_was_run_again_since_says_so_and_asks_for_nothing_more(settings: dict[str, Any]) -> None:
    state = State()
    failed = "Conflict: it is locked; parked: `vecfleet retry 17 failed --batch 38` once its reason is gone"
    ends = {
        "j17.n.copy3.b38.g0": ("failed", failed),
        "j17.n.copy3.b38.g1": ("succeeded", "copied 5, 0.1 s"),
        "j17.n.copy4.b39.g0": ("failed", failed),
    }
    for clock, (uuid, (end, result)) in enumerate(ends.items()):
        event = {"type": f"task-{end}", "uuid": uuid, "kwargs": KWARGS, "result": result, "clock": clock}
        state.event(event | {"root_id": uuid, "hostname": "w", "timestamp": 1.0, "local_received": 1.0})
    shown = {uuid: settings["format_task"](copy(task)) for uuid, task in state.tasks.items()}
    assert [task.result for task in shown.values()] == [
        "run again since; Conflict: it is locked; parked",
        "copied 5, 0.1 s",
        failed,
    ]
    # And nothing of Flower's own objects
    assert all(task.root is None and task.children is None for task in shown.values())


def test_a_task_says_how_many_batches_its_worker_went_on_with(settings: dict[str, Any]) -> None:
    state = State()
    for number, uuid in enumerate(("first", "second", "third")):
        parent = {"parent_id": "first"} if number else {}
        event = {"type": "task-succeeded", "uuid": uuid, "kwargs": KWARGS, "result": "copied 5, 0.1 s", "clock": number}
        state.event(event | parent | {"hostname": "w", "timestamp": 1.0, "local_received": 1.0})
    shown = {uuid: settings["format_task"](copy(task)).result for uuid, task in state.tasks.items()}
    assert shown == {
        "first": "copied 5, 0.1 s; went on with 2 more batches",
        "second": "copied 5, 0.1 s",
        "third": "copied 5, 0.1 s",
    }


def test_a_task_leads_to_its_batch_on_the_page_and_offers_what_is_to_be_found_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Flower makes links of the tasks that a task belongs to, and of nothing else."""
    monkeypatch.setenv("FLOWER_PASSWORD", "secret")
    sent = Task(uuid="j17.creator_a_twin_b.copy3.b1042.g0", kwargs=KWARGS)
    monkeypatch.setenv("WEB_URL", "http://page.example/")
    format_task = runpy.run_path(str(SETTINGS))["format_task"]
    links = {}
    for sent.state in ("STARTED", "SUCCESS", "RETRY", "FAILURE"):
        links[sent.state] = format_task(copy(sent)).root_id
    assert links == {
        "STARTED": "batch 1042 of job 17",
        "SUCCESS": "batch 1042 of job 17",
        "RETRY": "batch 1042 of job 17: why",
        "FAILURE": "batch 1042 of job 17: why, and Retry",
    }
    monkeypatch.setenv("WEB_URL", "")
    assert runpy.run_path(str(SETTINGS))["format_task"](copy(sent)).root_id is None


@pytest.mark.parametrize("kwargs", ["{}", "", None, "{'job': 1}", "not python"])
def test_a_task_that_is_not_ours_is_shown_as_it_came(settings: dict[str, Any], kwargs: str | None) -> None:
    assert settings["format_task"](Task(kwargs=kwargs)).kwargs == kwargs


def test_every_name_in_the_file_is_one_that_flower_knows(settings: dict[str, Any]) -> None:
    # Given Flower's own list of options
    import flower.options as options

    known = set(options.options.as_dict())
    # Then each of ours is on it, and no import is mistaken for one
    ours = {name for name in settings if not name.startswith("_")}
    imported = {
        "ast",
        "re",
        "secrets",
        "sys",
        "Task",
        "Settings",
        "BaseHandler",
        "authenticated",
        "handlers",
        "went_on",
        "after_another_run",
    }
    assert ours - known == imported
    assert sys.modules["flower.options"] is options
