"""Everything the fleet needs on one machine, started, watched, and stopped to the last process.

The servers that the settings name (DATABASE_URL, REDIS_URL, PINECONE_API_KEY) are used; the missing ones are started.
Whatever is killed, `down` finds the rest: each process is on record once it exists, by pid and time of birth.
"""

import secrets
import shutil
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any, Protocol, Self

from sqlalchemy.exc import DBAPIError

from orchestrator import schema
from orchestrator.embedded import programs, scaling
from orchestrator.embedded.addresses import EMULATOR_KEY, is_here
from orchestrator.embedded.ports import claim_port, forget_port, free_port
from orchestrator.embedded.postgres import Postgres
from orchestrator.embedded.process import DidNotStart, Process
from orchestrator.embedded.record import Restart, StackRecord, only_supervisor
from orchestrator.embedded.redis import Redis
from orchestrator.embedded.sealing import AUDIT_KEY, audit_key
from orchestrator.embedded.server import Server
from orchestrator.ledger import leasing
from orchestrator.ledger.database import Database
from orchestrator.services import lost_commits
from vecfleet.errors import Refused, Unreachable
from vecfleet.settings import Settings

MAX_RESTARTS = 5
"""For one process in the life of its stack: one or two crashes are bad luck, more have a cause that remains."""

WATCH_S = 0.5
"""Seconds until a death is noticed: no later than the dispatcher would notice its effect."""

STOP_S = 30.0
"""As long as the slowest server may take: Postgres and its checkpoint on a slow disk."""

SUPERVISOR_STOP_S = 90.0
"""A supervisor stops its workers, then its servers: longer than both may take."""

PAST_THE_LAG_S = 1.0
"""Seconds a difference must last beyond the lag of the stack's own emulator before it counts."""

ROUTES_STALE_S, ROUTES_CACHE_S = 1.0, 0.5
"""Seconds, beside the stack's own emulator: all clients of its routes are on this machine, and ask again soon."""

PORT_TRIES = 5
"""For the emulator: every stack of this machine tries the same usual port."""


class Part(Protocol):
    """A server or a program of the stack."""

    port: int | None
    process: Process | None

    @property
    def name(self) -> str: ...
    def start(self, launched: Callable[[Process], object] = ...) -> Any: ...
    def stop(self) -> None: ...


@dataclass
class Stack:
    """The private servers and, where asked for, the emulator, the dispatcher, workers, the page and Flower.

    `with Stack(folder, workers=2) as stack: stack.environment` names all that a client needs. One stack a folder: a
    second is refused, and the remains of a killed one are stopped first. Leaving the block stops everything, and with
    `durable=False` erases the data. After a kill, `down` stops the rest.
    """

    state_dir: Path
    workers: int = 0
    dispatcher: bool = False
    web: bool = False
    flower: bool = False
    emulator: bool = False
    load: str | None = None
    """The emulator's first content."""
    reads_lag_s: float = 0.0
    """Seconds by which the emulator's reads lag behind its writes."""
    durable: bool = True
    settings: Settings = field(default_factory=Settings.load)
    """Names the user's own services, which are used instead of ours."""
    tell: Callable[[str], object] = lambda _: None
    """Gets a sentence for each event while the stack is watched."""
    environment: dict[str, str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.state_dir = self.state_dir.absolute()
        self._servers: list[Part] = []
        self._fleet, self._looks = list[programs.Program](), list[programs.Program]()
        self._held = ExitStack()
        self._deaths: Counter[str] = Counter()
        self._record = StackRecord(Process.current("supervisor"), self.durable)
        self._recording = Lock()

    def start(self) -> Self:
        """Start everything. When it returns, everything runs; when it raises, nothing runs."""
        self.begin()
        try:
            self.complete()
        except BaseException:
            self.stop()
            raise
        return self

    def begin(self) -> None:
        """Start the servers, then the dispatcher and workers without waiting for them. When it raises, nothing runs."""
        with ExitStack() as held:
            held.enter_context(only_supervisor(self.state_dir))
            clear_leftovers(self.state_dir)
            if not self.durable and (self.state_dir / Postgres.name).exists():
                raise _holds_lasting_data(self.state_dir)
            self._held = held.pop_all()
        try:
            self._write(self._record)
            with ThreadPoolExecutor(1) as beside:
                vectors = beside.submit(self._vector_database)  # an emulator takes as long to load as all the rest
                self._start_servers()
                if self.dispatcher or self.workers or self.web:
                    self._prepare_job_table()
                self.environment |= vectors.result()
            self._launch_fleet()
        except BaseException:
            self.stop()
            raise

    def launch_looks(self) -> None:
        """Start the page and Flower without waiting for them, unless they were started before."""
        while self._looks:
            self._launch(self._looks.pop(0))

    def complete(self) -> None:
        """Return once everything runs."""
        self.launch_looks()
        for program in self._fleet:
            program.wait_until_ready()
        self._write(replace(self._record, ready=True, environment=self.environment))

    def watch(self) -> None:
        """Restart processes that die, until interrupted. Raises DidNotStart if one dies too often; the rest runs on."""
        while True:
            for part in (*self._servers, *self._fleet):
                if part.process is None or not part.process.alive():
                    self._restart(part)
            self._scale()
            time.sleep(WATCH_S)

    def stop(self) -> None:
        """Stop the fleet, then the servers: they must still be there for the fleet's last writes."""
        for parts in (self._fleet, self._servers):
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda part: part.stop(), parts))
        with self._held:
            _forget(self.state_dir, durable=self.durable)
            _remove_if_empty(self.state_dir)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start_servers(self) -> None:
        for server, own in ((Postgres, self.settings.database_url), (Redis, self.settings.redis_url)):
            self.environment[server.variable] = own.get_secret_value() if own else self._serve(server)
        if self.settings.pgvector_url:
            self.environment["PGVECTOR_URL"] = self.settings.pgvector_url.get_secret_value()
        else:
            ours = self.postgres
            self.environment |= {"PGVECTOR_URL": ours.vectors_url()} if ours else {}

    def _vector_database(self) -> dict[str, str]:
        """Return what leads to the user's vector database, or else to the emulator, which it starts if there is one."""
        if self.settings.pinecone_api_key:
            host = self.settings.pinecone_controller_host
            key = {"PINECONE_API_KEY": self.settings.pinecone_api_key.get_secret_value()}
            return key | ({"PINECONE_CONTROLLER_HOST": host} if host else {})
        if not self.emulator:
            return {}
        address = f"http://127.0.0.1:{self._begin_emulator().port}"
        return {"PINECONE_API_KEY": EMULATOR_KEY, "PINECONE_CONTROLLER_HOST": address, **self._waits()}

    def _waits(self) -> dict[str, str]:
        """Return the waits that suit the stack's own emulator. The user's win; the defaults are Pinecone's."""
        cache_s = self._chosen("routes_cache_seconds", ROUTES_CACHE_S)
        waits = {
            "FRESHNESS_WAIT_SECONDS": self._chosen("freshness_wait_seconds", self.reads_lag_s + PAST_THE_LAG_S),
            "ROUTES_CACHE_SECONDS": cache_s,
            "ROUTES_STALE_SECONDS": self._chosen("routes_stale_seconds", max(ROUTES_STALE_S, cache_s)),
        }
        return {name: f"{seconds:g}" for name, seconds in waits.items()}

    def _chosen(self, setting: str, otherwise: float) -> float:
        """Take the user's choice. A default, which a copy of `.env.example` names, suits Pinecone alone."""
        chosen, usual = float(getattr(self.settings, setting)), float(Settings.model_fields[setting].default)
        return chosen if setting in self.settings.model_fields_set and chosen != usual else otherwise

    def _begin_emulator(self) -> programs.Program:
        """Start the emulator. Two stacks that start at once both see its usual port free: the second takes another."""
        for tries_left in reversed(range(PORT_TRIES)):
            emulator = programs.emulator(self.state_dir, self.load, self.reads_lag_s, keep=self.durable)
            try:
                self._begin(emulator)
                break
            except DidNotStart as failure:
                if not tries_left or programs.CANNOT_LISTEN not in failure.message:
                    raise
                self._servers.remove(emulator)
                forget_port(self.state_dir, emulator.name)
        return emulator

    def _serve(self, kind: type[Server]) -> str:
        server = kind(self.state_dir, durable=self.durable)
        self._begin(server)
        return server.client_url

    def _launch_fleet(self) -> None:
        if self.flower:
            password = self.settings.flower_password
            flower_port = self._port("flower", "flower_port", self.settings.flower_port)
            self.environment |= {
                "FLOWER_URL": f"http://127.0.0.1:{flower_port}",
                "FLOWER_USER": self.settings.flower_user,
                "FLOWER_PASSWORD": password.get_secret_value() if password else secrets.token_urlsafe(16),
            }
        if self.web:
            token = self.settings.operator_token
            web_port = self._port("web", "api_port", self.settings.api_port)
            self.environment |= {
                "WEB_URL": f"http://127.0.0.1:{web_port}",
                "OPERATOR_TOKEN": token.get_secret_value() if token else secrets.token_urlsafe(16),
            }
        if self.dispatcher:
            self._launch(programs.dispatcher(self.state_dir, self._with_links()))
        for number in range(1, self.workers + 1):
            self._launch(self._worker(number))
        if self.web:
            self._looks.append(programs.web(self.state_dir, self.environment, web_port))
        if self.flower:
            self._looks.append(programs.flower(self.state_dir, self._with_links(), flower_port))

    def _with_links(self) -> dict[str, str]:
        """Return the environment of a process that leads people to the page: where they find it, as behind a proxy."""
        named = self.settings.web_url
        return self.environment | ({"WEB_URL": named} if named and not is_here(named) else {})

    def _prepare_job_table(self) -> None:
        if ours := self.postgres:
            schema.upgrade(ours.owner_url, ours.client_url)
        else:
            schema.upgrade_by(self.settings)
        if self.settings.database_url is None:
            self.environment["AUDIT_KEY"] = audit_key(self.state_dir, self.environment["DATABASE_URL"])
        elif self.settings.audit_key:
            self.environment["AUDIT_KEY"] = self.settings.audit_key.get_secret_value()

    @property
    def postgres(self) -> Postgres | None:
        """Return the private Postgres, or None if it is the user's."""
        return next((server for server in self._servers if isinstance(server, Postgres)), None)

    def _worker(self, number: int) -> programs.Program:
        return programs.worker(self.state_dir, self.environment, number, task_events=self.flower)

    def _port(self, name: str, setting: str, chosen: int) -> int:
        """Return the configured port if it is free; without one, any: the default would clash with a second stack's."""
        if setting in self.settings.model_fields_set:
            return free_port(chosen)
        return claim_port(self.state_dir, name)

    def _begin(self, server: Part) -> None:
        self._servers.append(server)
        server.start(self._launched)

    def _launch(self, program: programs.Program) -> None:
        self._fleet.append(program)
        program.launch(self._launched)

    def _scale(self) -> None:
        """Start or stop workers until as many run as were asked for."""
        wanted = scaling.asked(self.state_dir)
        if wanted is None or wanted == self.workers:
            return
        self.tell(f"{wanted} workers are wanted; {self.workers} run.")
        for number in range(self.workers + 1, wanted + 1):
            self._launch(self._worker(number))
        for part in [member for member in self._fleet if member.name.startswith(programs.WORKER)][wanted:]:
            part.stop()
            self._fleet.remove(part)
        self.workers = wanted

    def _restart(self, part: Part) -> None:
        reason = part.process.ending() if part.process else "while starting"
        if part.process is not None and part.name.startswith(programs.WORKER):
            self._shorten_leases(part.process)
        self._deaths[part.name] += 1
        if self._deaths[part.name] > MAX_RESTARTS:
            raise DidNotStart(
                f"{part.name} stopped {reason} and was started again {MAX_RESTARTS} times before.",
                next_step=f"read its log in {self.state_dir / 'logs'}, then `vecfleet up` again",
            )
        self.tell(f"{part.name} stopped {reason}; starting it again ({self._deaths[part.name]} of {MAX_RESTARTS}).")
        restart = Restart(datetime.now(UTC).isoformat(timespec="seconds"), part.name, reason)
        self._write(replace(self._record, restarts=(*self._record.restarts, restart)))
        address = part.port
        try:
            part.start(self._launched)
        except DidNotStart as failure:
            self.tell(failure.message)
            return
        if part.port != address:
            raise DidNotStart(
                f"{part.name} came back on port {part.port}: another program took {address} while it was down.",
                next_step="`vecfleet up` again: everything else must learn the new address",
            )

    def _shorten_leases(self, dead: Process) -> None:
        """Shorten the leases of a dead worker, so that its batches run again sooner."""
        database = Database(self.environment["DATABASE_URL"], pool_size=1)
        try:
            with database.begin() as connection:
                leasing.shorten(connection, dead.pid, self.settings.request_deadline_seconds)
        except Unreachable as error:
            self.tell(f"the leases of {dead.name} last to their own end: {error.message}.")
        except DBAPIError as error:  # this only saves time: no reason to end everything
            self.tell(f"the leases of {dead.name} last to their own end: {type(error.orig).__name__}.")
        finally:
            database.dispose()

    def _launched(self, process: Process) -> None:
        with self._recording:
            self._write(self._record.with_process(process))

    def _write(self, record: StackRecord) -> None:
        self._record = record
        record.write(self.state_dir)


def down(state_dir: Path, *, erase: bool = False) -> bool:
    """Stop what runs from `state_dir`, its supervisor first. Say whether anything was there to stop.

    With `erase` the data are deleted too, running or not. Works after the supervisor was killed, and when run twice.
    """
    record = StackRecord.read(state_dir)
    if record is not None:
        record.supervisor.stop(SUPERVISOR_STOP_S)
    if state_dir.exists():
        with only_supervisor(state_dir):
            clear_leftovers(state_dir)
            if erase:
                _forget(state_dir, durable=False)
            _remove_if_empty(state_dir)
    return record is not None


def clear_leftovers(state_dir: Path) -> None:
    """Stop the processes on record, last started first; erase data that were not to last. The caller holds the lock."""
    record = StackRecord.read(state_dir)
    if record is not None:
        for process in reversed(record.processes):
            process.stop(STOP_S)
        _forget(state_dir, durable=record.durable)


def _forget(state_dir: Path, *, durable: bool) -> None:
    """Remove the record of a stack that runs no more; unless its data are to last, remove our files too."""
    StackRecord.remove(state_dir)
    scaling.forget(state_dir)
    if durable:
        return
    for server in (Postgres, Redis):
        server(state_dir).erase()
    for file in (AUDIT_KEY, lost_commits.FILE):
        (state_dir / file).unlink(missing_ok=True)
    for folder in ("logs", "ports", "emulator", "web"):
        shutil.rmtree(state_dir / folder, ignore_errors=True)


def _remove_if_empty(state_dir: Path) -> None:
    with suppress(OSError):  # data that are to last, or something that is not ours
        state_dir.rmdir()


def _holds_lasting_data(state_dir: Path) -> Refused:
    return Refused(
        f"The folder {state_dir} holds data that are to last; what runs here now would erase them at its end.",
        code="lasting-data",
        next_step="use another folder, or erase them first: `vecfleet down --erase`",
    )
