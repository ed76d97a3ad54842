"""A fleet in one process and on a counted clock.

Real: the dispatcher's loop, the job table in a Postgres of its own, the pace's scripts in a Redis of its own, and
whatever a worker does from a wake-up to its end: leases, listings, copies, checks, their order and their size.
Counted: the time that all of them see, in Python, in SQL (`clock_timestamp`) and in Redis (`TIME`). Modelled: the
service (records in memory; an answer comes so late), the processors (`kernel`; what each unit of work takes, `costs`),
and Celery (a wake-up is there at once, and the thread that is idle longest takes it). Time passes before and after a
transaction and never in one: waits for rows are not modelled. Leases are not renewed and outlive the simulation.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import count
from math import ceil
from pathlib import Path
from unittest.mock import patch

import sqlalchemy as sa
from pydantic import SecretStr
from redis import Redis

from benchmarks.simulating.costs import BOOKINGS, DISPATCHER, REDIS, WORKER
from benchmarks.simulating.kernel import Kernel, Line, Lock
from benchmarks.simulating.parts import (
    CLOCK_OF_POSTGRES,
    DistantStore,
    NeverSet,
    TimeModule,
    ToldDatabase,
    Uncounted,
    redis_of,
)
from benchmarks.simulating.world import World
from orchestrator import schema
from orchestrator.bootstrap import Fleet
from orchestrator.core.model import Wakeup
from orchestrator.core.states import QUEUES
from orchestrator.dispatcher import Dispatcher
from orchestrator.embedded.postgres import Postgres
from orchestrator.embedded.redis import Redis as RedisServer
from orchestrator.ledger.database import Database
from vecfleet.settings import Settings
from vecfleet.stores.base import IndexInfo, Limits, Store
from vecfleet.stores.memory import MemoryIndex
from vecfleet.stores.pinecone.index import LANE_FETCH_IDS
from workers import runner
from workers.process import WorkerProcess

_LEASE_S = 1e6
_LOOK_S = 0.2  # counted seconds between two looks whether the work is done
_TURN_S = 0.02  # in which other programs have their share of a core once
_MODULES = (
    *("workers.runner.time", "workers.leases.time", "workers.lane.time", "workers.pace.time"),
    "orchestrator.dispatcher.time",
)


@dataclass(frozen=True)
class _Fleet(Fleet):
    """The parts of one simulated process."""

    world: World
    memory: DistantStore

    @cached_property
    def database(self) -> Database:
        assert self.settings.database_url is not None
        url = self.settings.database_url.get_secret_value()
        return ToldDatabase(self.world, url, self.settings.worker_threads + 2, keeps_plans=self.keeps_plans)

    @property
    def store(self) -> Store:
        return self.memory

    def store_named(self, name: str) -> Store:
        return self.memory


class _Process(WorkerProcess):
    """A worker process whose threads wait for each other in counted time: one may hold its lock while time passes."""

    def __init__(self, fleet: Fleet, kernel: Kernel) -> None:
        super().__init__(fleet)
        self._lock = Lock(kernel)  # type: ignore[assignment]


@dataclass
class Simulated:
    """A fleet that stands ready: `fleet` is the parts that the person at the command line has."""

    world: World
    settings: Settings
    memory: DistantStore

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
            # One line stands for all queues: nothing is lost in it, so nothing is sent again while it holds anything.
            waiting = patch("orchestrator.dispatcher.waiting_by_queue", lambda _: dict.fromkeys(QUEUES, len(line)))
            held.enter_context(waiting)
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
        dispatcher = Dispatcher(fleet.database, fleet.celery, Uncounted())  # type: ignore[arg-type]
        dispatcher.stopping = NeverSet(self.world)  # type: ignore[assignment]
        try:
            dispatcher.run()
        finally:
            fleet.database.dispose()

    def _work(self, name: str, process: WorkerProcess, line: Line[Wakeup]) -> None:
        self.world.acts_as(WORKER, name)
        while True:
            wakeup = line.take()
            runner.run(process, wakeup.batch_id, wakeup.generation)

    def _disturb(self, share: float) -> None:
        """Compute as other programs on this machine do."""
        while True:
            self.world.kernel.compute("others", share * _TURN_S, single=False)
            self.world.kernel.sleep((1 - share) * _TURN_S)


class Servers:
    """The private Postgres and Redis of one simulation after another: each finds them empty."""

    def __init__(self, postgres: Postgres, redis: RedisServer) -> None:
        self._postgres, self._redis = postgres, redis
        self._numbers = count()
        schema.upgrade(postgres.url)
        self._run(postgres.url, CLOCK_OF_POSTGRES)

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
                held.enter_context(patch(module, TimeModule(world)))
            held.enter_context(patch("vecfleet.clock.now", TimeModule(world).monotonic))
            held.enter_context(patch("workers.process.leaving", NeverSet(world)))
            held.enter_context(patch("workers.process.Counters", Uncounted))
            held.enter_context(patch("workers.pace.Redis", redis_of(world)))
            found = Simulated(world, settings, DistantStore(world))
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
    with Postgres(folder, durable=False) as postgres, RedisServer(folder, durable=False) as redis:
        yield Servers(postgres, redis)
