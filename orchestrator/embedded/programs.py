"""The fleet's own processes: the same commands here, in docker-compose.yml and typed on another machine."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import psutil

from orchestrator.embedded.ports import claim_port
from orchestrator.embedded.process import DidNotStart, Process

START_S = 180.0
"""Python and its imports take 1 to 2 s; a slow machine on which much else starts may need this."""
STOP_S = 15.0
"""A worker finishes its current batch. One that takes longer is killed: the lease expires, the batch runs again."""

PYTHON = (sys.executable, "-P", "-m")
"""-P: a folder named `workers` or `migrations` in the user's current folder must not be taken for ours."""


WORKER = "worker-"
"""The beginning of every worker's name."""

EMULATOR_PORT = 5080
"""The port that its documentation names. The hundred ports after it are for its indexes."""
KEEPS_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(64 * 2**20)}
"""For glibc, in bytes: an answer of 3 MB goes where the last one was. Else each takes pages anew, which the system
clears first (docs/performance.md says what that cost).
"""
CANNOT_LISTEN = "Cannot listen on port"
"""The emulator's words when its port is taken."""


class Program:
    """One process of ours. It is ready when it listens on its port; without a port, once it runs."""

    def __init__(
        self, name: str, command: Sequence[str], *, state_dir: Path, env: Mapping[str, str], port: int | None = None
    ) -> None:
        self.name = name
        self.port = port
        self.process: Process | None = None
        self.command = command
        self._log = state_dir / "logs" / f"{name}.log"
        self._env = env

    def start(self, launched: Callable[[Process], object] = lambda _: None) -> Self:
        """Start it, and return once it is ready. `launched` gets the process at once, before it is ready."""
        self.process = Process.launch(
            self.name,
            self.command,
            log=self._log,
            cwd=Path.cwd(),
            env={**os.environ, **self._env},
            port=self.port,
        )
        launched(self.process)
        try:
            self.process.wait_until(self._ready, START_S)
        except DidNotStart:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop(STOP_S)
            self.process = None

    def _ready(self) -> bool:
        """Say whether this very process listens: another program may have taken the port first."""
        if self.port is None or self.process is None:
            return True
        try:
            sockets = psutil.Process(self.process.pid).net_connections("tcp")
        except psutil.Error:
            return False
        return any(
            connection.status == psutil.CONN_LISTEN and connection.laddr.port == self.port for connection in sockets
        )


def emulator(state_dir: Path, load: str | None, reads_lag_s: float, *, keep: bool) -> Program:
    """Make the Pinecone-compatible server; `load` names its first content. With `keep` its indexes outlive it."""
    port = claim_port(state_dir, "emulator", EMULATOR_PORT)
    command = [
        *(*PYTHON, "emulator", "--port", str(port), "--reads-lag", f"{reads_lag_s:g}"),
        *(("--load", load) if load else ()),
        *(("--data", str(state_dir / "emulator")) if keep else ()),
    ]
    return Program("emulator", command, state_dir=state_dir, env={**KEEPS_FREED_MEMORY, **os.environ}, port=port)


def dispatcher(state_dir: Path, env: Mapping[str, str]) -> Program:
    return Program("dispatcher", [*PYTHON, "orchestrator", "dispatcher"], state_dir=state_dir, env=env)


def worker(state_dir: Path, env: Mapping[str, str], number: int, *, task_events: bool) -> Program:
    """Make a worker. With `task_events` Flower misses no task, the very first ones included."""
    options = ["--task-events"] if task_events else []
    return Program(f"{WORKER}{number}", [*PYTHON, "orchestrator", "worker", *options], state_dir=state_dir, env=env)


def flower(state_dir: Path, env: Mapping[str, str], port: int) -> Program:
    settings = Path(__file__).parent.parent / "flower_settings.py"
    command = [*PYTHON, "celery", "-A", "orchestrator.queue", "flower", f"--conf={settings}"]
    return Program("flower", [*command, f"--port={port}"], state_dir=state_dir, env=env, port=port)


def web(state_dir: Path, env: Mapping[str, str], port: int) -> Program:
    """Make the server of the operator's page, the API and the metrics."""
    command = [*PYTHON, "orchestrator", "serve"]
    return Program("web", [*command, f"--port={port}"], state_dir=state_dir, env=env, port=port)
