"""Monitoring of queries: seed 003's monitor, on Prometheus metrics. Needs the extra `api`.

No metric is labelled with a namespace: with 12,000 of them each would be a series of its own, and would name its
tenant.
"""

import threading
import time
from collections import Counter as Counting
from collections import deque
from collections.abc import Callable, Sequence

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram

from vecfleet import logs
from vecfleet.tenancy import query_metrics
from vecfleet.tenancy.notifier import Notifier, Quiet
from vecfleet.tenancy.query_metrics import QueryMetrics
from vecfleet.tenancy.shadow_reads import EDGES_MS

log = logs.get_logger("vecfleet.tenancy")

SAMPLES = 10_000  # 80 KB of latencies: eight minutes at the 20 queries a second of the seeds
FEW = 100  # below this many samples a percentile is an anecdote
MOST_NAMESPACES = 100_000  # the quota of an index; queries of others are counted, and not by namespace
A_DAY_S = 86_400.0
QUIET_S = 300.0  # the same complaint at most every five minutes


class PineconeMonitor:
    """Counts queries and alerts a notifier past a threshold. Give its `record_query` to a client's `observe`.

    Names of namespaces, which may be tenants', are kept in memory for two days at most.
    """

    def __init__(
        self,
        notifier: Notifier | None = None,
        *,
        registry: CollectorRegistry = REGISTRY,
        samples: int = SAMPLES,
        quiet_s: float = QUIET_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.query_count = 0
        self.error_count = 0
        self.latencies: deque[float] = deque(maxlen=samples)
        self._notifier = notifier
        self._quiet = Quiet(quiet_s, clock)
        self._clock = clock
        self._today, self._yesterday, self._day_began = Counting[str](), Counting[str](), clock()
        self._lock = threading.Lock()
        self._queries = Counter("vecfleet_queries", "Queries of tenants, by outcome", ["outcome"], registry=registry)
        self._seconds = Histogram(
            "vecfleet_query_seconds",
            "How long a tenant's query took",
            buckets=[edge / 1000 for edge in EDGES_MS],
            registry=registry,
        )
        self._erasure = Histogram(
            "vecfleet_erasure_seconds",
            "How long erasing a tenant took",
            buckets=[1, 2, 5, query_metrics.ERASURE_TARGET_S, query_metrics.ERASURE_S, 60],
            registry=registry,
        )

    def record_query(self, metrics: QueryMetrics) -> None:
        """Count one query, and alert if it, or the errors so far, pass a threshold."""
        with self._lock:
            self.query_count += 1
            self.error_count += metrics.error is not None
            self.latencies.append(metrics.latency_ms)
            self._turn_the_day()
            if metrics.namespace in self._today or len(self._today) < MOST_NAMESPACES:
                self._today[metrics.namespace] += 1
            queries, errors = self.query_count, self.error_count
        self._queries.labels("error" if metrics.error else "ok").inc()
        self._seconds.observe(metrics.latency_ms / 1000)
        if metrics.error and errors / queries > query_metrics.ERROR_RATE:
            self._alert_once("errors", f"High error rate: {errors}/{queries}")
        if metrics.latency_ms > query_metrics.COLD_QUERY_MS:
            self._alert_once("cold", f"Cold query: {metrics.latency_ms:.0f}ms")
        elif metrics.latency_ms > query_metrics.P95_WARN_MS:
            self._alert_once("latency", f"High latency: {metrics.latency_ms:.0f}ms")
        if queries % FEW == 0:
            self._check_percentiles()

    def record_erasure(self, seconds: float) -> None:
        """Note how long erasing a tenant took, and alert if it took too long."""
        self._erasure.observe(seconds)
        if seconds > query_metrics.ERASURE_S:
            self._alert_once("erasure", f"Slow erasure: {seconds:.0f}s, over {query_metrics.ERASURE_S:g}s")

    def get_stats(self) -> dict[str, float]:
        """Return counts since the start, and percentiles in ms of the last samples. Empty before the first query."""
        with self._lock:
            ordered = sorted(self.latencies)
            queries, errors = self.query_count, self.error_count
        if not ordered:
            return {}
        return {
            "total_queries": queries,
            "error_count": errors,
            "error_rate": errors / queries,
            "p50_latency": percentile(ordered, 0.50),
            "p95_latency": percentile(ordered, 0.95),
            "p99_latency": percentile(ordered, 0.99),
        }

    def most_queried(self, count: int = 10) -> list[tuple[str, int]]:
        """Return the namespaces with the most queries of today and the day before, and how many each had."""
        with self._lock:
            self._turn_the_day()
            return (self._today + self._yesterday).most_common(count)

    def _turn_the_day(self) -> None:
        """Begin another day after 24 hours: what was counted before the last one is forgotten."""
        days = (self._clock() - self._day_began) // A_DAY_S
        if days:
            self._yesterday = self._today if days == 1 else Counting[str]()
            self._today = Counting[str]()
            self._day_began += days * A_DAY_S

    def _check_percentiles(self) -> None:
        stats = self.get_stats()
        p95, p99 = stats["p95_latency"], stats["p99_latency"]
        if p95 > query_metrics.P95_PAGE_MS:
            self._alert_once("p95 page", f"PAGE: p95 is {p95:.0f}ms, over {query_metrics.P95_PAGE_MS:g}ms")
        elif p95 > query_metrics.P95_WARN_MS:
            self._alert_once("p95", f"p95 is {p95:.0f}ms, over {query_metrics.P95_WARN_MS:g}ms")
        if p99 > query_metrics.P99_MS:
            self._alert_once("p99", f"p99 is {p99:.0f}ms, over {query_metrics.P99_MS:g}ms")

    def _alert_once(self, kind: str, message: str) -> None:
        with self._lock:
            may = self._quiet.may(kind)
        if may:
            self._alert(message)

    def _alert(self, message: str) -> None:
        """Tell the log, and the notifier if there is one."""
        log.warning("alert", message=message)
        if self._notifier is not None:
            self._notifier.send(f"[ALERT] {message}")


def percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
