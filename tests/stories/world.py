"""A whole fleet for one story: emulator, job table, Redis, a dispatcher and Celery workers, each a process of its own.

A story plans, applies and steers through the orchestrator's own functions, as the CLI does, and looks at what became
of the records through the emulator (`emulated`), which shares no code with the fleet.
"""

import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from migrations.creators import Grouping
from migrations.plan import Plan, Policies
from migrations.recipes import Common, CreatorsOptions, plan_creators
from orchestrator.bootstrap import Fleet
from orchestrator.cli.watching import look
from orchestrator.core import manifests
from orchestrator.core.model import Job, Move, Target
from orchestrator.core.states import BatchKind, BatchState, JobState
from orchestrator.embedded.process import Process
from orchestrator.ledger import jobs, moves, parked
from orchestrator.ledger import tables as t
from orchestrator.services import apply as applying
from tests.stories.emulated import CREATOR, Emulator, Rows, row
from tests.stories.launching import Launch, cold, warm
from vecfleet.errors import Unreachable
from vecfleet.settings import Settings

SEEDS = "digital-twin-brain"
SMALL = "small"
WHO = "a person"

NOW = datetime.now(UTC)

PATIENCE_S = 300.0  # what stories wait for takes seconds; two slow cores under a load of twenty need this
POLL_S = 0.05
FATAL = "Fatal Python error"


class World:
    """Everything a story needs. `settings` are environment variables of every process, in lower case."""

    def __init__(
        self,
        folder: Path,
        emulator: Emulator,
        database_url: str,
        redis_url: str,
        launch: Launch = warm,
        **settings: float | str,
    ) -> None:
        self.folder = folder
        self.emulator = emulator
        self.launch = launch
        own = {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "PINECONE_API_KEY": "any",
            "PINECONE_CONTROLLER_HOST": emulator.address,
            "VECFLEET_ROOT": str(folder),
            "VECFLEET_HOME": str(folder / "home"),
            # A request answers in milliseconds here, and on a busy machine in seconds, in which no lease may be lost;
            # those of a worker that was killed need not be waited for (`lapse`).
            "REQUEST_DEADLINE_SECONDS": "10",
            "LEASE_SECONDS": "30",
            "FRESHNESS_WAIT_SECONDS": "1",
            "ROUTES_STALE_SECONDS": "1",
            "LOG_LEVEL": "WARNING",
            **{name.upper(): str(value) for name, value in settings.items()},
        }
        os_only = {"PYTHONFAULTHANDLER": "1"}  # a process that crashes says in its log where
        self.env = {**os.environ, **os_only, **own}
        self.fleet = Fleet(Settings(**{name.lower(): value for name, value in own.items()}))  # type: ignore[arg-type]
        self.workers: list[Process] = []
        self.dispatchers: list[Process] = []
        self.filled_at = 0

    # Processes

    def start(self, workers: int = 2, dispatchers: int = 1) -> "World":
        for _ in range(workers):
            self.start_worker()
        for _ in range(dispatchers):
            self.start_dispatcher()
        return self

    def start_worker(self, *options: str) -> Process:
        name = f"worker{len(self.workers) + 1}"
        self.workers.append(self._launch(name, ["orchestrator", "worker", *options]))
        return self.workers[-1]

    def start_celery(self, *typed: str) -> Process:
        """A worker started as somebody does who knows Celery: `celery -A workers worker …`."""
        name = f"worker{len(self.workers) + 1}"
        words = typed or ("-A", "workers", "worker")
        self.workers.append(cold(name, "celery", *words, log=self.folder / f"{name}.log", env=self.env))
        return self.workers[-1]

    def start_dispatcher(self) -> Process:
        name = f"dispatcher{len(self.dispatchers) + 1}"
        self.dispatchers.append(self._launch(name, ["orchestrator", "dispatcher"]))
        return self.dispatchers[-1]

    def _launch(self, name: str, command: list[str]) -> Process:
        log = self.folder / f"{name}.log"
        return self.launch(name, *command, log=log, env=self.env)

    def kill(self, process: Process) -> None:
        self._signal(process, signal.SIGKILL)
        assert process.child is not None
        process.child.wait(timeout=PATIENCE_S)

    def freeze(self, process: Process) -> None:
        self._signal(process, signal.SIGSTOP)

    def thaw(self, process: Process) -> None:
        self._signal(process, signal.SIGCONT)

    def lapse(self, process: Process) -> None:
        """The leases of a worker that is dead, or frozen, are over: as if so much time had passed.

        So are the deadlines of deletions that it sent and nobody answered: what could land has landed.
        """
        held = sa.func.split_part(t.batch.c.lease_owner, ":", 2) == str(process.pid)
        now = sa.func.clock_timestamp()
        landed = sa.case((t.batch.c.lands_by.is_not(None), now))
        over = sa.update(t.batch).where(held).values(lease_until=now, lands_by=landed)
        with self.fleet.database.begin() as connection:
            connection.execute(over)

    @staticmethod
    def _signal(process: Process, number: int) -> None:
        assert process.alive(), f"{process.name} is gone: {process.log_tail()}"
        os.kill(process.pid, number)

    def close(self) -> None:
        """Everything started here is stopped, whatever happened. None may have crashed, even if nobody missed it."""
        processes = [*self.workers, *self.dispatchers]
        for process in processes:
            if process.alive():
                os.kill(process.pid, signal.SIGCONT)
                os.kill(process.pid, signal.SIGKILL)  # nothing to wait for: dying at any time is what it must survive
        for process in processes:
            process.stop(patience_s=10)
        self.fleet.database.dispose()
        self.emulator.stop()
        crashed = [f"{one.name}: {crash(one)}" for one in processes if FATAL in one.log.read_text(errors="replace")]
        assert not crashed, "\n".join(crashed)

    # What a person does

    def plan(
        self, index: str = SEEDS, *, grouping: Grouping | None = None, skip: tuple[str, ...] = (), **policies: Any
    ) -> Plan:
        """All namespaces of an index become one creator's twins, unless told otherwise."""
        options = CreatorsOptions(
            index=index,
            grouping=grouping or Grouping(creator=CREATOR),
            common=Common(policies=Policies(**{"soak_seconds": 0, **policies}), skip=skip),
        )
        return plan_creators(self.fleet.store, options, now=NOW)

    def fill(self, **namespaces: int) -> dict[str, Rows]:
        """A small index, SMALL, with so many records in each namespace. Gives what it holds."""
        self.emulator.create_index(SMALL)
        for name, count in namespaces.items():
            rows = [row(f"{name}-{n}", chunk_text=f"größer als {n} 🚀", page=n, tags=["a", "ö"]) for n in range(count)]
            self.emulator.write(SMALL, name, rows)
        self.filled_at = self.emulator.last_call()
        return self.emulator.dump(SMALL)

    def apply(self, plan: Plan) -> int:
        return applying.apply(self.fleet, plan, who=WHO, no_backup=True)

    def later(self, by: timedelta) -> None:
        """Make the job table as it is so much later, where nothing happened meanwhile."""
        with self.fleet.database.begin() as connection:
            made_at, cut_over_at = t.job.c.created_at - by, t.job.c.cut_over_at - by
            connection.execute(sa.update(t.job).values(created_at=made_at, cut_over_at=cut_over_at))
            connection.execute(sa.update(t.target).values(verdict_at=t.target.c.verdict_at - by))

    # What there is to see

    def job(self, job_id: int) -> Job:
        with self.fleet.database.begin() as connection:
            return jobs.get(connection, job_id)

    def moves(self, job_id: int) -> list[Move]:
        with self.fleet.database.begin() as connection:
            return moves.of_job(connection, job_id)

    def move(self, job_id: int, source: str) -> Move:
        return next(move for move in self.moves(job_id) if move.source == source)

    def waits(self, job_id: int) -> str:
        """Return why it waits, in the words a person sees."""
        return "; ".join(look(self.fleet, job_id, namespaces=0).waits)

    def targets(self, job_id: int) -> dict[str, Target]:
        with self.fleet.database.begin() as connection:
            return {target.namespace: target for target in moves.targets_of_job(connection, job_id)}

    def parked(self, job_id: int) -> dict[tuple[str, str], str]:
        """(source, record) → why, for every parked record."""
        with self.fleet.database.begin() as connection:
            return {(one.source, one.record_id): one.reason for one in parked.records(connection, job_id)}

    def batches(self, job_id: int, *states: BatchState, kind: BatchKind | None = None) -> list[dict[str, Any]]:
        """Rows of the batch table, with the record ids of each under `ids` and its source under `source`."""
        query = (
            sa.select(t.batch, t.move.c.source)
            .outerjoin(t.move, t.move.c.id == t.batch.c.move_id)
            .where(t.batch.c.job_id == job_id)
            .order_by(t.batch.c.id)
        )
        if states:
            query = query.where(t.batch.c.state.in_(states))
        if kind is not None:
            query = query.where(t.batch.c.kind == kind)
        with self.fleet.database.begin() as connection:
            rows = [dict(row._mapping) for row in connection.execute(query)]
        return [row | {"ids": manifests.unpack(row["manifest"]) if row["manifest"] else []} for row in rows]

    def holder(self, batch: dict[str, Any]) -> Process:
        """The worker that has this batch on lease."""
        pid = int(str(batch["lease_owner"]).split(":")[1])
        return next(worker for worker in self.workers if worker.pid == pid)

    def leader(self) -> Process:
        """The dispatcher that leads."""
        with self.fleet.database.begin() as connection:
            owner: str = connection.execute(sa.select(t.leader.c.owner)).scalar_one()
        return next(process for process in self.dispatchers if process.pid == int(owner.split(":")[1]))

    def assert_all_alive(self) -> None:
        """No process that was started has ended."""
        ended = [process for process in [*self.workers, *self.dispatchers] if not process.alive()]
        assert not ended, "\n".join(f"{one.name} ended {one.ending()}. {crash(one)}" for one in ended)

    def assert_accounts(self, job_id: int) -> None:
        """listed = written + identical + gone + parked + left behind, move by move; the totals fit the plan."""
        for move in self.moves(job_id):
            assert move.listed == move.settled, f"{move.source}: {move.listed} listed, {move.settled} accounted for"

    # Waiting

    def until_all_answer(self) -> None:
        """Every worker that was started takes wake-ups by now: none of them comes too late for a short job."""
        asked = self.fleet.celery.control
        self.until("every worker answers", lambda: len(asked.ping(timeout=0.5)) == len(self.workers))

    def until(self, what: str, holds: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
        """Return what `holds` gives as soon as it is true. Fails with what every job says of itself when it never is.

        A story that stops Postgres cuts the story's own connections too: an unanswered look is no answer yet.
        """
        deadline = time.monotonic() + patience_s
        while not (answer := self._unless_cut(holds)):
            assert time.monotonic() < deadline, f"waited {patience_s:g} s in vain: {what}\n{self.explain()}"
            time.sleep(POLL_S)
        return answer

    @staticmethod
    def _unless_cut(holds: Callable[[], Any]) -> Any:
        try:
            return holds()
        except Unreachable:
            return None

    def reaches(self, job_id: int, *states: JobState, patience_s: float = PATIENCE_S) -> Job:
        """The job, once it is in one of these states."""
        wanted = " or ".join(states)
        self.until(f"job {job_id} is {wanted}", lambda: self.job(job_id).state in states, patience_s)
        return self.job(job_id)

    def explain(self) -> str:
        lines = []
        with self.fleet.database.begin() as connection:
            for job in jobs.every(connection):
                lines.append(f"job {job.id} is {job.state}: {job.reason}")
                counts = moves.counts_by_state(connection, job.id)
                lines.append("  moves: " + ", ".join(f"{n} {state}" for state, n in counts.items()))
                for batch in connection.execute(
                    sa.select(t.batch).where(t.batch.c.job_id == job.id, t.batch.c.state != "done").limit(12)
                ):
                    lines.append(
                        f"  batch {batch.id} ({batch.kind}, move {batch.move_id}, {batch.size} ids) is {batch.state}, "
                        f"attempt {batch.attempts}: {batch.error_class} {batch.error_text}"
                    )
        lines += [process.log_tail() for process in [*self.workers, *self.dispatchers]]
        return "\n".join(lines)


def crash(process: Process) -> str:
    """Return where each thread of the interpreter was at its crash, or else the end of the log."""
    _, fatal, threads = process.log.read_text(errors="replace").partition(FATAL)
    return fatal + threads if fatal else process.log_tail()


OpenWorld = Callable[..., World]
"""`open_world(*options of the emulator, **settings)`."""
