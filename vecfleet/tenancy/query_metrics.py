"""Metrics of a query as clients report them, and the thresholds for alerts."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QueryMetrics:
    """One query: its duration, its namespace and its result count; `error` is the name of the error."""

    latency_ms: float
    namespace: str
    top_k: int
    result_count: int
    error: str | None = None


Observe = Callable[[QueryMetrics], None]

# Thresholds of the seeds, above or below which somebody is alerted. Alert rules, monitor and roll-out read them here.
MIGRATION_SUCCESS = 0.99  # share of records that reached their target; below: alert (seed 001; the target is 1)
COUNT_MATCH = 1.0  # share of targets whose count is the source's; below: alert (seed 001)
P95_WARN_MS = 100.0  # seeds 000 and 003: the promise to readers
P95_PAGE_MS = 150.0  # seed 001
P99_MS = 200.0  # seed 003
COLD_QUERY_MS = 500.0  # seed 003, issue 6: the first query of a namespace that nobody asked for a while
ERROR_RATE = 0.01  # seed 003
ERASURE_S = 30.0  # seed 001: above this, alert
ERASURE_TARGET_S = 10.0  # seed 001
