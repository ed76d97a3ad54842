"""Measure how passes catch up with writers: at 1, 5 and 20 % of the rate of copying, under `delta` and `dual`.

    python -m benchmarks.catch_up

A writer changes records of the sources, evenly in time, as soon as the targets are there; under `dual` it writes the
same to the targets. It stops once the job is verified, or after a while: while many records are written, no two passes
are quiet. Printed are:

- passes until quiet, and the seconds from the last write until verified, 0 if the application still wrote;
- the lag: how long after its write a change stood in its target, of a change every half second (`delta`);
- requests of the fleet for each changed record, listings included, from the end of the copy on;
- requests of one more pass over namespaces to which nobody writes, for each of them (`delta`), and of its proof.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Literal

from benchmarks.data import Load, fill, records
from benchmarks.figures import Figure
from benchmarks.fleet import WHO, Running, copied, drop, end, reached, running
from benchmarks.loops import client_of
from benchmarks.reach import REACHES
from benchmarks.runner import alone
from migrations.creators import Grouping
from migrations.plan import Policies
from migrations.recipes import Common, CreatorsOptions, plan_creators
from orchestrator.core.states import JobState
from orchestrator.ledger import jobs
from orchestrator.services import acts, apply
from vecfleet import names
from vecfleet.errors import Missing
from vecfleet.records import Record
from vecfleet.stores.base import Index

LOAD, QUICK_LOAD = Load("catch-up", 1_536, 30_000), Load("catch-up", 1_536, 10_000)
PARTS, QUICK_PARTS = (0.01, 0.05, 0.20), (0.05,)
WRITERS: tuple[Literal["delta", "dual"], ...] = ("delta", "dual")
UNWRITTEN, QUICK_UNWRITTEN = 1_200, 100  # namespaces
WRITES_S, QUICK_WRITES_S = 30.0, 15.0  # at most
_TURN_S, _LOOK_S, _PASSES = 0.1, 0.5, 1_000
_PATIENCE_S = 60.0
_BUDGET = 1_000.0  # times the estimate
_AT_ONCE = 200  # records of a write: 1.4 MB


@dataclass
class Writer:
    """An application that changes records: `changed` so far; `lags` from a write to its arrival, in seconds."""

    index: Index
    load: Load
    per_second: float
    both_sides: bool
    changed: int = 0
    lags: list[float] = field(default_factory=list)
    requests: int = 0

    def __post_init__(self) -> None:
        self._chance = random.Random(self.load.seed)
        self._stop = threading.Event()
        self._failed: list[BaseException] = []

    @contextmanager
    def at_work(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._guarded, args=(work,)) for work in (self._write_on, self._look_on)]
        for thread in threads[: 1 if self.both_sides else 2]:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
        if self._failed:
            raise self._failed[0]

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again where the writer is told to stop
            self._failed.append(error)

    def _write_on(self) -> None:
        began = time.monotonic()
        while not self._stop.wait(_TURN_S):
            while not self._stop.is_set():
                due = int((time.monotonic() - began) * self.per_second) - self.changed
                if due <= 0:
                    break
                self._write(self._some(min(due, _AT_ONCE)))

    def _look_on(self) -> None:
        """Change a record, and look when it stands in its target."""
        while not self._stop.wait(_LOOK_S):
            namespace, (record,) = self._some(1)
            written = time.monotonic()
            self._write((namespace, [record]))
            while not self._stop.wait(_TURN_S) and not self._arrived(namespace, record):
                pass
            if not self._stop.is_set():
                self.lags.append(time.monotonic() - written)

    def _some(self, count: int) -> tuple[str, list[Record]]:
        namespace = self._chance.choice(list(self.load.namespaces))
        start = self._chance.randrange(max(1, self.load.namespaces[namespace] - count))
        numbers = range(start, min(start + count, self.load.namespaces[namespace]))
        mark = {"written": f"{time.monotonic_ns()}"}
        return namespace, [replace(r, metadata={**r.metadata, **mark}) for r in records(self.load, namespace, numbers)]

    def _write(self, some: tuple[str, list[Record]]) -> None:
        namespace, changed = some
        self.index.upsert(namespace, changed)
        self.requests += 1
        if self.both_sides:
            self.index.upsert(names.build(WHO, namespace), changed)
            self.requests += 1
        self.changed += len(changed)

    def _arrived(self, namespace: str, record: Record) -> bool:
        self.requests += 1
        try:
            there = self.index.fetch(names.build(WHO, namespace), [record.id]).records.get(record.id)
        except Missing:
            return False
        return there is not None and there.metadata.get("written") == record.metadata["written"]


def measure(quick: bool) -> Iterator[Figure]:
    load, parts, writes_s = (QUICK_LOAD, QUICK_PARTS, QUICK_WRITES_S) if quick else (LOAD, PARTS, WRITES_S)
    with TemporaryDirectory(prefix="vecfleet-bench-") as folder, running(Path(folder) / "state") as fleet:
        fill(fleet.settings, load)
        sources = list(load.namespaces)
        for _ in range(2):  # the first is for connections, and for the pace, which begins at half
            rate = copied(fleet, load.index, sources, WHO).per_second
            drop(fleet, load.index, sources, WHO)
        yield Figure("copy without writers, 1,536-d", rate, "records/s")
        for writers in WRITERS:
            for part in parts:
                yield from caught_up(fleet, load, writers, part, part * rate, writes_s)
                drop(fleet, load.index, sources, WHO)
        client_of(fleet).indexes.delete(load.index)
        yield from unwritten(fleet, QUICK_UNWRITTEN if quick else UNWRITTEN)


def unwritten(fleet: Running, namespaces: int) -> Iterator[Figure]:
    """A pass over sources that stayed as they were proven; what follows it looks at their copies."""
    load = Load("unwritten", 8, 10 * namespaces, spread=namespaces)
    fill(fleet.settings, load)
    job = _applied(fleet, load, "delta")
    reached(fleet.fleet, job, JobState.VERIFIED)
    since, passes = fleet.last_call(), _passes(fleet, job)
    acts.another_pass(fleet.fleet.database, job, WHO)
    reached(fleet.fleet, job, JobState.VERIFIED)
    taken = _passes(fleet, job) - passes
    of_sources = [call["namespace"] in load.namespaces for call in fleet.calls(since, index=load.index)]
    end(fleet.fleet, job)
    about = f"delta, {namespaces:,} namespaces unwritten"
    reach = REACHES["requests of an unwritten namespace"]
    yield Figure(f"{about}: requests of a pass", sum(of_sources) / taken / namespaces, "a namespace", reach)
    rest = (len(of_sources) - sum(of_sources)) / namespaces
    yield Figure(f"{about}: requests of the proof that follows", rest, "a namespace")


def caught_up(
    fleet: Running, load: Load, writers: Literal["delta", "dual"], part: float, per_second: float, writes_s: float
) -> Iterator[Figure]:
    store = fleet.fleet.store
    writer = Writer(store.open(store.describe(load.index)), load, per_second, both_sides=writers == "dual")
    job = _applied(fleet, load, writers)
    _until_made(fleet, load)
    before, changed = fleet.last_call() - writer.requests, writer.changed
    with writer.at_work():
        verified = _is_verified_within(fleet, job, writes_s)
    began = time.monotonic()
    reached(fleet.fleet, job, JobState.VERIFIED)
    seconds = 0.0 if verified else time.monotonic() - began
    passes = _passes(fleet, job)
    asked = fleet.last_call() - writer.requests - before
    end(fleet.fleet, job)
    about = f"{writers}, writers at {part:.0%}"
    yield Figure(f"{about}: passes until quiet", passes, "passes")
    yield Figure(f"{about}: from the last write until verified", seconds, "s")
    if writer.lags:
        spread = (min(writer.lags), max(writer.lags))
        yield Figure(f"{about}: lag of a change", median(writer.lags), "s", samples=tuple(writer.lags), spread=spread)
    yield Figure(f"{about}: requests a changed record", asked / max(1, writer.changed - changed), "requests")


def _applied(fleet: Running, load: Load, writers: Literal["delta", "dual"]) -> int:
    policies = Policies(exclusive=True, cut_over="none", soak_seconds=0, writers=writers, max_passes=_PASSES)
    common = Common(policies=policies, only=tuple(load.namespaces))
    options = CreatorsOptions(index=load.index, grouping=Grouping(creator=WHO), common=common)
    plan = plan_creators(fleet.fleet.store, options, now=datetime.now(UTC))
    job = apply.apply(fleet.fleet, plan, who=WHO, no_backup=True)
    acts.set_lever(fleet.fleet.database, job, WHO, "budget", _BUDGET)  # a pass after the other costs as much again
    return job


def _is_verified_within(fleet: Running, job: int, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with fleet.fleet.database.once() as connection:
            if jobs.get(connection, job).state is JobState.VERIFIED:
                return True
        time.sleep(_TURN_S)
    return False


def _until_made(fleet: Running, load: Load) -> None:
    """Wait until every target is there: an application that writes to both sides begins then."""
    store = fleet.fleet.store
    index = store.open(store.describe(load.index))
    until = time.monotonic() + _PATIENCE_S
    for source in load.namespaces:
        while index.namespace(names.build(WHO, source)) is None:
            if time.monotonic() > until:
                raise RuntimeError(f"the target of {source} was not made within {_PATIENCE_S:g} s")
            time.sleep(_TURN_S)


def _passes(fleet: Running, job: int) -> int:
    with fleet.fleet.database.once() as connection:
        return jobs.get(connection, job).passes


if __name__ == "__main__":
    raise SystemExit(alone("catch_up", measure, __doc__))
