"""The budget: what a job may spend, as a factor on its estimate. Pure."""

import math
from collections.abc import Iterator

from migrations.plan import Estimate
from vecfleet.stores.base import Usage

# Figures below these are not held against the estimate: minimum charges and retries dominate a small job.
_SMALL_READ_UNITS = 5_000.0
_SMALL_WRITE_UNITS = 50_000.0
_SMALL_EGRESS_BYTES = 1_000_000_000


SPENT = "the budget is used up"
"""Start of the reason of a job that its budget paused."""


def over_budget(estimate: Estimate, factor: float, used: Usage) -> str | None:
    """Return the sentence for the operator, or None while every figure is within `factor` times its estimate."""
    for name, spent, expected in _figures(estimate, used):
        if spent > expected * factor:
            return (
                f"{SPENT}: {spent:,.0f} {name}, more than {factor:g} times the {expected:,.0f} expected; "
                "raise it and resume"
            )
    return None


def as_much_again(estimate: Estimate, used: Usage) -> int:
    """Return the budget factor that lets a job spend as much again as it has spent."""
    return math.ceil(2 * max(spent / expected for _, spent, expected in _figures(estimate, used)))


def _figures(estimate: Estimate, used: Usage) -> Iterator[tuple[str, float, float]]:
    """Yield each counted figure: its name, the amount spent, the amount expected."""
    yield "read units", used.read_units, max(estimate.read_units, _SMALL_READ_UNITS)
    yield "write units", used.write_units, max(estimate.write_units, _SMALL_WRITE_UNITS)
    yield "bytes of egress", used.egress_bytes, max(estimate.egress_bytes, _SMALL_EGRESS_BYTES)
