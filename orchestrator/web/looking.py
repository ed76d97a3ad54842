"""Gather what the page shows of a job: one look at the job table, however many viewers there are."""

import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace

from orchestrator.core.progress import progress
from orchestrator.core.reading import JobRow, Reading, Totals
from orchestrator.ledger import audit, dashboards, index_acts, jobs, parked, rollout, status
from orchestrator.ledger.dashboards import Throughput
from orchestrator.ledger.database import Database
from orchestrator.ledger.index_acts import Filling
from orchestrator.web.acting import against
from orchestrator.web.offering import Action, actions
from orchestrator.web.sampling import Sampler
from orchestrator.web.views import SHOWN, JobView, shadow

_TOLD = 30  # rows in the table of the most telling namespaces
_ACTS, _COMMENTS = 8, 3
# Reading every batch of a job for the chart takes a tenth of the time at most.
_REST_PER_CHART = 10.0
_CHART_EVERY_S = 1.0
# Guards read every namespace of a job, at 0.1 ms each. For a larger job they read only its row, until the button is
# pressed.
_GUARDS_READ = 2_000
_REST_PER_GUARDS = 10.0
_GUARDS_EVERY_S = 1.0
_RATE_OVER_S = 5.0


@dataclass
class _Memory:
    """Facts kept about a job between looks: the last seconds' readings, for the rate; its chart; its acts."""

    readings: deque[Reading] = field(default_factory=deque)
    throughput: Throughput | None = None
    next_chart_at: float = 0.0
    actions: tuple[Action, ...] = ()
    against_retry: tuple[str, ...] = ()
    actions_of: tuple[object, ...] = ()
    next_guards_at: float = 0.0


class Looker:
    """Looks at jobs. Shared by threads."""

    def __init__(self, database: Database, sampler: Sampler, freshness_wait_s: float) -> None:
        self._database, self._sampler, self._freshness_wait_s = database, sampler, freshness_wait_s
        self._lock = threading.Lock()
        self._memories: dict[int, _Memory] = {}

    def jobs(self) -> list[tuple[JobRow, Totals]]:
        """Return all jobs, the newest first. Raises Unreachable."""
        with self._database.begin() as connection:
            return status.every(connection)

    def fillings(self) -> list[Filling]:
        """Return what the service converts or imports for jobs to come. Raises Unreachable."""
        with self._database.begin() as connection:
            return index_acts.shown(connection)

    def look(self, job_id: int) -> JobView:
        """Return one job as it is right now. Raises NotFound, Unreachable."""
        with self._database.begin() as connection:
            reading = status.reading(connection, job_id, namespaces=_TOLD)
            cells = dashboards.cells(connection, job_id)
            batches = parked.batches(connection, job_id)[:SHOWN]
            records = parked.records(connection, job_id, SHOWN)
            decided = parked.count(connection, job_id) - reading.undecided
            step = rollout.current(connection, job_id)
            acts = audit.of_job(connection, job_id, _ACTS)
            comments = audit.of_job(connection, job_id, _COMMENTS, action=audit.COMMENT)
        with self._lock:
            memory = self._memories.setdefault(job_id, _Memory())
            earlier = _earlier(memory.readings, reading)
        self._ask_guards(memory, reading, decided, glance=len(cells) > _GUARDS_READ)
        return JobView(
            progress=progress(
                reading,
                earlier,
                broker_answers=self._sampler.broker_answers,
                freshness_wait_s=self._freshness_wait_s,
            ),
            cells=tuple(cells),
            batches=tuple(batches),
            records=tuple(records),
            shadow=shadow(step),
            acts=tuple(acts),
            comments=tuple(comments),
            throughput=self._throughput(memory, job_id),
            samples=tuple(self._sampler.of_job(job_id)),
            actions=memory.actions,
            against_retry=memory.against_retry,
            decided=decided,
        )

    def _ask_guards(self, memory: _Memory, reading: Reading, decided: int, *, glance: bool) -> None:
        """Ask the guard of each act that the page offers: again when the job changed, and from time to time."""
        job, offered = reading.job, tuple(actions(reading, decided))
        key = (job.state, job.resume_to, offered)
        began = time.monotonic()
        if key != memory.actions_of or began >= memory.next_guards_at:
            with self._database.begin() as connection:
                stored_job = jobs.get(connection, job.id)
                asked = [
                    replace(action, against=against(connection, stored_job, action.name, action.percent, glance=glance))
                    for action in offered
                ]
                memory.against_retry = against(connection, stored_job, "retry")
            # A decision that is final is shown as what stays behind, and not as a button.
            memory.actions = tuple(action for action in asked if action.name != "undo" or not action.against)
            memory.actions_of = key
            memory.next_guards_at = began + max(_GUARDS_EVERY_S, (time.monotonic() - began) * _REST_PER_GUARDS)

    def _throughput(self, memory: _Memory, job_id: int) -> Throughput | None:
        began = time.monotonic()
        if began >= memory.next_chart_at:
            with self._database.begin() as connection:
                memory.throughput = dashboards.throughput(connection, job_id)
            took = time.monotonic() - began
            memory.next_chart_at = began + max(_CHART_EVERY_S, took * _REST_PER_CHART)
        return memory.throughput


def _earlier(readings: deque[Reading], newest: Reading) -> Reading | None:
    """Return the reading that a rate is counted from: the oldest within the period, or else the one before."""
    readings.append(newest)
    while len(readings) > 2 and (newest.now - readings[0].now).total_seconds() > _RATE_OVER_S:
        readings.popleft()
    return readings[0] if len(readings) > 1 else None
