"""The pace over the last minutes, sampled while `vecfleet serve` runs: the job table does not keep it."""

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

import structlog
from fastapi.concurrency import run_in_threadpool

from orchestrator import pace_view
from orchestrator.ledger import dashboards
from orchestrator.ledger.dashboards import Paced
from orchestrator.ledger.database import Database
from orchestrator.pace_view import Allowance, PaceReader, scope_of
from vecfleet.errors import Unreachable

log = structlog.get_logger("vecfleet.web")

EVERY_S = 1.0
KEPT = 600  # samples: ten minutes
_JOBS_KEPT = 50
_NAMESPACES = 20  # of those written to just now; a few of them show a slow-down
_OF_SOURCE = ("fetch", "list")
_OF_NAMESPACE = ("upsert", "upsert_bytes", "delete", "deleted")


@dataclass(frozen=True, slots=True)
class Sample:
    """`pace`: the share of the documented limits that the slowest allowance grants now. `refused`: a 429 since."""

    pace: float
    refused: bool


class Sampler:
    """Takes a sample of each working job's pace every second. Shared by threads."""

    def __init__(self, database: Database, reader: PaceReader | None) -> None:
        self._database, self._reader = database, reader
        self._lock = threading.Lock()
        self._samples: dict[int, deque[Sample]] = {}
        self._refused_us: dict[str, int] = {}
        self._factors: dict[str, float] = {}
        self._refusals: Counter[str] = Counter()
        self.broker_answers = True

    def of_job(self, job_id: int) -> list[Sample]:
        with self._lock:
            return list(self._samples.get(job_id, ()))

    def factors(self) -> Mapping[str, float]:
        """Return, by limit, the least allowance any working job has now."""
        with self._lock:
            return dict(self._factors)

    def refusals(self) -> Mapping[str, int]:
        """Return, by limit, in how many samples since the start a 429 was seen."""
        with self._lock:
            return dict(self._refusals)

    async def run(self) -> None:
        """Sample until cancelled. After an error, try again a second later."""
        while True:
            try:
                await run_in_threadpool(self.sample)
            except Unreachable as error:
                log.debug("no sample was taken", why=error.message)
            await asyncio.sleep(EVERY_S)

    def sample(self) -> None:
        """Take one sample. Raises Unreachable."""
        with self._database.begin() as connection:
            jobs = dashboards.paced(connection, _NAMESPACES)
        keys = {job.job_id: _keys(job) for job in jobs}
        every = sorted(set().union(*keys.values()))
        read = self._reader.read(every) if self._reader is not None else {}
        with self._lock:
            self.broker_answers = read is not None
            if read is not None:
                self._note(jobs, keys, read)

    def _note(self, jobs: list[Paced], keys: Mapping[int, set[str]], read: Mapping[str, Allowance]) -> None:
        fresh = {key for key, seen in read.items() if self._refused_us.get(key, seen.refused_us) != seen.refused_us}
        self._refused_us = {key: seen.refused_us for key, seen in read.items()}
        self._factors = {}
        for key, seen in read.items():
            limit = key.split(":")[2]
            self._factors[limit] = min(seen.factor, self._factors.get(limit, 1.0))
        self._refusals.update(key.split(":")[2] for key in fresh)
        for job in jobs:
            job_keys = keys[job.job_id]
            factor = min((read[key].factor for key in job_keys & read.keys()), default=1.0)
            kept = self._samples.setdefault(job.job_id, deque(maxlen=KEPT))
            kept.append(Sample(job.share * factor, bool(fresh & job_keys)))
        while len(self._samples) > _JOBS_KEPT:
            del self._samples[next(iter(self._samples))]


def _keys(job: Paced) -> set[str]:
    scopes = [(name, job.source_host) for name in _OF_SOURCE]
    scopes += [(name, scope_of(job.target_host, namespace)) for namespace in job.written for name in _OF_NAMESPACE]
    return {pace_view.key(name, scope) for name, scope in scopes}
