"""The fleet under measurement: real processes on this machine, driven as an operator drives them."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
import sqlalchemy as sa

from migrations.creators import Grouping
from migrations.plan import Policies
from migrations.recipes import Common, CreatorsOptions, plan_creators
from orchestrator import applying, services
from orchestrator.bootstrap import Fleet
from orchestrator.embedded.foreground import endings_interrupt
from orchestrator.embedded.record import Record
from orchestrator.embedded.stack import Stack
from orchestrator.ledger import jobs
from orchestrator.states import JobState
from vecfleet.settings import Settings

WORKERS = 2
WHO = "benchmark"
_POLL_S = 0.02
_PATIENCE_S = 600.0
_FAILED = {JobState.NEEDS_ATTENTION, JobState.PAUSED, JobState.CANCELLED}
_NOTHING_SET = {"database_url": None, "redis_url": None, "pinecone_api_key": None, "pgvector_url": None}


@dataclass(frozen=True, slots=True)
class Running:
    """A fleet that runs, and where its processes are."""

    fleet: Fleet
    state_dir: Path
    environment: Mapping[str, str]

    @property
    def settings(self) -> Settings:
        return self.fleet.settings

    def cpu_seconds(self, role: str) -> float:
        """User and system time so far of every process of this role (`worker`, `emulator`, …) and its children."""
        record = Record.read(self.state_dir)
        assert record is not None, "a stack that runs is on record"
        every = [psutil.Process(one.pid) for one in record.processes if one.name.startswith(role)]
        every += [child for one in every for child in one.children(recursive=True)]
        return sum(sum(one.cpu_times()[:4]) for one in every)  # with that of children that ended, as Postgres has them


@dataclass(frozen=True, slots=True)
class JobTimes:
    """One job, by the database's clock. The first verification starts as soon as a namespace is copied."""

    records: int
    copied_s: float  # from the start of the job until its last batch is copied, listing included
    verified_s: float  # from `apply` until every target has its verdict
    verify_s: float  # a second verification, alone
    cpu_s: float  # of the worker processes, from `apply` until verified
    verify_cpu_s: float  # of the same, for the second verification
    emulator_cpu_s: float  # from `apply` until verified


@contextmanager
def running(state_dir: Path) -> Iterator[Running]:
    """Private Postgres and Redis, the emulator, a dispatcher and two workers; all gone afterwards."""
    settings = Settings.model_validate(_NOTHING_SET)
    stack = Stack(state_dir, workers=WORKERS, dispatcher=True, emulator=True, durable=False, settings=settings)
    with endings_interrupt(), stack:
        ours = {name.lower(): value for name, value in stack.environment.items()}
        environment = {**os.environ, **stack.environment}
        yield Running(Fleet(Settings.model_validate(_NOTHING_SET | ours)), state_dir, environment)


def migrate(running: Running, index: str, creator: str) -> JobTimes:
    """Plan, apply, wait until verified, verify once more. Raises where the job ends otherwise."""
    fleet = running.fleet
    policies = Policies(exclusive=True)  # nobody else uses this index
    options = CreatorsOptions(index=index, grouping=Grouping(creator=creator), common=Common(policies=policies))
    plan = plan_creators(fleet.store, options, now=datetime.now(UTC))
    cpu, emulator_cpu, began = running.cpu_seconds("worker"), running.cpu_seconds("emulator"), time.monotonic()
    job = applying.apply(fleet, plan, who=WHO, no_backup=True)
    reached(fleet, job, JobState.VERIFIED)
    verified_s = time.monotonic() - began
    cpu_s = running.cpu_seconds("worker") - cpu
    emulator_cpu_s = running.cpu_seconds("emulator") - emulator_cpu
    cpu, began = running.cpu_seconds("worker"), time.monotonic()
    services.verify(fleet.database, job, WHO)
    reached(fleet, job, JobState.VERIFIED)
    verify_s = time.monotonic() - began
    records, copied_s = copied_in(fleet, job)
    return JobTimes(
        records=records,
        copied_s=copied_s,
        verified_s=verified_s,
        verify_s=verify_s,
        cpu_s=cpu_s,
        verify_cpu_s=running.cpu_seconds("worker") - cpu,
        emulator_cpu_s=emulator_cpu_s,
    )


def applied(running: Running, index: str) -> int:
    """A job that regroups every namespace of an index, which nobody else uses."""
    policies = Policies(exclusive=True, cut_over="none", soak_seconds=0)
    options = CreatorsOptions(index=index, grouping=Grouping(creator=WHO), common=Common(policies=policies))
    plan = plan_creators(running.fleet.store, options, now=datetime.now(UTC))
    return applying.apply(running.fleet, plan, who=WHO, no_backup=True)


def verified_in(fleet: Fleet, job_id: int) -> tuple[int, float]:
    """Wait until a job is verified. How many records it copied, and the seconds from its start to the last of them."""
    reached(fleet, job_id, JobState.VERIFIED)
    return copied_in(fleet, job_id)


def end(fleet: Fleet, job_id: int) -> None:
    """Let go of a job's namespaces; both sides stay as they are."""
    services.cancel(fleet.database, job_id, WHO)
    reached(fleet, job_id, JobState.CANCELLED)


def reached(fleet: Fleet, job_id: int, state: JobState) -> None:
    """Wait until the job is there. Raises where it comes to rest elsewhere."""
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        with fleet.database.begin() as connection:
            job = jobs.get(connection, job_id)
        if job.state is state:
            return
        if job.state in _FAILED:
            raise RuntimeError(f"the job is {job.state}: {job.reason}")
        time.sleep(_POLL_S)
    raise RuntimeError(f"the job was not {state} within {_PATIENCE_S:g} s")


def copied_in(fleet: Fleet, job_id: int) -> tuple[int, float]:
    """How many records a job copied, and the seconds from its start to the last of them."""
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
