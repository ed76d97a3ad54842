"""Figures of the fleet for `/metrics`, from the job table and the pace. By job, never by namespace."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from orchestrator.core.states import JobState
from orchestrator.ledger import dashboards
from orchestrator.ledger.dashboards import BUSY_EDGES_S, Figures, JobFigures
from orchestrator.ledger.database import Database
from orchestrator.telemetry.counters import (
    FRESHNESS_WAIT_MS,
    FRESHNESS_WAITS,
    LEASES_EXPIRED,
    MESSAGES_SET_ASIDE,
    Counters,
    calls,
)
from orchestrator.web.sampling import Sampler
from vecfleet.errors import Unreachable

# A reading takes every batch of the live jobs: a twentieth of the time at most, however many scrape.
_EVERY_S = 5.0
_REST_PER_READ = 20.0
# Not `job`: that label is Prometheus's own name for what it scrapes.
_JOB = "job_id"
_OUTCOMES = ("expected", "listed", "written", "identical", "gone", "parked", "left_behind", "erased", "deleted")

Value = tuple[Sequence[str], float]


class FleetCollector(Collector):
    """Reads the job table when it is scraped. While the table does not answer, it reports only that."""

    def __init__(
        self, database: Database, sampler: Sampler, queued: Callable[[], int], counted: Counters | None
    ) -> None:
        self._database, self._sampler, self._queued, self._counted = database, sampler, queued, counted
        self._lock = threading.Lock()
        self._read: Figures | None = None
        self._next_at = 0.0

    def collect(self) -> Iterable[Metric]:
        """Yield every metric, with `vecfleet_job_table_up` first."""
        try:
            figures = self._figures()
        except Unreachable:
            yield _gauge("vecfleet_job_table_up", "Whether the job table answers", (), [((), 0)])
            return
        yield _gauge("vecfleet_job_table_up", "Whether the job table answers", (), [((), 1)])
        yield from _of_the_fleet(figures, self._queued())
        yield from _of_jobs(figures.jobs)
        yield from _of_the_pace(self._sampler)
        yield from _counted((self._counted.read() if self._counted is not None else None) or {})

    def describe(self) -> Iterable[Metric]:
        """Return nothing: registering must not read the job table."""
        return ()

    def _figures(self) -> Figures:
        with self._lock:
            began = time.monotonic()
            if self._read is None or began >= self._next_at:
                with self._database.begin() as connection:
                    self._read = dashboards.read(connection)
                self._next_at = began + max(_EVERY_S, (time.monotonic() - began) * _REST_PER_READ)
            return self._read


def _of_the_fleet(figures: Figures, queued: int) -> Iterable[Metric]:
    yield _gauge("vecfleet_dispatcher_leads", "Whether a dispatcher leads", (), [((), figures.leads)])
    yield _gauge("vecfleet_queue_depth", "Wake-ups in Redis that no worker took yet", (), [((), queued)])
    states = [((state,), figures.by_state.get(state, 0)) for state in JobState]
    yield _gauge("vecfleet_jobs", "Jobs by state", ("state",), states)
    late = CounterMetricFamily("vecfleet_late_writes", "Writes that may have come after their lease was lost")
    late.add_metric((), figures.late_writes)
    yield late


def _of_jobs(jobs: Sequence[JobFigures]) -> Iterable[Metric]:
    """Yield metrics of the jobs given: those that are open, or were an hour ago."""

    def gauge(name: str, meaning: str, label: str | None, values: Callable[[JobFigures], Iterable[Value]]) -> Metric:
        labels = (_JOB, label) if label else (_JOB,)
        rows = [((str(job.row.id), *more), value) for job in jobs for more, value in values(job)]
        return _gauge(f"vecfleet_job_{name}", meaning, labels, rows)

    def by(kinds: Callable[[JobFigures], dict[str, int]]) -> Callable[[JobFigures], Iterable[Value]]:
        return lambda job: [((kind,), count) for kind, count in kinds(job).items()]

    def spent(figure: str) -> Callable[[JobFigures], Iterable[Value]]:
        return lambda job: [((kind,), getattr(step, figure)) for kind, step in job.steps.items()]

    yield gauge(
        "records",
        "Records by what became of them",
        "outcome",
        lambda job: [((name,), getattr(job.totals, name)) for name in _OUTCOMES],
    )
    yield gauge(
        "namespaces",
        "Source namespaces by state",
        "state",
        lambda job: [((str(state),), count) for state, count in job.totals.namespaces.items()],
    )
    yield gauge("batches", "Batches that are open or parked, by state", "state", by(lambda job: job.unsettled))
    yield gauge("batches_failing", "Batches that will be tried again, by error", "error", by(lambda job: job.failing))
    yield gauge("targets", "Targets by verdict", "verdict", by(lambda job: job.targets))
    yield gauge("findings", "Records that the last checks found wanting", "kind", by(lambda job: job.findings))
    yield gauge(
        "unproven_seconds", "How long the last write has waited for a verdict", None, lambda job: [((), job.unproven_s)]
    )
    yield gauge(
        "pace_share", "The share of the documented limits it may use", None, lambda job: [((), job.row.pace_share)]
    )
    yield gauge("cut_over_percent", "Readers on the new side", None, lambda job: [((), job.row.cut_over_percent)])
    yield gauge("requests", "Requests to the stores, by step", "step", spent("requests"))
    yield gauge("egress_bytes", "Bytes read from the stores, by step", "step", spent("egress_bytes"))
    yield gauge("read_units", "Read units, by step", "step", spent("read_units"))
    yield gauge("write_units", "Write units, by step", "step", spent("write_units"))
    yield _durations(jobs)


def _durations(jobs: Sequence[JobFigures]) -> Metric:
    histogram = HistogramMetricFamily(
        "vecfleet_job_batch_seconds", "How long workers were at work on a batch that is done", labels=(_JOB, "step")
    )
    for job in jobs:
        for kind, step in job.steps.items():
            buckets = [(str(edge), count) for edge, count in zip(BUSY_EDGES_S, step.within, strict=True)]
            histogram.add_metric((str(job.row.id), kind), [*buckets, ("+Inf", step.done)], step.busy_s)
    return histogram


def _of_the_pace(sampler: Sampler) -> Iterable[Metric]:
    factors = [((limit,), factor) for limit, factor in sampler.factors().items()]
    meaning = "The part of its share that the slowest allowance of a limit grants now"
    yield _gauge("vecfleet_pace_factor", meaning, ("limit",), factors)
    refused = CounterMetricFamily(
        "vecfleet_throttled_seconds", "Seconds in which a store answered 429, by limit", labels=("limit",)
    )
    for limit, seconds in sampler.refusals().items():
        refused.add_metric((limit,), seconds)
    yield refused


def _counted(counts: dict[str, int]) -> Iterable[Metric]:
    """Yield the counts of all workers and dispatchers together. They restart with an empty Redis, as counters may."""
    of_calls = CounterMetricFamily(
        "vecfleet_calls", "Calls to the stores by operation and answer", labels=("operation", "answer")
    )
    for labels, count in calls(counts).items():
        of_calls.add_metric(labels, count)
    yield of_calls
    counters: tuple[tuple[str, str, float], ...] = (
        ("leases_expired", "Leases that ran out: their workers stopped answering", counts.get(LEASES_EXPIRED, 0)),
        ("freshness_waits", "Looks at a store that did not yet show what was written", counts.get(FRESHNESS_WAITS, 0)),
        (
            "freshness_wait_seconds",
            "Seconds waited for such a store until the next look",
            counts.get(FRESHNESS_WAIT_MS, 0) / 1_000,
        ),
        ("messages_set_aside", "Messages in the broker that were no wake-ups", counts.get(MESSAGES_SET_ASIDE, 0)),
    )
    for name, meaning, value in counters:
        counter = CounterMetricFamily(f"vecfleet_{name}", meaning)
        counter.add_metric((), value)
        yield counter


def _gauge(name: str, meaning: str, labels: Sequence[str], values: Iterable[Value]) -> Metric:
    gauge = GaugeMetricFamily(name, meaning, labels=labels)
    for label_values, value in values:
        gauge.add_metric(label_values, value)
    return gauge
