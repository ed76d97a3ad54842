"""Whether a job has spent more than its plan's budget: a pure comparison of what was estimated and what was used."""

import math
from collections.abc import Iterator

from migrations.plan import Estimate
from vecfleet.stores.base import Usage

# Below this a job is too small for its estimate to be a yardstick: minimum charges and retries dominate.
_SMALL_READ_UNITS = 5_000.0
_SMALL_WRITE_UNITS = 50_000.0
_SMALL_EGRESS_BYTES = 1_000_000_000


SPENT = "the budget is used up"
"""How the reason of a job begins that its budget paused."""


def over_budget(estimate: Estimate, factor: float, used: Usage) -> str | None:
    """The sentence for the operator, or None while every figure is inside `factor` times its estimate."""
    for name, spent, expected in _figures(estimate, used):
        if spent > expected * factor:
            return (
                f"{SPENT}: {spent:,.0f} {name}, more than {factor:g} times the {expected:,.0f} expected; "
                "raise it and resume"
            )
    return None


def as_much_again(estimate: Estimate, used: Usage) -> int:
    """How many times its estimate a job may spend that is to spend once more what it has."""
    return math.ceil(2 * max(spent / expected for _, spent, expected in _figures(estimate, used)))


def _figures(estimate: Estimate, used: Usage) -> Iterator[tuple[str, float, float]]:
    """What is counted: its name, what was spent of it, and what was expected."""
    yield "read units", used.read_units, max(estimate.read_units, _SMALL_READ_UNITS)
    yield "write units", used.write_units, max(estimate.write_units, _SMALL_WRITE_UNITS)
    yield "bytes of egress", used.egress_bytes, max(estimate.egress_bytes, _SMALL_EGRESS_BYTES)
