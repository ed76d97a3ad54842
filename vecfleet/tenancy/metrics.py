"""What one query was like: what clients report, and monitors, shadow reads and keep-alives read."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QueryMetrics:
    """One query: how long it took, where it went, what it gave; `error` is the name of what went wrong."""

    latency_ms: float
    namespace: str
    top_k: int
    result_count: int
    error: str | None = None


Observe = Callable[[QueryMetrics], None]
