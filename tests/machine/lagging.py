"""A store that lags like an adversary: every look may be old, every change may come late, twice or never.

It speaks the store protocol and keeps what each namespace held at each moment of the tests' clock. What a look shows
and what becomes of a change is chosen by `Chance` for each call anew, within the rules of the service:

- a look asked at q shows the state at some v in [q - lag, q], each operation, page and namespace on its own
- a change sent at s and answered takes effect then; not answered, at any time up to s + `lands`, never, or twice
- an acknowledged write tells its sequence number; a query tells that of its v, or now and then none at all
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Any, Generic, TypeVar

from tests.machine.acting import LawBroken, Worker
from tests.machine.story import Chance, Story, Time
from vecfleet.errors import BadRequest, Conflict, NameIsAlias, TimedOut, Unavailable
from vecfleet.names import DEFAULT
from vecfleet.records import Record
from vecfleet.stores import paging, rules
from vecfleet.stores.base import Fetched, IdPage, IndexInfo, Limits, Match, Matches, NamespaceInfo, Usage, Written

T = TypeVar("T")
# What looks at a namespace are like, all through a life.
FRESH, EACH_ON_ITS_OWN, OLDEST = range(3)


@dataclass(frozen=True)
class Space:
    """A namespace at some moment."""

    records: Mapping[str, Record] = field(default_factory=dict)
    writes: int = 0
    schema: Mapping[str, Any] | None = None


class History(Generic[T]):
    """The states of something, each with its time. Before its first change it was not there."""

    def __init__(self) -> None:
        self._times, self._values = [float("-inf")], list[T | None]([None])

    @property
    def now(self) -> T | None:
        return self._values[-1]

    def becomes(self, at: float, value: T | None) -> None:
        self._times.append(at)
        self._values.append(value)

    def since(self, at: float) -> list[tuple[float, T | None]]:
        """Return what it was at `at` and became since, each with its time: the newest first."""
        first = bisect_right(self._times, at) - 1
        return list(zip(self._times[first:], self._values[first:], strict=True))[::-1]


@dataclass(frozen=True)
class Fate:
    """The fate of one change: answered or not, and after how many seconds it takes effect (none: never)."""

    answered: bool = True
    effects: tuple[float, ...] = (0.0,)
    error: str = "timed out"


@dataclass(order=True)
class Landing:
    """A change that is under way though its caller has heard nothing of it."""

    at: float
    number: int
    job_id: int = field(compare=False)
    operation: str = field(compare=False)
    namespace: str = field(compare=False)
    apply: Callable[[float], None] = field(compare=False)


class LaggingIndex:
    """One index of the adversary. Tests read `truth`; people and applications call it as workers do, but ungated."""

    def __init__(
        self,
        info: IndexInfo,
        clock: Time,
        chance: Chance,
        *,
        lag_s: float,
        deadline_s: float,
        limits: Limits | None = None,
        unruly: bool = False,
    ) -> None:
        self.info, self.limits = info, limits or Limits()
        self.clock, self.chance, self.story = clock, chance, Story(clock)
        self.lag_s, self.deadline_s = lag_s, deadline_s
        self.lands_s = deadline_s + lag_s
        self.unruly = unruly  # whether changes of workers may fail by chance; else only those in `fates` do
        self.fates: dict[str, list[Fate]] = {}  # of the next calls of an operation, in order
        self.untold = 0  # so many of the next queries tell no sequence number
        self.landings: list[Landing] = []
        self.watch: Callable[[str, str, Sequence[str]], None] = lambda *_: None
        self.judge: Callable[[str, str, Mapping[str, Record], Mapping[str, Record], float], None] = lambda *_: None
        self.unanswered: Callable[[str, str, Sequence[str]], None] = lambda *_: None
        self._spaces: dict[str, History[Space]] = {}
        self._aliases: dict[str, History[str]] = {}
        self._writes: dict[str, int] = {}
        self.moods: dict[str, int] = {}
        self._numbers = count()

    @property
    def fetch_room(self) -> int:
        return self.limits.fetch_ids

    # What is really there

    def truth(self, namespace: str) -> Mapping[str, Record]:
        self.land()
        space = self._space(namespace).now
        return space.records if space is not None else {}

    def real_namespaces(self) -> list[str]:
        self.land()
        return sorted(name for name, history in self._spaces.items() if history.now is not None)

    def real_aliases(self) -> dict[str, str]:
        return {name: history.now for name, history in self._aliases.items() if history.now is not None}

    def land(self) -> None:
        """Carry out what was under way and is due by now, each change at its own time."""
        while self.landings and self.landings[0].at <= self.clock.monotonic():
            late = heappop(self.landings)
            self.story.tell(f"the late {_said(late.operation)} of {late.namespace} takes effect")
            late.apply(late.at)

    def _space(self, namespace: str) -> History[Space]:
        return self._spaces.setdefault(namespace, History())

    # Looks

    def _seen(self, operation: str, namespace: str, history: History[T]) -> T | None:
        """The state that this look shows: of those within the lag the newest, or an older one."""
        self.land()
        versions = history.since(self.clock.monotonic() - self.lag_s)
        most = len(versions) - 1
        if most == 0:
            return versions[0][1]
        of_look = f"{operation} of {namespace}"
        if of_look not in self.moods and namespace not in self.moods:
            self.moods[namespace] = self.chance.number(OLDEST)
        mood = self.moods.get(of_look, self.moods.get(namespace))
        back = self.chance.number(most) if mood == EACH_ON_ITS_OWN else most if mood == OLDEST else 0
        if back:
            age = self.clock.monotonic() - versions[back - 1][0]
            self.story.tell_old_look(operation, namespace, age)
        return versions[back][1]

    def _look(self, operation: str, namespace: str, ids: Sequence[str] = ()) -> Space | None:
        self._gate(operation, namespace, ids)
        to = self._seen("lookup", f"alias {namespace}", self._alias(namespace))
        seen = self._seen(operation, namespace if to is None else to, self._space(namespace if to is None else to))
        self._gate(f"{operation} answered", namespace, ids)
        return seen

    def _gate(self, name: str, namespace: str, ids: Sequence[str]) -> None:
        worker = Worker.current()
        if worker is None:
            return
        if not name.endswith("answered"):
            with _law():
                self.watch(name, namespace, ids)
        worker.gate(name, call=True)

    def namespaces(self) -> Iterator[NamespaceInfo]:
        self._gate("namespaces", "", ())
        for name in sorted(self._spaces):
            space = self._seen("the list of namespaces", name, self._space(name))
            if space is not None:
                yield NamespaceInfo(name, len(space.records), space.schema)

    def namespace(self, name: str) -> NamespaceInfo | None:
        space = self._look("count", name)
        return None if space is None else NamespaceInfo(name, len(space.records), space.schema)

    def list_ids(
        self, namespace: str, token: str | None = None, limit: int | None = None, prefix: str | None = None
    ) -> IdPage:
        space = self._look("list", namespace)
        after = paging.last_id(token) if token is not None else ""
        most = self.limits.list_ids if limit is None else limit
        ids = sorted(space.records) if space is not None else []
        rest = [one for one in ids if one > after and (prefix is None or one.startswith(prefix))]
        following = paging.token_after(rest[most - 1]) if len(rest) > most else None
        return IdPage(rest[:most], following, Usage(requests=1, read_units=1.0))

    def fetch(self, namespace: str, ids: Sequence[str]) -> Fetched:
        if not ids:
            return Fetched({})
        space = self._look("fetch", namespace, ids)
        held = space.records if space is not None else {}
        return Fetched({one: held[one] for one in ids if one in held}, Usage(requests=1, read_units=1.0))

    def query(self, namespace: str, like: Record, top_k: int) -> Matches:
        space = self._look("query", namespace)
        if space is None:
            return Matches([], Usage(requests=1, read_units=0.25))
        matches = [Match(one, 1.0) for one in sorted(space.records)[:top_k]]
        if self.untold:
            self.untold -= 1
            self.story.tell(f"a query of {namespace} tells no sequence number")
            return Matches(matches, Usage(requests=1, read_units=0.25))
        return Matches(matches, Usage(requests=1, read_units=0.25), space.writes)

    # Changes

    def upsert(self, namespace: str, records: Sequence[Record]) -> Written:
        if not records:
            return Written(0)
        for record in records:
            rules.check_record(record, self.info, self.limits)
        kept = {one.id: rules.normalise(one) for one in records}
        self._refuse_alias(namespace)
        self._change("upsert", namespace, list(kept), lambda held: {**(held or {}), **kept})
        return Written(len(records), self._writes[namespace], Usage(requests=1, write_units=5.0))

    def delete(self, namespace: str, ids: Sequence[str]) -> Usage:
        self._refuse_alias(namespace)

        def without(held: Mapping[str, Record] | None) -> Mapping[str, Record] | None:
            return None if held is None else {one: record for one, record in held.items() if one not in ids}

        self._change("delete", namespace, list(ids), without)
        return Usage(requests=1, write_units=5.0)

    def delete_namespace(self, name: str) -> Usage:
        self._refuse_alias(name)
        leading = [alias for alias, to in self.real_aliases().items() if to == name]
        if leading:
            raise BadRequest(f"{name} is what the alias {leading[0]} leads to")
        self._change("delete_namespace", name, [], lambda _: None)
        return Usage(requests=1, write_units=rules.MIN_WRITE_UNITS)

    def create_namespace(self, name: str, schema: Mapping[str, Any] | None) -> bool:
        self._refuse_name(name)
        self.land()
        if name == DEFAULT or self._space(name).now is not None:
            return False
        self._change("create_namespace", name, [], lambda held: held or {})
        return True

    def _change(
        self,
        operation: str,
        namespace: str,
        ids: Sequence[str],
        change: Callable[[Mapping[str, Record] | None], Mapping[str, Record] | None],
    ) -> None:
        self._gate(operation, namespace, ids)
        self.land()
        sent = self.clock.monotonic()
        worker = Worker.current()
        self._writes[namespace] = sequence = self._writes.get(namespace, 0) + 1

        def apply(at: float) -> None:
            history = self._space(namespace)
            before = history.now
            after = change(None if before is None else before.records)
            if worker is not None:
                with _law():
                    self.judge(operation, namespace, before.records if before else {}, after or {}, sent)
            if after is None and before is None:
                return
            schema = before.schema if before is not None else None
            history.becomes(at, None if after is None else Space(dict(after), sequence, schema))

        fate = self._fate(operation) if worker is not None else Fate()
        if worker is not None and operation != "create_namespace":
            said = "" if fate.answered else ", which is not answered"
            about = f"{', '.join(sorted(ids))} in " if 0 < len(ids) <= 4 else f"{len(ids)} records in " if ids else ""
            self.story.tell(f"a worker sends the {_said(operation)} of {about}{namespace}{said}")
        for after in sorted(fate.effects):
            if after == 0:
                apply(sent)
            else:
                job_id = self._job_of(worker) if worker is not None else 0
                heappush(self.landings, Landing(sent + after, next(self._numbers), job_id, operation, namespace, apply))
        if not fate.answered:
            self.unanswered(operation, namespace, ids)
            if fate.error == "timed out":
                self.clock.passes(self.deadline_s)
        self._gate(f"{operation} answered", namespace, ids)
        if not fate.answered:
            raise (
                TimedOut("no answer, says the test") if fate.error == "timed out" else Unavailable("503, says the test")
            )

    def _job_of(self, worker: Worker) -> int:
        [(job_id,)] = self.clock.sql("SELECT job_id FROM batch WHERE id = %s", worker.wakeup.batch_id) or [(0,)]
        return int(job_id)

    def _fate(self, operation: str) -> Fate:
        told = self.fates.get(operation)
        if told:
            return told.pop(0)
        if not self.unruly:
            return Fate()
        kind = self.chance.number(15) - 9  # most calls go well
        late = self.lands_s * (1 + self.chance.number(3)) / 4 if kind > 2 else 0.0
        fates = {
            1: Fate(answered=False),
            2: Fate(answered=False, effects=(), error="unavailable"),
            3: Fate(answered=False, effects=(late,)),
            4: Fate(answered=False, effects=(0.0, late)),
            5: Fate(answered=False, effects=(late,), error="unavailable"),
            6: Fate(answered=False, effects=()),
        }
        return fates.get(kind, Fate())

    # Aliases

    def aliases(self) -> dict[str, str]:
        found = {name: self._seen("the list of aliases", f"alias {name}", self._alias(name)) for name in self._aliases}
        return {name: to for name, to in sorted(found.items()) if to is not None}

    def alias(self, name: str) -> str | None:
        self._gate("alias", name, ())
        return self._seen("lookup", f"alias {name}", self._alias(name))

    def point_alias(self, name: str, to: str | None) -> None:
        self._gate("point_alias", name, ())
        self.land()
        if to is not None and self._space(name).now is not None:
            raise Conflict(f"{name} is a namespace")
        self._alias(name).becomes(self.clock.monotonic(), to)
        self.story.tell(f"the alias {name} leads to {to}" if to else f"the alias {name} is removed")
        self._gate("point_alias answered", name, ())

    def _alias(self, name: str) -> History[str]:
        return self._aliases.setdefault(name, History())

    def _refuse_alias(self, name: str) -> None:
        if name in self.real_aliases():
            raise BadRequest(f"WRITE_TO_ALIAS: {name} is an alias")

    def _refuse_name(self, name: str) -> None:
        if name in self.real_aliases():
            raise NameIsAlias(f"{name} is the name of an alias")

    def request_bytes(self, record: Record) -> int:
        return rules.billed_bytes(record)

    def normalise(self, record: Record) -> Record:
        return rules.normalise(record)


@contextmanager
def _law() -> Iterator[None]:
    """End the worker in whose thread a law is broken: it would take an ordinary error for one of its own."""
    try:
        yield
    except AssertionError as error:
        if Worker.current() is None:
            raise
        raise LawBroken(str(error)) from error


def _said(operation: str) -> str:
    return {"delete_namespace": "deletion", "delete": "deletion by ids"}.get(operation, operation)
