"""A fleet in one process and on a counted clock.

Real: the dispatcher's loop, the job table in a Postgres of its own, the pace's scripts in a Redis of its own, and
whatever a worker does from a wake-up to its end: leases, listings, copies, checks, their order and their size.
Counted: the time that all of them see, in Python, in SQL (`clock_timestamp`) and in Redis (`TIME`). Modelled: the
service (records in memory; an answer comes so late), the processors (`kernel`; what each unit of work takes, `costs`),
and Celery (a wake-up is there at once, and the thread that is idle longest takes it). Time passes before and after a
transaction and never in one: waits for rows are not modelled. Leases are not renewed and outlive the simulation.
"""

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import count
from math import ceil
from pathlib import Path
from typing import Any
from unittest.mock import patch

import sqlalchemy as sa
from pydantic import SecretStr
from redis import Redis

from benchmarks.simulating.costs import (
    BOOKINGS,
    BYTES,
    CALLS,
    DISPATCHER,
    EMULATOR,
    POSTGRES,
    RECORDS,
    REDIS,
    STEPS,
    WORKER,
    Costs,
)
from benchmarks.simulating.kernel import Kernel, Line, Lock
from orchestrator import embedded, schema
from orchestrator.bootstrap import Fleet
from orchestrator.counters import Counters
from orchestrator.dispatcher import Dispatcher
from orchestrator.ledger.database import Database
from orchestrator.model import Wakeup
from vecfleet.records import Record
from vecfleet.settings import Settings
from vecfleet.stores.base import Fetched, IdPage, IndexInfo, Limits, NamespaceInfo, Store, Usage, Written
from vecfleet.stores.memory import MemoryIndex, MemoryStore
from vecfleet.stores.pinecone import bytes_lane
from vecfleet.stores.pinecone.index import LANE_FETCH_IDS
from workers import running
from workers.process import Process

BEGINS_AT = 1_800_000_000.0  # any time: what the clock shows at second nought
_LEASE_S = 1e6
_LOOK_S = 0.2  # counted seconds between two looks whether the work is done
_TURN_S = 0.02  # in which other programs have their share of a core once
_MODULES = (
    *("workers.running.time", "workers.holding.time", "workers.lane.time", "workers.pace.time"),
    *("orchestrator.ledger.leasing.time", "orchestrator.dispatcher.time"),
)
_CLOCK_OF_POSTGRES = """
CREATE SCHEMA simulated;
CREATE FUNCTION simulated.clock_timestamp() RETURNS timestamptz LANGUAGE sql STABLE AS
  $$ SELECT to_timestamp(current_setting('simulated.now')::float8) $$;
DO $$ DECLARE one record; BEGIN
  FOR one IN SELECT table_name, column_name FROM information_schema.columns
      WHERE table_schema = 'public' AND column_default LIKE 'clock_timestamp%%' LOOP
    EXECUTE format('ALTER TABLE %%I ALTER %%I SET DEFAULT simulated.clock_timestamp()',
      one.table_name, one.column_name);
  END LOOP;
END $$
"""
# In front of a script: its `redis` is one whose TIME is the last argument, and everything else is as it was.
_CLOCK_OF_REDIS = """
local server, clock = redis, tonumber(table.remove(ARGV))
local redis = setmetatable({call = function(name, ...)
  if name == 'TIME' then return {math.floor(clock / 1000000), clock % 1000000} end
  return server.call(name, ...)
end}, {__index = redis})
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a fleet runs. `others`: cores that other programs keep busy; `late_s`: how late the service answers."""

    cores: int
    workers: int
    others: float = 0.0
    late_s: float = 0.0


@dataclass
class World:
    """One simulation: its clock, what things cost in it, and how much of what was done (by role and unit)."""

    kernel: Kernel
    costs: Costs
    machine: Machine
    counted: Counter[tuple[str, str]] = field(default_factory=Counter)
    _who: threading.local = field(default_factory=threading.local)

    @property
    def now(self) -> float:
        return BEGINS_AT + self.kernel.now

    def acts_as(self, role: str, process: str) -> None:
        """From now on the calling actor is a thread of this process."""
        self._who.role, self._who.process, self._who.depth = role, process, 0

    def spend(self, **units: float) -> None:
        """The calling actor does so much of each unit in its own process."""
        self._compute(self._who.role, self._who.process, units, single=True)

    def spend_elsewhere(self, role: str, *, single: bool, **units: float) -> None:
        """The calling actor waits for another process that does so much."""
        self._compute(role, role, units, single=single)

    def _compute(self, role: str, process: str, units: Mapping[str, float], *, single: bool) -> None:
        seconds = 0.0
        for unit, times in units.items():
            self.counted[role, unit] += times
            seconds += self.costs.of(role, unit, times)
        if seconds:
            self.kernel.compute(process, seconds, single=single)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Around a transaction: what it takes here comes before it, what it takes Postgres after."""
        outermost = self.kernel.is_acting and self._who.depth == 0
        if outermost:
            self.spend(**{STEPS: 1})
        if self.kernel.is_acting:
            self._who.depth += 1
        try:
            yield
        finally:
            if self.kernel.is_acting:
                self._who.depth -= 1
        if outermost:
            self.spend_elsewhere(POSTGRES, single=False, **{STEPS: 1})

    def call(
        self,
        act: Callable[[], Any],
        sent: Collection[Record] = (),
        received: Callable[[Any], Collection[Record]] = lambda _: (),
    ) -> Any:
        """A request to the service: what is sent takes time here first, what is received takes it last."""
        if not self.kernel.is_acting:
            return act()
        self.spend(**_weight(sent))
        self.kernel.sleep(self.machine.late_s)
        answer = act()
        back = received(answer)
        self.spend_elsewhere(EMULATOR, single=True, **{CALLS: 1}, **_weight([*sent, *back]))
        self.spend(**_weight(back))
        return answer


def _weight(records: Collection[Record]) -> dict[str, float]:
    return {RECORDS: len(records), BYTES: sum(len(one.values) for one in records)} if records else {}


class _Time:
    """Stands where a module has `time`."""

    def __init__(self, world: World) -> None:
        self._world = world

    def monotonic(self) -> float:
        return self._world.now

    perf_counter = monotonic

    def sleep(self, seconds: float) -> None:
        if self._world.kernel.is_acting:
            self._world.kernel.sleep(seconds)
        else:
            threading.Event().wait()  # a heartbeat: leases need none here


class _NeverSet:
    """Stands where a process has the event that tells it to stop."""

    def __init__(self, world: World) -> None:
        self._world = world

    def is_set(self) -> bool:
        return False

    def wait(self, seconds: float) -> bool:
        self._world.kernel.sleep(seconds)
        return False


class _Database(Database):
    """The job table, whose sessions are told the time when it has changed."""

    def __init__(self, world: World, url: str, pool_size: int, *, keeps_plans: bool) -> None:
        super().__init__(url, pool_size, keeps_plans=keeps_plans)
        self._world = world
        sa.event.listen(self.engine, "before_cursor_execute", self._tell)
        sa.event.listen(self.engine, "rollback", lambda connection: connection.info.pop("told", None))

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        with self._world.transaction(), super().begin() as connection:
            yield connection

    @contextmanager
    def once(self) -> Iterator[sa.Connection]:
        with self._world.transaction(), super().once() as connection:
            yield connection

    def _tell(self, connection: sa.Connection, *_: object) -> None:
        if connection.info.get("told") == self._world.now:
            return
        driver = connection.connection.driver_connection
        assert driver is not None, "a connection in use has its driver's"
        driver.execute("SELECT set_config('simulated.now', %s, false)", (repr(self._world.now),))
        connection.info["told"] = self._world.now


def _redis_of(world: World) -> type[Redis]:
    class Told(Redis):
        """A Redis whose scripts see the counted time."""

        def register_script(self, script: Any) -> Any:
            ours = super().register_script(_CLOCK_OF_REDIS + script)

            def run(keys: Sequence[str], args: Sequence[Any]) -> Any:
                if world.kernel.is_acting:
                    world.spend_elsewhere(REDIS, single=True, **{BOOKINGS: 1})
                return ours(keys=keys, args=[*args, f"{world.now * 1e6:.0f}"])

            return run

    return Told


class _Index:
    """The records in memory as a service far away would have them: each call takes its time."""

    def __init__(self, world: World, index: MemoryIndex) -> None:
        self._world = world
        self._index = index
        self.info, self.limits = index.info, index.limits
        self.normalise = index.normalise
        self.namespaces = index.namespaces
        self.request_bytes = bytes_lane.request_bytes

    def namespace(self, name: str) -> NamespaceInfo | None:
        found: NamespaceInfo | None = self._world.call(lambda: self._index.namespace(name))
        return found

    def create_namespace(self, name: str, schema: Mapping[str, Any] | None) -> bool:
        return bool(self._world.call(lambda: self._index.create_namespace(name, schema)))

    def list_ids(
        self, namespace: str, token: str | None = None, limit: int | None = None, prefix: str | None = None
    ) -> IdPage:
        page: IdPage = self._world.call(lambda: self._index.list_ids(namespace, token, limit, prefix))
        return page

    def fetch(self, namespace: str, ids: Sequence[str]) -> Fetched:
        fetched: Fetched = self._world.call(
            lambda: self._index.fetch(namespace, ids), received=lambda answer: answer.records.values()
        )
        return fetched

    def upsert(self, namespace: str, records: Sequence[Record]) -> Written:
        written: Written = self._world.call(lambda: self._index.upsert(namespace, records), records)
        return written

    def delete(self, namespace: str, ids: Sequence[str]) -> Usage:
        usage: Usage = self._world.call(lambda: self._index.delete(namespace, ids))
        return usage


class _Store(MemoryStore):
    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def open(self, info: IndexInfo) -> Any:
        return _Index(self._world, super().open(info))


@dataclass(frozen=True)
class _Fleet(Fleet):
    """The parts of one simulated process."""

    world: World
    memory: _Store

    @cached_property
    def database(self) -> Database:
        assert self.settings.database_url is not None
        url = self.settings.database_url.get_secret_value()
        return _Database(self.world, url, self.settings.worker_threads + 2, keeps_plans=self.keeps_plans)

    @property
    def store(self) -> Store:  # type: ignore[override]
        return self.memory

    def store_named(self, name: str) -> Store:
        return self.memory


class _Process(Process):
    """A worker process whose threads wait for each other in counted time: one may hold its lock while time passes."""

    def __init__(self, fleet: Fleet, kernel: Kernel) -> None:
        super().__init__(fleet)
        self._lock = Lock(kernel)  # type: ignore[assignment]


@dataclass
class Simulated:
    """A fleet that stands ready: `fleet` is the parts that the person at the command line has."""

    world: World
    settings: Settings
    memory: _Store

    @cached_property
    def fleet(self) -> Fleet:
        return self._process()

    def index(self, info: IndexInfo) -> MemoryIndex:
        """A new index, to be filled."""
        return self.memory.create(info, Limits(fetch_ids=LANE_FETCH_IDS))

    def work(self, goes_on: Callable[[], bool]) -> None:
        """Let the fleet work while this holds: it is asked every so often, and that takes no time."""
        world, line = self.world, Line[Wakeup](self.world.kernel)

        def send(_: object, wakeups: Sequence[Wakeup]) -> list[Wakeup]:
            for wakeup in wakeups:
                world.spend_elsewhere(REDIS, single=True, **{BOOKINGS: 1})
                line.put(wakeup)
            return []

        with ExitStack() as held:
            held.enter_context(patch("orchestrator.dispatcher.send", send))
            held.enter_context(patch("orchestrator.dispatcher.waiting", lambda _: len(line)))
            world.kernel.spawn(self._dispatch)
            for number in range(world.machine.workers):
                fleet = self._process(keeps_plans=True)
                held.callback(fleet.database.dispose)
                process = _Process(fleet, world.kernel)
                for _ in range(self.settings.worker_threads):
                    world.kernel.spawn(partial(self._work, f"worker-{number}", process, line))
            busy = [min(1.0, world.machine.others - core) for core in range(ceil(world.machine.others))]
            for share in busy:
                world.kernel.spawn(partial(self._disturb, share))
            running_on = True

            def watch() -> None:
                nonlocal running_on
                world.acts_as("person", "person")
                while running_on:
                    world.kernel.sleep(_LOOK_S)
                    running_on = goes_on()

            world.kernel.spawn(watch)
            world.kernel.run(lambda: running_on)

    def _process(self, *, keeps_plans: bool = False) -> Fleet:
        return _Fleet(self.settings, self.world, self.memory, keeps_plans=keeps_plans)

    def _dispatch(self) -> None:
        self.world.acts_as(DISPATCHER, DISPATCHER)
        fleet = self._process()
        assert self.settings.redis_url is not None
        counted = Counters(self.settings.redis_url.get_secret_value())
        dispatcher = Dispatcher(fleet.database, fleet.celery, counted)
        dispatcher.stopping = _NeverSet(self.world)  # type: ignore[assignment]
        try:
            dispatcher.run()
        finally:
            fleet.database.dispose()

    def _work(self, name: str, process: Process, line: Line[Wakeup]) -> None:
        self.world.acts_as(WORKER, name)
        while True:
            wakeup = line.take()
            running.run(process, wakeup.batch_id, wakeup.generation)

    def _disturb(self, share: float) -> None:
        """What other programs on this machine compute."""
        while True:
            self.world.kernel.compute("others", share * _TURN_S, single=False)
            self.world.kernel.sleep((1 - share) * _TURN_S)


class Servers:
    """The private Postgres and Redis of one simulation after another: each finds them empty."""

    def __init__(self, postgres: embedded.Postgres, redis: embedded.Redis) -> None:
        self._postgres, self._redis = postgres, redis
        self._numbers = count()
        schema.upgrade(postgres.url)
        self._run(postgres.url, _CLOCK_OF_POSTGRES)

    @contextmanager
    def simulated(self, world: World) -> Iterator[Simulated]:
        """A fleet on the counted clock."""
        template = sa.make_url(self._postgres.url)
        name = f"simulated_{next(self._numbers)}"
        self._run(str(self._postgres.url), f"CREATE DATABASE {name} TEMPLATE {template.database}", within="template1")
        with Redis.from_url(self._redis.url) as client:
            client.flushall()
        url = template.set(database=name, query={"options": "-c search_path=simulated,pg_catalog,public"})
        settings = Settings(
            database_url=SecretStr(url.render_as_string(hide_password=False)),
            redis_url=SecretStr(self._redis.url),
            lease_seconds=_LEASE_S,
            _env_file=None,  # type: ignore[call-arg]
        )
        with ExitStack() as held:
            for module in _MODULES:
                held.enter_context(patch(module, _Time(world)))
            held.enter_context(patch("workers.process.leaving", _NeverSet(world)))
            held.enter_context(patch("workers.pace.Redis", _redis_of(world)))
            found = Simulated(world, settings, _Store(world))
            held.callback(lambda: found.fleet.database.dispose())
            yield found

    @staticmethod
    def _run(url: str, statement: str, within: str | None = None) -> None:
        address = sa.make_url(url)
        engine = sa.create_engine(address.set(database=within) if within else address, isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql(statement)
        finally:
            engine.dispose()


@contextmanager
def servers(folder: Path) -> Iterator[Servers]:
    with embedded.Postgres(folder, durable=False) as postgres, embedded.Redis(folder, durable=False) as redis:
        yield Servers(postgres, redis)
