"""A process that could do no work says so when it starts, and takes nothing from any broker."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from celery.concurrency import prefork

from orchestrator import queue
from orchestrator.core.model import Wakeup
from orchestrator.core.states import BatchKind
from tests.stories.launching import REPOSITORY, type_out
from vecfleet.errors import BadInput
from workers.starting import require_all

COMMANDS = ("worker", "status", "purge -f", "inspect ping", "control shutdown", "call vecfleet.copy_batch", "flower")


@pytest.mark.parametrize("command", COMMANDS)
def test_without_an_address_no_command_of_celerys_looks_for_a_broker(command: str, tmp_path: Path) -> None:
    ended = type_out("-A", "workers", *command.split(), module="celery", env={"HOME": str(tmp_path)}, folder=tmp_path)
    assert ended.returncode != 0
    assert ended.stderr.startswith("REDIS_URL is not set\nnext: set it"), ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("workers", "purge -f"),
        ("workers.tasks", "inspect ping"),
        ("orchestrator.queue", "flower"),
        ("workers", "worker"),
    ],
)
def test_another_broker_than_the_fleets_is_refused_before_anything_is_sent(
    module: str, command: str, tmp_path: Path, redis_url: str
) -> None:
    # Given wake-ups of the fleet that the environment names
    fleet = queue.make_app(redis_url)
    queue.send(fleet, [Wakeup(1, 0, BatchKind.COPY, job_id=1, namespace="n", seq=1, of=1)])
    # When somebody types the address of another one
    ended = celery("-b", "redis://:a-password@127.0.0.1:1/0", "-A", module, *command.split(), at=tmp_path, of=redis_url)
    # Then neither is touched
    assert ended.returncode == 1
    assert ended.stderr.startswith("`-b` names another broker"), ended.stderr
    assert "\nnext: leave `-b` out" in ended.stderr
    assert "a-password" not in ended.stderr and "Traceback" not in ended.stderr
    assert queue.waiting(fleet) == 1


def test_the_fleets_own_broker_may_be_typed(tmp_path: Path, redis_url: str) -> None:
    ended = celery("-b", redis_url, "-A", "workers", "purge", "-f", at=tmp_path, of=redis_url)
    assert (ended.returncode, ended.stderr) == (0, "")


def celery(*words: str, at: Path, of: str) -> subprocess.CompletedProcess[str]:
    """Run Celery's command as typed beside the fleet of this Redis: what is loaded before has its app already."""
    typed = [sys.executable, "-m", "celery", *words]
    env = {"HOME": str(at), "PYTHONPATH": str(REPOSITORY), "REDIS_URL": of}
    return subprocess.run(typed, cwd=at, env=env, capture_output=True, text=True, check=False)


def test_a_worker_as_vecfleet_starts_it_loads_no_flower(tmp_path: Path) -> None:
    """Celery's command line does. A worker that has no address ends once all that it needs is loaded."""
    probe = """if True:
        import runpy, sys
        try:
            runpy.run_module("workers", run_name="__main__")
        finally:
            print([name for name in ("workers.tasks", "flower") if name in sys.modules])
    """
    env = {"HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}
    ended = subprocess.run([sys.executable, "-c", probe], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (1, "['workers.tasks']\n")
    assert ended.stderr.startswith("REDIS_URL is not set\nnext: set it"), ended.stderr


def test_an_app_without_an_address_connects_to_nobody() -> None:
    with (
        pytest.raises(BadInput, match="REDIS_URL is not set"),
        queue.make_app("unset://").connection_for_write() as app,
    ):
        app.connect()


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database_url: str, redis_url: str) -> Iterator[Path]:
    """The environment of a worker, whose folder this is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("DATABASE_URL", database_url)
    yield tmp_path
    logging.basicConfig(handlers=[], force=True)


@pytest.mark.usefixtures("fleet")
def test_a_worker_that_has_all_it_needs_begins() -> None:
    require_all("w1@here", {"logfile": None})


@pytest.mark.parametrize("named", ["pool", "pool_cls"])  # by Celery's command line, by its class
@pytest.mark.usefixtures("fleet")
def test_a_pool_of_greenlets_is_refused_before_anything_is_taken(named: str) -> None:
    class Greenlets:
        is_green = True

    with pytest.raises(SystemExit, match="does not run on greenlets"):
        require_all("w1@here", {named: Greenlets})


@pytest.mark.parametrize("typed", ["--time-limit 5", "--soft-time-limit 5", "--max-tasks-per-child 9"])
def test_a_limit_of_processes_is_refused_where_there_are_only_threads(
    typed: str, tmp_path: Path, database_url: str, redis_url: str
) -> None:
    env = {"HOME": str(tmp_path), "REDIS_URL": redis_url, "DATABASE_URL": database_url}
    ended = type_out("-A", "workers", "worker", *typed.split(), module="celery", env=env, folder=tmp_path)
    assert ended.returncode == 1
    option, _ = typed.split()
    assert ended.stderr.splitlines()[-2:] == [
        f"{option} limits processes, and this worker would have none",
        "next: leave it out, or add `-P prefork`; REQUEST_DEADLINE_SECONDS and LEASE_SECONDS limit threads",
    ]


@pytest.mark.usefixtures("fleet")
def test_a_limit_of_processes_is_taken_where_there_are_any() -> None:
    require_all("w1@here", {"time_limit": 5.0, "pool": prefork.TaskPool})


@pytest.mark.parametrize("option", ["queues", "exclude_queues"])
@pytest.mark.usefixtures("fleet")
def test_a_queue_that_nobody_sends_to_is_not_waited_at(option: str) -> None:
    require_all("w1@here", {option: ["copy", "control"]})
    with pytest.raises(SystemExit, match=r"there is no queue copi\nnext: give `-Q` and `-X` one of control, copy"):
        require_all("w1@here", {option: ["copy", "copi"]})


@pytest.mark.parametrize("missing", ["DATABASE_URL", "REDIS_URL"])
@pytest.mark.usefixtures("fleet")
def test_a_worker_without_an_address_ends_and_names_it(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.delenv(missing)
    monkeypatch.setenv("BROKER_URL", "amqp://rabbit")  # which takes the wake-ups, and keeps no pace
    with pytest.raises(SystemExit, match=f"(?s){missing} is not set\nnext: set it.*vecfleet up"):
        require_all("w1@here", {})


def test_a_worker_of_another_version_ends_and_a_detached_ones_log_says_why(fleet: Path, database_url: str) -> None:
    another = sa.create_engine(database_url)
    with another.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0001'"))
    another.dispose()
    with pytest.raises(SystemExit, match=r"(?s)is at revision 0001.*next: run `vecfleet migrate`"):
        require_all("w1@here", {"logfile": "%n.log"})
    assert "is at revision 0001" in (fleet / "w1.log").read_text()


@pytest.mark.usefixtures("fleet")
def test_a_job_table_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://fleet@127.0.0.1:1/none")
    require_all("w1@here", {})
