"""The costs of a fleet's parts: processor seconds for each unit of work; and how that is learned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

WORKER, DISPATCHER, POSTGRES, REDIS, EMULATOR = ROLES = ("worker", "dispatcher", "postgres", "redis", "emulator")
STEPS, CALLS, RECORDS, BYTES, BOOKINGS = "transactions", "calls", "records", "bytes", "bookings"
# What each role's time goes with. A worker's calls are not told from its transactions, with which they go hand in hand.
DRIVERS: Mapping[str, tuple[str, ...]] = {
    WORKER: (STEPS, RECORDS, BYTES),
    EMULATOR: (CALLS, RECORDS, BYTES),
    POSTGRES: (STEPS, RECORDS),
    DISPATCHER: (STEPS,),
    REDIS: (BOOKINGS,),
}


@dataclass(frozen=True, slots=True)
class Costs:
    """Processor seconds by role and unit; what was not learned costs nothing."""

    seconds: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def of(self, role: str, unit: str, times: float = 1.0) -> float:
        return self.seconds.get((role, unit), 0.0) * times


def learned(counted: Sequence[Mapping[tuple[str, str], float]], used: Sequence[Mapping[str, float]]) -> Costs:
    """The costs that explain best what each role used in some runs, of which it was counted what was done in them.

    Runs weigh alike, however long they were, and nothing costs less than nothing.
    """
    found: dict[tuple[str, str], float] = {}
    for role, units in DRIVERS.items():
        spent = np.array([run[role] for run in used])
        done = np.array([[run.get((role, unit), 0.0) for unit in units] for run in counted])
        weight = 1 / np.maximum(spent, 1e-3)
        for unit, cost in zip(units, _positive(done * weight[:, None], spent * weight), strict=True):
            found[role, unit] = cost
    return Costs(found)


def _positive(done: NDArray[np.float64], spent: NDArray[np.float64]) -> list[float]:
    """Least squares without a negative cost: what would have one is left out, the most negative first."""
    kept = list(range(done.shape[1]))
    while kept:
        costs, *_ = np.linalg.lstsq(done[:, kept], spent, rcond=None)
        if costs.min() >= 0:
            break
        kept.pop(int(costs.argmin()))
    return [float(costs[kept.index(column)]) if column in kept else 0.0 for column in range(done.shape[1])]
