"""The copy lane in a bare loop: what the fleet costs beyond it is the price of Celery, job table, pace and fence.

Fetch, routing, enrichment, checks for conflicts, digests, requests under the limit, upsert and tally are the workers'
own code, called and not copied; so are the size of a batch and the number of processes and threads. Nothing is leased,
paced, counted or remembered: who kills it begins anew.
"""

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from benchmarks.fleet import Copied
from migrations.plan import PlannedMove, Policies
from migrations.routing import Router
from vecfleet import names
from vecfleet.settings import Settings
from vecfleet.stores.base import Index, IndexInfo
from vecfleet.stores.pinecone import PineconeStore
from workers.copying import tally_of
from workers.lane import Lane
from workers.placing import Placer, place_all


class BareLoop:
    """Processes of its own, as many as the fleet has workers, each with a client of its own and as many threads."""

    def __init__(self, settings: Settings, info: IndexInfo, processes: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._processes = [
            ProcessPoolExecutor(1, mp_context=spawn, initializer=_begin, initargs=(settings, info))
            for _ in range(processes)
        ]

    def __enter__(self) -> "BareLoop":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.shutdown()

    def copy(self, sources: Sequence[str], creator: str, batch: int) -> Copied:
        """Copy these namespaces to a creator's, each process its share of them, in batches of so many records."""
        began = time.monotonic()
        shares = [sources[number :: len(self._processes)] for number in range(len(self._processes))]
        asked = [
            process.submit(_copy, share, creator, batch) for process, share in zip(self._processes, shares, strict=True)
        ]
        done = [one.result() for one in asked]
        seconds = time.monotonic() - began
        return Copied(sum(one.records for one in done), seconds, sum(one.cpu_s for one in done))


@dataclass(frozen=True, slots=True)
class _Share:
    records: int
    cpu_s: float


class _Alone:
    """In place of the pace, the counters and the lease: nobody else is there."""

    def take(self, *_: object) -> None:
        """There is always room."""

    def answered(self, *_: object) -> None:
        """Note nothing."""

    def throttled(self, *_: object) -> None:
        raise AssertionError("the emulator has no limits here")

    def note(self, *_: object) -> None:
        """Counted by nobody."""

    def require(self, seconds: float) -> None:
        """It never ends."""

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)


def unpaced(index: Index, deadline_s: float) -> Lane:
    """The workers' lane to an index, for whoever is alone there."""
    alone: Any = _Alone()
    return Lane(index, alone, alone, 1.0, alone, deadline_s)


class _Process:
    """One process of the loop."""

    def __init__(self, settings: Settings, info: IndexInfo) -> None:
        self._settings = settings
        self._index = PineconeStore(settings).open(info)

    def copy(self, sources: Sequence[str], creator: str, batch: int) -> _Share:
        cpu = time.process_time()
        with ThreadPoolExecutor(self._settings.worker_threads) as threads:
            waiting = []
            for source in sources:
                placer = self._placer(source, creator)
                waiting += [threads.submit(self._copy, placer, ids) for ids in self._batches(source, batch)]
            records = sum(one.result() for one in waiting)
        return _Share(records, time.process_time() - cpu)

    def _copy(self, placer: Placer, ids: Sequence[str]) -> int:
        lane = self._lane()
        placed, parked = place_all(placer, lane.fetch(placer.source, ids))
        assert len(placed) == len(ids) and not parked, f"{len(placed)} of {len(ids)} records can be sent"
        group = list(placed.values())
        refused = lane.upsert(group[0].target, [one.record for one in group], lambda: None)
        assert not refused, refused
        return tally_of(ids, 0, group).count

    def _batches(self, source: str, size: int) -> Iterator[list[str]]:
        waiting: list[str] = []
        for page in self._lane().ids(source):
            waiting += page
            while len(waiting) >= size:
                yield waiting[:size]
                waiting = waiting[size:]
        if waiting:
            yield waiting

    def _lane(self) -> Lane:
        return unpaced(self._index, self._settings.request_deadline_seconds)

    def _placer(self, source: str, creator: str) -> Placer:
        move = PlannedMove(source=source, records=0, to=names.build(creator, source), creator=creator, twin=source)
        return Placer(source, move, Router(), Policies(), self._index)


_process: _Process | None = None


def _begin(settings: Settings, info: IndexInfo) -> None:
    global _process
    _process = _Process(settings, info)


def _copy(sources: Sequence[str], creator: str, batch: int) -> _Share:
    assert _process is not None, "the pool begins each process with it"
    return _process.copy(sources, creator, batch)
