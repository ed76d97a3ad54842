"""Parts of a process of the fleet that tell time by the simulation, in Python, in SQL and in Redis' scripts; and the
service that answers late.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from redis import Redis

from benchmarks.simulating.costs import BOOKINGS, REDIS
from benchmarks.simulating.world import World
from orchestrator.ledger.database import Database
from vecfleet.records import Record
from vecfleet.stores.base import Fetched, IdPage, IndexInfo, NamespaceInfo, Usage, Written
from vecfleet.stores.memory import MemoryIndex, MemoryStore
from vecfleet.stores.pinecone import bytes_lane

CLOCK_OF_POSTGRES = """
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
CLOCK_OF_REDIS = """
local server, clock = redis, tonumber(table.remove(ARGV))
local redis = setmetatable({call = function(name, ...)
  if name == 'TIME' then return {math.floor(clock / 1000000), clock % 1000000} end
  return server.call(name, ...)
end}, {__index = redis})
"""


class Uncounted:
    """Stands where a process counts its calls, which a thread of real time would push to Redis for ever."""

    def __init__(self, *_: object) -> None: ...

    def note(self, name: str, amount: int = 1) -> None: ...

    def push(self) -> None: ...


class TimeModule:
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


class NeverSet:
    """Stands where a process has the event that tells it to stop."""

    def __init__(self, world: World) -> None:
        self._world = world

    def is_set(self) -> bool:
        return False

    def wait(self, seconds: float) -> bool:
        self._world.kernel.sleep(seconds)
        return False


class ToldDatabase(Database):
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


def redis_of(world: World) -> type[Redis]:
    class Told(Redis):
        """A Redis whose scripts see the counted time."""

        def register_script(self, script: Any) -> Any:
            ours = super().register_script(CLOCK_OF_REDIS + script)

            def run(keys: Sequence[str], args: Sequence[Any]) -> Any:
                if world.kernel.is_acting:
                    world.spend_elsewhere(REDIS, single=True, **{BOOKINGS: 1})
                return ours(keys=keys, args=[*args, f"{world.now * 1e6:.0f}"])

            return run

    return Told


class DistantIndex:
    """The records in memory as a service far away would have them: each call takes its time."""

    def __init__(self, world: World, index: MemoryIndex) -> None:
        self._world = world
        self._index = index
        self.info, self.limits, self.fetch_room = index.info, index.limits, index.fetch_room
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


class DistantStore(MemoryStore):
    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def open(self, info: IndexInfo) -> Any:
        return DistantIndex(self._world, super().open(info))
