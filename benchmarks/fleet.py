"""The fleet under measurement: real processes on this machine, driven as an operator drives them."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import sqlalchemy as sa

from migrations.creators import Grouping
from migrations.plan import Plan, Policies
from migrations.recipes import Common, CreatorsOptions, plan_creators
from orchestrator.bootstrap import Fleet
from orchestrator.core.states import JobState
from orchestrator.embedded.foreground import endings_interrupt
from orchestrator.embedded.record import StackRecord
from orchestrator.embedded.stack import Stack
from orchestrator.ledger import jobs
from orchestrator.services import acts, apply
from vecfleet import names
from vecfleet.settings import Settings

WORKERS = 2
WHO = "benchmark"
_POLL_S = 0.02
_PATIENCE_S = 3_600.0  # 12,000 namespaces take ten minutes on two quiet cores
_FAILED = {JobState.NEEDS_ATTENTION, JobState.PAUSED, JobState.CANCELLED}
_NOTHING_SET = {"database_url": None, "redis_url": None, "pinecone_api_key": None, "pgvector_url": None}


@dataclass(frozen=True, slots=True)
class Running:
    """A fleet that runs, and where its processes are."""

    fleet: Fleet
    state_dir: Path
    environment: Mapping[str, str]
    administrator_url: str = ""  # of the job table, for what the fleet's own role may not

    @property
    def settings(self) -> Settings:
        return self.fleet.settings

    def processes(self, role: str) -> list[psutil.Process]:
        """Every process of this role (`worker`, `emulator`, …) and its children."""
        record = StackRecord.read(self.state_dir)
        assert record is not None, "a stack that runs is on record"
        every = [psutil.Process(one.pid) for one in record.processes if one.name.startswith(role)]
        return every + [child for one in every for child in one.children(recursive=True)]

    def cpu_seconds(self, role: str) -> float:
        """User and system time so far of every process of this role."""
        # With that of children that ended, as Postgres has them.
        return sum(sum(one.cpu_times()[:4]) for one in self.processes(role))

    def last_call(self) -> int:
        """Return the number of the newest request that the emulator answered; they are counted from 1."""
        return int(self._called({"counts": "1"})["last_seq"])

    def calls(self, since: int, **where: str) -> list[dict[str, Any]]:
        """Return the requests after that one: those of one `operation`, about one `index`, where these are given."""
        answer = self._called({"since": str(since), **where})
        if answer["dropped"] > since:
            raise RuntimeError("the emulator has forgotten some of these calls: they are too many to be counted")
        found: list[dict[str, Any]] = answer["calls"]
        return found

    def _called(self, asked: Mapping[str, str]) -> dict[str, Any]:
        url = f"{self.settings.pinecone_controller_host}/_emulator/calls"
        answer: dict[str, Any] = httpx.get(url, params=dict(asked), timeout=60).raise_for_status().json()
        return answer


@dataclass(frozen=True, slots=True)
class Copied:
    """A job's copying, without its proof."""

    records: int
    seconds: float  # from the start of the job until its last batch is copied, listing included; the database's clock
    cpu_s: float  # of the worker processes, from `apply` until all is copied

    @property
    def per_second(self) -> float:
        return self.records / self.seconds

    @property
    def cpu_ms(self) -> float:
        """For a record."""
        return self.cpu_s / self.records * 1e3


@dataclass(frozen=True, slots=True)
class JobTimes:
    """One whole job. The first verification starts as soon as a namespace is copied."""

    copied: Copied  # its CPU with that of the first verification, from `apply` until verified
    verified_s: float  # from `apply` until every target has its verdict
    verify_s: float  # a second verification, alone
    verify_cpu_s: float  # of the worker processes, for it
    emulator_cpu_s: float  # from `apply` until verified


@contextmanager
def running(state_dir: Path, reads_lag_s: float = 0.0, load: str | None = None) -> Iterator[Running]:
    """Private Postgres and Redis, the emulator, a dispatcher and two workers; all gone afterwards.

    `load`: the emulator's first content.
    """
    settings = Settings.model_validate(_NOTHING_SET)
    parts = {"workers": WORKERS, "dispatcher": True, "emulator": True, "load": load, "durable": False}
    stack = Stack(state_dir, **parts, reads_lag_s=reads_lag_s, settings=settings)  # type: ignore[arg-type]
    with endings_interrupt(), stack:
        ours = {name.lower(): value for name, value in stack.environment.items()}
        environment = {**os.environ, **stack.environment}
        assert stack.postgres is not None
        yield Running(Fleet(Settings.model_validate(_NOTHING_SET | ours)), state_dir, environment, stack.postgres.url)


def copied(running: Running, index: str, sources: Sequence[str], creator: str) -> Copied:
    """Copy these namespaces to a creator's, with digests and checks for conflicts as in every job. What follows is a
    verification of ids alone, which is hardly any work beside it.
    """
    cpu = running.cpu_seconds("worker")
    job = applied(running, index, sources, creator, verify="ids")
    reached(running.fleet, job, JobState.COPIED, JobState.VERIFIED)
    used = running.cpu_seconds("worker") - cpu
    records, seconds = verified_in(running.fleet, job)
    end(running.fleet, job)
    return Copied(records, seconds, used)


def migrate(running: Running, index: str, sources: Sequence[str], creator: str, **more: Any) -> JobTimes:
    """Plan, apply, wait until verified, verify once more. Raises where the job ends otherwise."""
    fleet = running.fleet
    cpu, emulator_cpu, began = running.cpu_seconds("worker"), running.cpu_seconds("emulator"), time.monotonic()
    job = applied(running, index, sources, creator, **more)
    records, seconds = verified_in(fleet, job)
    verified_s = time.monotonic() - began
    cpu_s = running.cpu_seconds("worker") - cpu
    emulator_cpu_s = running.cpu_seconds("emulator") - emulator_cpu
    cpu, began = running.cpu_seconds("worker"), time.monotonic()
    acts.verify(fleet.database, job, WHO)
    reached(fleet, job, JobState.VERIFIED)
    verify_s = time.monotonic() - began
    verify_cpu_s = running.cpu_seconds("worker") - cpu
    end(fleet, job)
    return JobTimes(Copied(records, seconds, cpu_s), verified_s, verify_s, verify_cpu_s, emulator_cpu_s)


def planned(running: Running, index: str, sources: Sequence[str] = (), creator: str = WHO, **more: Any) -> Plan:
    """A plan that regroups these namespaces of an index, or all of them; nobody else uses it. `more`: policies."""
    policies = Policies(**{"exclusive": True, "cut_over": "none", "soak_seconds": 0, **more})
    common = Common(policies=policies, only=tuple(sources))
    options = CreatorsOptions(index=index, grouping=Grouping(creator=creator), common=common)
    return plan_creators(running.fleet.store, options, now=datetime.now(UTC))


def applied(running: Running, index: str, sources: Sequence[str] = (), creator: str = WHO, **more: Any) -> int:
    """The job of such a plan."""
    return apply.apply(running.fleet, planned(running, index, sources, creator, **more), who=WHO, no_backup=True)


def drop(running: Running, index: str, sources: Sequence[str], creator: str) -> None:
    """The creator's copies go again, so that a next one finds as much room."""
    opened = running.fleet.store.open(running.fleet.store.describe(index))
    for source in sources:
        opened.delete_namespace(names.build(creator, source))


@contextmanager
def late(running: Running, index: str, delay_ms: int) -> Iterator[None]:
    """Every answer about this index comes so much later meanwhile."""
    faults = f"{running.settings.pinecone_controller_host}/_emulator/faults"
    httpx.post(faults, json={"operation": "*", "index": index, "delay_ms": delay_ms}).raise_for_status()
    try:
        yield
    finally:
        httpx.delete(faults).raise_for_status()


def verified_in(fleet: Fleet, job_id: int) -> tuple[int, float]:
    """Wait until a job is verified. How many records it copied, and the seconds from its start to the last of them."""
    reached(fleet, job_id, JobState.VERIFIED)
    return copied_in(fleet, job_id)


def end(fleet: Fleet, job_id: int) -> None:
    """Let go of a job's namespaces; both sides stay as they are."""
    acts.cancel(fleet.database, job_id, WHO)
    reached(fleet, job_id, JobState.CANCELLED)


def reached(fleet: Fleet, job_id: int, *states: JobState) -> None:
    """Wait until the job is in one of these. Raises where it comes to rest elsewhere."""
    until = time.monotonic() + _PATIENCE_S
    # Its state alone: fifty times a second the whole row took a few per cent of the processors from what is measured.
    look = sa.text("SELECT state FROM job WHERE id = :job")
    while time.monotonic() < until:
        with fleet.database.once() as connection:
            state = JobState(connection.execute(look, {"job": job_id}).scalar_one())
        if state in states:
            return
        if state in _FAILED:
            with fleet.database.once() as connection:
                reason = jobs.reason_of(connection, job_id)
            raise RuntimeError(f"the job is {state}: {reason}")
        time.sleep(_POLL_S)
    raise RuntimeError(f"the job was not {' or '.join(states)} within {_PATIENCE_S:g} s")


def copied_in(fleet: Fleet, job_id: int) -> tuple[int, float]:
    """Return how many records a job copied, and the seconds from its start to the last of them."""
    with fleet.database.begin() as connection:
        row = connection.execute(
            sa.text(
                "SELECT (SELECT sum(written) FROM move WHERE job_id = job.id) AS records,"
                " extract(epoch FROM (SELECT max(done_at) FROM batch WHERE job_id = job.id AND kind = 'copy')"
                " - started_at) AS seconds FROM job WHERE id = :job"
            ),
            {"job": job_id},
        ).one()
    return int(row.records), float(row.seconds)
