"""One clock, one service and many workers that stop where they are told: what the machine of a whole job acts with.

Every worker is a thread, and one runs at a time. Before and after each call to the service and each transaction it
comes to a gate, where it may die, freeze until it is thawed, or be told that the call failed.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import sqlalchemy as sa

from orchestrator.bootstrap import Fleet
from orchestrator.core.model import Lease, Wakeup
from orchestrator.ledger.database import Database
from orchestrator.queue import TASKS
from vecfleet.connections import PINECONE
from vecfleet.errors import TimedOut, Unavailable
from vecfleet.records import Record
from vecfleet.settings import Settings
from vecfleet.stores.base import Fetched, Index, IndexInfo, Store, Usage, Written
from vecfleet.stores.memory import MemoryIndex, MemoryStore
from vecfleet.stores.pinecone import Accounts
from workers import runner
from workers.outcomes import Outcome
from workers.pace import Limit, Pace, Slot
from workers.process import WorkerProcess

ANSWERS_WITHIN_S = 60.0
ENDLESS = 2_000  # calls and transactions; no step here makes more than some dozens


class Clock:
    """The time of Postgres and of the workers' leases. It moves when it is told to, and never by itself.

    The function of the database that tells the time is hidden behind one of ours.
    """

    def __init__(self, url: str) -> None:
        self.connection = psycopg.connect(url.replace("+psycopg", ""), autocommit=True)
        for statement in (
            "CREATE SCHEMA clock",
            "CREATE TABLE clock.time AS SELECT now() AS at",
            "CREATE FUNCTION clock.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT at FROM clock.time'",
            "ALTER DATABASE {} SET search_path = clock, pg_catalog, public",
        ):
            name = self.connection.info.dbname
            self.connection.execute(statement.format(name))
        self._elapsed = 0.0

    def passes(self, seconds: float) -> None:
        self._elapsed += seconds
        self.connection.execute("UPDATE clock.time SET at = at + make_interval(secs => %s)", (seconds,))

    def monotonic(self) -> float:
        return self._elapsed

    def sql(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        cursor = self.connection.execute(statement, arguments)
        return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        self.connection.close()


class Died(BaseException):
    """kill -9: nothing of ours runs any more in this worker."""


class LawBroken(BaseException):
    """A law was broken in a worker's thread; no ordinary error, for the worker would settle it as one of its own."""


@dataclass(frozen=True)
class Stop:
    """The place where a worker stops, and how: dies, freezes, unavailable or timed out.

    `gate` is a number, or a name: `begin` and `committed` of a transaction, `statement` before one that needs none,
    `fetch` and `fetch answered` of a call.
    """

    gate: int | str
    how: str


class Worker:
    """One wake-up being worked on in a thread of its own."""

    _here = threading.local()

    def __init__(self, process: WorkerProcess, wakeup: Wakeup, stop: Stop | None) -> None:
        self.wakeup = wakeup
        self.lease: Lease | None = None
        self.works = False
        self.frozen = False
        self.failure: BaseException | None = None
        self._process, self._stop = process, stop
        self._gates = self._done = 0
        self._killed = False
        self._turn, self._main = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()
        self._wait()

    @classmethod
    def current(cls) -> "Worker | None":
        return getattr(cls._here, "worker", None)

    def thaw(self, stop: Stop | None = None) -> None:
        """Go on from where it froze. `stop` counts from there."""
        self._stop, self._gates, self.frozen = stop, 0, False
        self._turn.set()
        self._wait()

    def kill(self) -> None:
        """Frozen, it never goes on: it gives back what it holds of this process."""
        self._killed = True
        self.thaw()

    def _wait(self) -> None:
        """Until it has ended, or is frozen: then it is somebody else's turn."""
        assert self._main.wait(ANSWERS_WITHIN_S), "a worker neither ended nor froze"
        self._main.clear()
        if isinstance(self.failure, LawBroken):
            raise AssertionError(str(self.failure))

    def _work(self) -> None:
        self._here.worker = self
        try:
            runner.run(self._process, self.wakeup.batch_id, self.wakeup.generation, [TASKS[self.wakeup.kind][1]], self)
        except Died:
            pass
        except BaseException as error:  # noqa: BLE001 - told to the machine, which judges it
            self.failure = error
        finally:
            self._main.set()

    def began(self, lease: Lease) -> None:
        """Remember the batch at work: after that of its wake-up a worker goes on with others."""
        self.lease, self.works = lease, True

    def ended(self, lease: Lease, outcome: Outcome) -> None:
        """Nothing more is known of a batch than of its lease."""
        self.works = False

    def does(self, what: str) -> None:
        """Raise LawBroken where it does ever more."""
        self._done += 1
        if self._done > ENDLESS:
            raise LawBroken(f"a step has no end: it has done {self._done:,} things, the last one {what}")

    def gate(self, name: str, *, call: bool = False) -> None:
        """`call`: a call to the service, which may fail; the others are transactions."""
        self._gates += 1
        self.does(name)
        if self._stop is None or self._stop.gate not in (self._gates, name):
            return
        how, self._stop = self._stop.how, None
        if how == "dies":
            raise Died
        if how == "freezes":
            self.frozen = True
            self._turn.clear()
            self._main.set()
            self._turn.wait()
            if self._killed:
                raise Died
        elif call and how == "unavailable":
            raise Unavailable("503, says the test")
        elif call and how == "timed out":
            raise TimedOut("no answer, says the test")


class GatedDatabase(Database):
    """A gate before each transaction of a worker, and one after it."""

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        worker = Worker.current()
        if worker is not None:
            worker.gate("begin")
        with super().begin() as connection:
            yield connection
        if worker is not None:
            worker.gate("committed")

    @contextmanager
    def once(self) -> Iterator[sa.Connection]:
        worker = Worker.current()
        if worker is not None:
            if worker.works:
                worker.gate("statement")
            else:
                worker.does("a statement")
        with super().once() as connection:
            yield connection


@dataclass
class Service:
    """The index as workers reach it. `watch` hears of each call before it leaves: (operation, namespace, ids).

    `omits` are ids that the next fetch naming them does not answer; `drops` those that the next upsert of them
    acknowledges and loses.
    """

    index: MemoryIndex
    watch: Callable[[str, str, Sequence[str]], None]
    omits: set[str] = field(default_factory=set)
    drops: set[str] = field(default_factory=set)

    @property
    def info(self) -> IndexInfo:
        return self.index.info

    def __getattr__(self, name: str) -> Any:
        return getattr(self.index, name)  # what changes nothing and reads no records needs no gate

    def _gated(self, operation: str, namespace: str, ids: Sequence[str], call: Callable[[], Any]) -> Any:
        worker = Worker.current()
        if worker is None:
            return call()
        try:
            self.watch(operation, namespace, ids)
        except AssertionError as error:
            raise LawBroken(str(error)) from error
        worker.gate(operation, call=True)
        answer = call()
        worker.gate(f"{operation} answered", call=True)
        return answer

    def fetch(self, namespace: str, ids: Sequence[str]) -> Fetched:
        def call() -> Fetched:
            fetched = self.index.fetch(namespace, ids)
            omitted = self.omits & set(ids)
            self.omits -= omitted
            return Fetched({id: one for id, one in fetched.records.items() if id not in omitted}, fetched.usage)

        answer: Fetched = self._gated("fetch", namespace, ids, call)
        return answer

    def upsert(self, namespace: str, records: Sequence[Record]) -> Written:
        def call() -> Written:
            dropped = self.drops & {one.id for one in records}
            self.drops -= dropped
            self.index.upsert(namespace, [one for one in records if one.id not in dropped])
            return Written(len(records), usage=Usage(requests=1))

        answer: Written = self._gated("upsert", namespace, [one.id for one in records], call)
        return answer

    def delete(self, namespace: str, ids: Sequence[str]) -> Usage:
        answer: Usage = self._gated("delete", namespace, ids, lambda: self.index.delete(namespace, ids))
        return answer

    def delete_namespace(self, name: str) -> Usage:
        ids = list(self.contents(name))
        answer: Usage = self._gated("delete_namespace", name, ids, lambda: self.index.delete_namespace(name))
        return answer

    def create_namespace(self, name: str, schema: Mapping[str, Any] | None) -> bool:
        answer: bool = self._gated("create_namespace", name, [], lambda: self.index.create_namespace(name, schema))
        return answer

    def contents(self, namespace: str) -> dict[str, Record]:
        """Return what is really there."""
        found: dict[str, Record] = {}
        token: str | None = None
        while True:
            page = self.index.list_ids(namespace, token)
            found |= self.index.fetch(namespace, page.ids).records
            token = page.next_token
            if token is None:
                return found


class OneIndex(MemoryStore):
    """The store that has this one index, and no other."""

    name = PINECONE

    def __init__(self, index: Index) -> None:
        super().__init__()
        self.index = index

    def indexes(self) -> list[IndexInfo]:
        return [self.index.info]

    def describe(self, index: str) -> IndexInfo:
        return self.index.info

    def open(self, info: IndexInfo) -> Index:  # type: ignore[override]
        return self.index


class OneAccount(Accounts):
    """The accounts of a fleet that has no named one, with this store for its own."""

    def __init__(self, settings: Settings, store: OneIndex) -> None:
        super().__init__(settings)
        self._stores[PINECONE] = store  # type: ignore[assignment]


class Unpaced(Pace):
    """The pace of a service without limits: each call goes at once."""

    def book(self, limits: Sequence[tuple[Limit, float]], share: float) -> Slot:
        return Slot(0.0, goes=True)

    def throttled(self, limits: Sequence[tuple[Limit, float]], retry_after: float | None) -> None:
        """Slow nobody down."""


@dataclass(frozen=True)
class Parts(Fleet):
    """A fleet's parts, with gates."""

    gated: GatedDatabase
    one: OneIndex

    @property
    def database(self) -> Database:  # type: ignore[override]
        return self.gated

    @property
    def accounts(self) -> Accounts:  # type: ignore[override]
        return OneAccount(self.settings, self.one)

    def store_named(self, name: str) -> Store:
        return self.one
