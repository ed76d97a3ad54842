"""How long what was written may stay unseen, and for how long somebody may write by an old route: pure arithmetic."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Waits:
    """The two waits of this installation, in seconds: for reads to show a write, and for old routes to expire."""

    freshness_s: float
    routes_stale_s: float


def least_soak(waits: Waits) -> timedelta:
    """How long after a cut-over the sources stay at least: until no client writes there and reads show all."""
    return timedelta(seconds=waits.routes_stale_s + waits.freshness_s)
