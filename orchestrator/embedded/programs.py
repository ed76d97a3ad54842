"""The fleet's own processes: the same commands here, in docker-compose.yml and typed on another machine."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Self

import psutil

from orchestrator.embedded.ports import claim_port
from orchestrator.embedded.process import DidNotStart, Process
from orchestrator.embedded.server import MACHINE
from vecfleet.settings import Settings

START_S = 180.0
"""Python and its imports take 1 to 2 s; a slow machine on which much else starts may need this."""
STOP_S = 15.0
"""A worker finishes its current batch. One that takes longer is killed: the lease expires, the batch runs again."""
ANSWER_S = 2.0
"""For one look at a health page; whoever is not done by then is asked again."""

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

# How Python, its libraries and the TLS of a connection are set up: names, and beginnings of names. They hold no key.
_PYTHON = (*MACHINE, "USER", "LOGNAME", "PYTHON*", "LC_*", "MALLOC_*", "SSL_*")
# How a process of the fleet reaches stores and databases: proxies, and what libpq reads for DATABASE_URL.
_NETWORK = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "GRPC_*", "PG*")
_QUEUE = ("redis_url", "broker_url")
_TELEMETRY = ("otel_exporter_otlp_endpoint", "otel_exporter_otlp_headers", "sentry_dsn")
_STORES = ("pinecone_api_key", "pgvector_url", "pgvector_other_url")
_MODELS = ("openai_api_key", "cohere_api_key", "voyage_api_key")
_FLEET = ("database_url", *_QUEUE, *_STORES, *_MODELS, *_TELEMETRY)


def _of_the_fleet(*secrets: str) -> tuple[str, ...]:
    """Return the variables of a process of the fleet: every setting, but of the secrets these and the fleet's alone."""
    hidden = Settings.secrets() - {*_FLEET, *secrets}
    settings = (name for field, names in Settings.variables().items() if field not in hidden for name in names)
    return (*_PYTHON, *_NETWORK, *settings)


class Program:
    """One process of ours. It is ready when it listens on its port; without a port, once it runs.

    With `health`, a path, it is ready once that is answered: for a process that listens before it is whole.

    Of `env`, and of our own environment behind it, it gets the variables that it `uses` (`PG*`: all that begin so).
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        state_dir: Path,
        env: Mapping[str, str],
        uses: Sequence[str],
        port: int | None = None,
        health: str | None = None,
    ) -> None:
        self.name = name
        self.port = port
        self.process: Process | None = None
        self.command = command
        self._log = state_dir / "logs" / f"{name}.log"
        self._env = env
        self._health = health
        self._uses = frozenset(uses)
        self._uses_all_of = tuple(name.removesuffix("*") for name in uses if name.endswith("*"))

    @property
    def environment(self) -> dict[str, str]:
        """Return what the process gets: no key but those that it uses."""
        every = {**os.environ, **self._env}
        return {
            name: value
            for name, value in every.items()
            if name.upper() in self._uses or name.startswith(self._uses_all_of)
        }

    def start(self, launched: Callable[[Process], object] = lambda _: None) -> Self:
        """Start it, and return once it is ready. `launched` gets the process at once, before it is ready."""
        self.launch(launched)
        self.wait_until_ready()
        return self

    def launch(self, launched: Callable[[Process], object]) -> None:
        self.process = Process.launch(
            self.name,
            self.command,
            log=self._log,
            cwd=Path.cwd(),
            env=self.environment,
            port=self.port,
        )
        launched(self.process)

    def wait_until_ready(self) -> None:
        assert self.process is not None, "it was launched"
        try:
            self.process.wait_until(self._ready, START_S)
        except DidNotStart:
            self.stop()
            raise

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
        listens = any(
            connection.status == psutil.CONN_LISTEN and connection.laddr.port == self.port for connection in sockets
        )
        return listens and (self._health is None or _answers(self.port, self._health))


def _answers(port: int, path: str) -> bool:
    """Say whether the server there answers well. A process that ends meanwhile cuts the line, and does not."""
    line = HTTPConnection("127.0.0.1", port, timeout=ANSWER_S)
    try:
        line.request("GET", path)
        return line.getresponse().status == HTTPStatus.OK
    except (OSError, HTTPException):
        return False
    finally:
        line.close()


def emulator(state_dir: Path, load: str | None, reads_lag_s: float, *, keep: bool) -> Program:
    """Make the Pinecone-compatible server; `load` names its first content. With `keep` its indexes outlive it."""
    port = claim_port(state_dir, "emulator", EMULATOR_PORT)
    command = [
        *(*PYTHON, "emulator", "--port", str(port), "--reads-lag", f"{reads_lag_s:g}"),
        *(("--load", load) if load else ()),
        *(("--data", str(state_dir / "emulator")) if keep else ()),
    ]
    env = {name: os.environ.get(name, value) for name, value in KEEPS_FREED_MEMORY.items()}
    health = "/_emulator/health"  # it takes its port first, and loads its indexes then: one of them may fail
    return Program("emulator", command, state_dir=state_dir, env=env, uses=_PYTHON, port=port, health=health)


def dispatcher(state_dir: Path, env: Mapping[str, str]) -> Program:
    command = [*PYTHON, "orchestrator", "dispatcher"]
    return Program("dispatcher", command, state_dir=state_dir, env=env, uses=_of_the_fleet("audit_key"))


def worker(state_dir: Path, env: Mapping[str, str], number: int, *, task_events: bool) -> Program:
    """Make a worker. With `task_events` Flower misses no task, the very first ones included."""
    options = ["--task-events"] if task_events else []
    command = [*PYTHON, "orchestrator", "worker", *options]
    uses = _of_the_fleet("texts_database_url", "supabase_service_role_key", "embedding_cache_key")
    return Program(f"{WORKER}{number}", command, state_dir=state_dir, env=env, uses=uses)


def flower(state_dir: Path, env: Mapping[str, str], port: int) -> Program:
    command = [*PYTHON, "celery", "-A", "orchestrator.queue", "flower"]
    uses = (*_PYTHON, *(name.upper() for name in _QUEUE), "WEB_URL", "FLOWER_*")
    return Program("flower", [*command, f"--port={port}"], state_dir=state_dir, env=env, uses=uses, port=port)


def web(state_dir: Path, env: Mapping[str, str], port: int) -> Program:
    """Make the server of the operator's page, the API and the metrics."""
    command = [*PYTHON, "orchestrator", "serve"]
    uses = _of_the_fleet("operator_token", "webhook_url")
    return Program("web", [*command, f"--port={port}"], state_dir=state_dir, env=env, uses=uses, port=port)
