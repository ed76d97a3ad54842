"""Whether a job has spent more than its plan's budget: a pure comparison of what was estimated and what was used."""

from migrations.plan import Estimate
from vecfleet.stores.base import Usage

# Below this a job is too small for its estimate to be a yardstick: minimum charges and retries dominate.
_SMALL_READ_UNITS = 5_000.0
_SMALL_WRITE_UNITS = 50_000.0
_SMALL_EGRESS_BYTES = 1_000_000_000


def over_budget(estimate: Estimate, factor: float, used: Usage) -> str | None:
    """The sentence for the operator, or None while every figure is inside `factor` times its estimate."""
    figures = (
        ("read units", used.read_units, max(estimate.read_units, _SMALL_READ_UNITS)),
        ("write units", used.write_units, max(estimate.write_units, _SMALL_WRITE_UNITS)),
        ("bytes of egress", used.egress_bytes, max(estimate.egress_bytes, _SMALL_EGRESS_BYTES)),
    )
    for name, spent, expected in figures:
        if spent > expected * factor:
            return (
                f"the budget is used up: {spent:,.0f} {name}, more than {factor:g} times the {expected:,.0f} expected; "
                f"raise it with `set JOB budget` and resume"
            )
    return None
