"""Real servers for the tests: one private Postgres, one private Redis, one emulator for each pytest process.

With pytest-xdist each of its processes has servers of its own, so no test waits for another's. A server that cannot
start fails the tests that need it: a suite that skips them would prove nothing.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import httpx
import psycopg
import pytest
import redis
from hypothesis import HealthCheck, settings
from psycopg import sql

from orchestrator.embedded import Postgres, Redis
from orchestrator.embedded.ports import free_port, listening
from orchestrator.embedded.postgres import FLEET
from orchestrator.embedded.process import Process
from orchestrator.embedded.server import Server

REPOSITORY = Path(__file__).resolve().parent.parent
TEMPLATE = "migrated"
EMULATOR_START_S = 120.0  # takes under 1 s; a loaded two-core machine may need a hundred times that
LOOKS_FOR_S = 60.0
DROP_S = 60.0  # for a session that is ended to be gone

_numbers = count(1)

# As root a server is started as another account, by a fork, in whose child gRPC would end it before it is a server.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

# A shell starts what runs in its background with SIGINT ignored, and so would every process be that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in each run, here and in CI; `--hypothesis-profile=default` looks for others.
# How long an example takes says something of the machine, not of our code.
settings.register_profile("repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("repeatable")

# Of every request that names no time-out of its own: httpx's five seconds are few for a machine that does much else.
for _kind in ("connect", "read", "write", "pool"):
    setattr(httpx._config.DEFAULT_TIMEOUT_CONFIG, _kind, 60.0)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Name a failure when it happens: a run that is cut off before its end has said what went wrong."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        reason = str(report.longrepr).strip().splitlines()[-1]
        sys.__stderr__.write(f"\nFAILED {report.nodeid} ({report.when}): {reason}\n")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let each process of pytest begin with its share of the stories, longest first, and go on with neighbours.

    xdist gives each an equal part of the list, and who is done first takes over from another's end: with short tests
    there, nobody waits long for the last.
    """
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    stories = sorted((item for item in items if item.get_closest_marker("story")), key=_time_limit, reverse=True)
    others = [item for item in items if not item.get_closest_marker("story")]
    shares = [len(others) * number // processes for number in range(processes + 1)]
    items[:] = []
    for number in range(processes):
        items += stories[number::processes] + others[shares[number] : shares[number + 1]]


def _time_limit(item: pytest.Item) -> float:
    own = item.get_closest_marker("timeout")
    return float(own.args[0]) if own is not None else 0.0


# Reads from a pipe that only this process of pytest holds open: it ends when that process does, whatever ended it.
# Postgres ends at once by SIGQUIT. What was started in the background ignores that signal, and is killed.
_GUARD = """
trap "" INT TERM HUP
read -r _
kill -QUIT "$1"
tries=50
while [ $tries -gt 0 ] && kill -0 "$1" 2>/dev/null; do sleep 0.1; tries=$((tries - 1)); done
kill -KILL "$1" 2>/dev/null
[ -z "$2" ] || rm -rf "$2"
"""


@contextmanager
def guarded(pid: int, files: Path | None = None) -> Iterator[None]:
    """End a server, and remove its files, also if this process of pytest is killed and can end nothing."""
    guard = subprocess.Popen(["sh", "-c", _GUARD, "guard", str(pid), str(files or "")], stdin=subprocess.PIPE)
    try:
        yield
    finally:
        guard.kill()
        guard.wait()


@contextmanager
def served(server: Server) -> Iterator[None]:
    with server:
        assert server.process is not None, "it has just started"
        with guarded(server.process.pid, server.home):
            yield


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    server = Postgres(tmp_path_factory.mktemp("postgres"), durable=False)
    with served(server):
        yield server


@pytest.fixture(scope="session")
def postgres_url(postgres: Postgres) -> str:
    """The server's own database: without our tables, shared by all tests."""
    return postgres.url


@pytest.fixture
def empty_database_url(postgres: Postgres) -> Iterator[str]:
    """A database of this test's own, without our tables."""
    yield from _database(postgres, "template1")


@pytest.fixture
def database_url(postgres: Postgres, migrated_template: str) -> Iterator[str]:
    """A database of this test's own, with the job table at its newest revision."""
    yield from _database(postgres, migrated_template)


@pytest.fixture
def fleet_database_url(postgres: Postgres, database_url: str) -> str:
    """The same database for the role that workers, dispatcher and page have, which owns nothing."""
    return postgres.url_of(database_url.rpartition("/")[2], FLEET)


@pytest.fixture(scope="session")
def migrated_template(postgres: Postgres) -> str:
    from orchestrator import schema

    _execute(postgres, "CREATE DATABASE {}", TEMPLATE)
    schema.upgrade(postgres.url_of(TEMPLATE), postgres.url_of(TEMPLATE, FLEET))
    return TEMPLATE


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    server = Redis(tmp_path_factory.mktemp("redis"), durable=False)
    with served(server):
        yield server


@pytest.fixture
def redis_url(redis_server: Redis, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty Redis. What only looks at it gives up after half a second elsewhere, and on a busy machine not here."""
    for patience in ("telemetry.counters._PATIENCE_S", "pace_view._PATIENCE_S", "cli.watching._BROKER_PATIENCE_S"):
        monkeypatch.setattr(f"orchestrator.{patience}", LOOKS_FOR_S)
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture(scope="session")
def emulator_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    process = Process.launch(
        "emulator",
        [sys.executable, "-m", "emulator", "--port", str(port)],
        log=tmp_path_factory.mktemp("emulator") / "emulator.log",
        cwd=REPOSITORY,
        env=os.environ,
        port=port,
    )
    try:
        with guarded(process.pid):
            process.wait_until(lambda: listening(port), EMULATOR_START_S)
            yield f"http://127.0.0.1:{port}"
    finally:
        process.stop(patience_s=10)


@pytest.fixture
def emulator(emulator_server: str) -> str:
    """The address of an emulator without indexes, faults or calls on its log."""
    httpx.post(f"{emulator_server}/_emulator/reset").raise_for_status()
    return emulator_server


def _database(postgres: Postgres, template: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    _execute(postgres, "CREATE DATABASE {} TEMPLATE {}", name, template)
    yield postgres.url_of(name)
    _drop(postgres, name)


def _drop(postgres: Postgres, name: str) -> None:
    """Postgres itself waits five seconds for the sessions that it ends."""
    deadline = time.monotonic() + DROP_S
    while True:
        try:
            return _execute(postgres, "DROP DATABASE {} WITH (FORCE)", name)
        except psycopg.errors.ObjectInUse:
            if time.monotonic() > deadline:
                raise


def _execute(postgres: Postgres, statement: str, *names: str) -> None:
    address = postgres.url_of("postgres").replace("+psycopg", "")
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
