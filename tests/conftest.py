"""Real servers for the tests: one private Postgres, one private Redis, one emulator for each pytest process.

With pytest-xdist each of its processes has servers of its own, so no test waits for another's. A server that cannot
start fails the tests that need it: a suite that skips them would prove nothing.
"""

import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import count, groupby
from operator import itemgetter
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
import redis
from hypothesis import HealthCheck, settings
from psycopg import sql

from orchestrator.embedded.ports import free_port, listening
from orchestrator.embedded.postgres import ADMINISTRATOR, FLEET, OWNER, Postgres
from orchestrator.embedded.process import Process
from orchestrator.embedded.redis import Redis
from orchestrator.embedded.server import Server
from tests import shared

REPOSITORY = Path(__file__).resolve().parent.parent
COLLECTIONS = 20_000, 5, 2  # at Python's own 700, 10, 10 looking for garbage takes a fifth of some tests
TEMPLATE = "migrated"
EMULATOR_START_S = 120.0  # takes under 1 s; a loaded two-core machine may need a hundred times that
LOOKS_FOR_S = 60.0
MEMORY, ROOM_BYTES = Path("/dev/shm"), 4 * 2**30  # in containers it is often too small
ERRORS_SHOWN = 40  # lines of each failure, at once
STORIES_END = 0.8  # where in a process's part of the tests its last story stands
DROP_S = 60.0  # for a session that is ended to be gone

Administrator = psycopg.Connection[tuple[object, ...]]

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

shared.share()

# Of every request that names no time-out of its own: httpx's five seconds are few for a machine that does much else.
for _kind in ("connect", "read", "write", "pool"):
    setattr(httpx._config.DEFAULT_TIMEOUT_CONFIG, _kind, 60.0)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect without looking for garbage: modules and tests stay, and are passed over for the rest of the run."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.set_threshold(*COLLECTIONS)
        gc.freeze()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Tell a failure when it happens: a run that is cut off before its end has said what went wrong."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        lines = str(report.longrepr).strip().splitlines()
        errors = [line for line in lines if line.startswith("E ")][:ERRORS_SHOWN]
        told = "\n".join([f"FAILED {report.nodeid} ({report.when}): {lines[-1]}", *errors])
        sys.__stderr__.write(f"\n{told}\n")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each process of pytest its share of the stories, longest first, one after every few modules of the others.

    A story waits for most of its time, and other tests for none: so there is always something to do for each processor.
    xdist gives each an equal part of the list, and who is done first takes over from another's end: with short tests
    there, nobody waits long for the last.
    """
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    stories = sorted((item for item in items if item.get_closest_marker("story")), key=_time_limit, reverse=True)
    others = [item for item in items if not item.get_closest_marker("story")]
    shares = [len(others) * number // processes for number in range(processes + 1)]
    items[:] = []
    for number in range(processes):
        items += _mixed(stories[number::processes], others[shares[number] : shares[number + 1]])


def _mixed(stories: list[pytest.Item], others: list[pytest.Item]) -> list[pytest.Item]:
    modules = [list(module) for _, module in groupby(others, key=lambda item: item.path)]
    places = [(STORIES_END * number / len(stories), [story]) for number, story in enumerate(stories)]
    places += [(number / len(modules), module) for number, module in enumerate(modules)]
    return [item for _, items in sorted(places, key=itemgetter(0)) for item in items]


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
    _keep_in_memory(server.place)
    with served(server):
        yield server


def _keep_in_memory(place: Path) -> None:
    """Lead a server's folder to memory where there is room: a database is a thousand files, and each test has one."""
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM_BYTES:
        home = Path(tempfile.mkdtemp(prefix="vecfleet-tests-", dir=MEMORY))
        home.chmod(0o711)  # the server's account passes through
        place.symlink_to(home)


@pytest.fixture(scope="session")
def administrator(postgres: Postgres) -> Iterator[Administrator]:
    """A session of the superuser, which makes and drops the databases of all tests."""
    address = postgres.url_of("postgres").replace("+psycopg", "")
    with psycopg.connect(address, autocommit=True) as session:
        # These passwords are random: to hash them 4,096 times at each sign-in guards nothing.
        session.execute("SET scram_iterations = 1")
        for role in (ADMINISTRATOR, OWNER, FLEET):
            password = urlsplit(postgres.url_of("postgres", role)).password
            statement = sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), password)
            session.execute(statement)
        yield session


@pytest.fixture(scope="session")
def postgres_url(postgres: Postgres) -> str:
    """The server's own database: without our tables, shared by all tests."""
    return postgres.url


@pytest.fixture
def empty_database_url(postgres: Postgres, administrator: Administrator) -> Iterator[str]:
    """A database of this test's own, without our tables."""
    yield from _database(postgres, administrator, "template1")


@pytest.fixture
def database_url(postgres: Postgres, administrator: Administrator, migrated_template: str) -> Iterator[str]:
    """A database of this test's own, with the job table at its newest revision."""
    yield from _database(postgres, administrator, migrated_template)


@pytest.fixture
def fleet_database_url(postgres: Postgres, database_url: str) -> str:
    """The same database for the role that workers, dispatcher and page have, which owns nothing."""
    return postgres.url_of(database_url.rpartition("/")[2], FLEET)


@pytest.fixture(scope="session")
def migrated_template(postgres: Postgres, administrator: Administrator) -> str:
    from orchestrator import schema

    _execute(administrator, "CREATE DATABASE {}", TEMPLATE)
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
    places = ("telemetry.counters._PATIENCE_S", "pace_view._PATIENCE_S")
    for patience in (*places, "cli.watching._BROKER_PATIENCE_S"):
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


def _database(postgres: Postgres, administrator: Administrator, template: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    # Without fsync a copy of files costs a fifth of what Postgres does otherwise, which logs each page.
    _execute(administrator, "CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy", name, template)
    yield postgres.url_of(name)
    _drop(administrator, name)


def _drop(administrator: Administrator, name: str) -> None:
    """Postgres itself waits five seconds for the sessions that it ends."""
    deadline = time.monotonic() + DROP_S
    while True:
        try:
            return _execute(administrator, "DROP DATABASE {} WITH (FORCE)", name)
        except psycopg.errors.ObjectInUse:
            if time.monotonic() > deadline:
                raise


def _execute(administrator: Administrator, statement: str, *names: str) -> None:
    administrator.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
