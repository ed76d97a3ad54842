"""A real fleet for many seeds: two workers, two dispatchers, Redis, Postgres and the emulator, each a process.

It stays up from seed to seed; what was killed is started again, what was frozen is thawed.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg

from orchestrator import schema
from orchestrator.bootstrap import Fleet
from orchestrator.embedded.ports import free_port
from orchestrator.embedded.postgres import Postgres
from orchestrator.embedded.process import Process
from orchestrator.embedded.redis import Redis
from tests.chaos.model import serving_model
from tests.chaos.schedule import DEADLINE_S, FRESHNESS_S, ROUTES_STALE_S
from tests.embedding_service import KEY
from tests.stories.emulated import Emulator
from tests.stories.launching import REPOSITORY
from vecfleet.settings import Settings

WORKERS, DISPATCHERS = 2, 2
# Calls answer in milliseconds here, so a lost worker, a hung call or a lag may cost a second or two and no more.
LEASE_S = 2.5
DIES_WITHIN_S = 60.0
FATAL = "Fatal Python error"
# Below those that connections get by themselves: one of these could have a port that a killed emulator wants back. The
# hundred ports that follow one are its indexes'.
EMULATOR_PORTS = range(20_000, 32_000, 101)


class ChaosFleet:
    """All of it. `with ChaosFleet(folder) as fleet:` and it is gone afterwards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.frozen: set[str] = set()
        self.processes: dict[str, Process] = {}
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None

    def __enter__(self) -> "ChaosFleet":
        with ExitStack() as ending:  # what has started stops, though what comes after it does not start
            self._start(ending)
            self._ending = ending.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    def _start(self, ending: ExitStack) -> None:
        self.postgres = ending.enter_context(Postgres(self.folder / "postgres", durable=False))
        self.redis = ending.enter_context(Redis(self.folder / "redis", durable=False))
        port = free_port(*random.sample(EMULATOR_PORTS, 20))
        self.emulator = Emulator(self.folder, "--data", str(self.folder / "emulator"), port=port)
        ending.callback(self.emulator.stop)
        self.model = ending.enter_context(serving_model())
        schema.upgrade(self.postgres.owner_url, self.postgres.client_url)
        own = {
            "DATABASE_URL": self.postgres.client_url,
            "REDIS_URL": self.redis.url,
            "PINECONE_API_KEY": "any",
            "PINECONE_CONTROLLER_HOST": self.emulator.address,
            "OPENAI_BASE_URL": self.model.url,
            "OPENAI_API_KEY": KEY,
            "VECFLEET_ROOT": str(self.folder),
            "VECFLEET_HOME": str(self.folder / "home"),
            "REQUEST_DEADLINE_SECONDS": str(DEADLINE_S),
            "LEASE_SECONDS": str(LEASE_S),
            "FRESHNESS_WAIT_SECONDS": str(FRESHNESS_S),
            "ROUTES_STALE_SECONDS": str(ROUTES_STALE_S),
            "ROUTES_CACHE_SECONDS": str(ROUTES_STALE_S / 2),
        }
        self._nursery = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONFAULTHANDLER": "1", **own},
            text=True,
            bufsize=1,
        )
        self.parts = Fleet(Settings(**{name.lower(): value for name, value in own.items()}))  # type: ignore[arg-type]
        ending.callback(self._end)
        self.revive()

    def _end(self) -> None:
        self.thaw_all()
        for name in self.processes:
            self.kill(name)
        self._end_nursery()
        self.parts.database.dispose()

    def _end_nursery(self) -> None:
        """With all that it forked: who interrupts may do so between a birth and our hearing of it."""
        with suppress(psutil.NoSuchProcess):
            nursery = psutil.Process(self._nursery.pid)
            nursery.suspend()
            for child in nursery.children():
                with suppress(psutil.NoSuchProcess):
                    child.kill()
        self._nursery.kill()
        self._nursery.wait(DIES_WITHIN_S)

    # Processes

    def revive(self) -> None:
        """Start whatever of the fleet does not run."""
        names = [f"worker{n + 1}" for n in range(WORKERS)] + [f"dispatcher{n + 1}" for n in range(DISPATCHERS)]
        for name in names:
            if name not in self.processes or not self.processes[name].alive():
                self.frozen.discard(name)
                self.processes[name] = self._launch(name)

    def _launch(self, name: str) -> Process:
        assert self._nursery.stdin is not None and self._nursery.stdout is not None
        log = self.folder / f"{name}.log"
        log.touch()
        self._nursery.stdin.write(f"{name}\t{log}\n")
        pid = int(self._nursery.stdout.readline())
        return Process(name, pid, time.time(), log)

    def kill(self, name: str) -> None:
        self._send(name, signal.SIGKILL)
        deadline = time.monotonic() + DIES_WITHIN_S
        while self.processes[name].alive():
            assert time.monotonic() < deadline, f"{name} does not die"
            time.sleep(0.005)

    def freeze(self, name: str) -> None:
        self.frozen.add(name)
        self._send(name, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        if name in self.frozen:
            self.frozen.discard(name)
            self._send(name, signal.SIGCONT)

    def thaw_all(self) -> None:
        for name in list(self.frozen):
            self.thaw(name)

    def _send(self, name: str, number: int) -> None:
        servers = {"emulator": self.emulator.process, "redis": self.redis.process}
        process = servers.get(name) or self.processes[name]
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)

    @property
    def is_whole(self) -> bool:
        """Say whether its servers run: what was killed of them did come back."""
        servers = (self.emulator.process, self.redis.process, self.postgres.process)
        return all(server is not None and server.alive() for server in servers)

    def crashed(self) -> list[str]:
        """Processes whose interpreter crashed, whoever noticed."""
        found = []
        for process in self.processes.values():
            _, fatal, where = process.log.read_text(errors="replace").partition(FATAL)
            if fatal:
                found.append(f"{process.name}: {fatal}{where[:2_000]}")
        return found

    # The services

    def kill_redis(self) -> None:
        """Dead, and back without anything in it."""
        assert self.redis.process is not None
        os.kill(self.redis.process.pid, signal.SIGKILL)
        self.redis.process.stop(DIES_WITHIN_S)
        self.redis.start()

    def kill_postgres(self) -> None:
        assert self.postgres.process is not None
        os.kill(self.postgres.process.pid, signal.SIGKILL)
        self.postgres.process.stop(DIES_WITHIN_S)
        self.postgres.start()

    def restart_postgres(self) -> None:
        self.postgres.stop()
        self.postgres.start()

    def copy_postgres(self) -> None:
        """Keep what it holds now for `set_postgres_back`."""
        self.postgres.stop()
        shutil.rmtree(self._older, ignore_errors=True)
        subprocess.run(["cp", "-a", self.postgres.home / "data", self._older], check=True)  # with its owner
        self.postgres.start()

    def set_postgres_back(self) -> None:
        """It holds what it held when it was copied, as after a restored backup, or a standby that lagged."""
        assert self.postgres.process is not None
        os.kill(self.postgres.process.pid, signal.SIGKILL)
        self.postgres.process.stop(DIES_WITHIN_S)
        shutil.rmtree(self.postgres.home / "data")
        shutil.move(self._older, self.postgres.home / "data")
        self.postgres.start()

    @property
    def _older(self) -> Path:
        return self.postgres.home / "older"

    def kill_emulator(self, last_words: Callable[[], object]) -> None:
        """Dead, and back with all it was told. `last_words` takes over its log while nobody can call it."""
        stopped = [name for name in self.processes if name not in self.frozen]
        for name in stopped:
            self._send(name, signal.SIGSTOP)
        try:
            last_words()
            self.emulator.kill()
            self.emulator.start()
        finally:
            for name in stopped:
                self._send(name, signal.SIGCONT)

    def sql(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """SQL of the test's own, over a connection of its own; once more where that was cut meanwhile."""
        try:
            return self._sql(statement, arguments)
        except psycopg.OperationalError:
            self._connection = None
            return self._sql(statement, arguments)

    def _sql(self, statement: str, arguments: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        if self._connection is None:
            self._connection = psycopg.connect(self.postgres.url.replace("+psycopg", ""), autocommit=True)
        cursor = self._connection.execute(statement, arguments)
        return cursor.fetchall() if cursor.description else []

    def holder(self, chance: random.Random) -> str | None:
        """A worker that holds a lease now."""
        owners = self.sql("SELECT DISTINCT lease_owner FROM batch WHERE lease_owner IS NOT NULL ORDER BY 1")
        pids = {int(owner.split(":")[1]) for (owner,) in owners}
        holding = sorted(name for name, process in self.processes.items() if process.pid in pids)
        return chance.choice(holding) if holding else None
