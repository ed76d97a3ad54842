"""What each measure should reach, and whether it does: a reach inside the spread of the samples is undecided."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Reach:
    """A bound on a measure: at most, or at least, so much of its unit."""

    bound: float
    at_least: bool = False

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}"

    def judge(self, samples: Sequence[float]) -> bool | str:
        """True or False where every sample says so; "undecided" where they do not agree."""
        met = {sample >= self.bound if self.at_least else sample <= self.bound for sample in samples}
        return met.pop() if len(met) == 1 else "undecided"


# By the name of the measure and the dimension of its vectors.
REACHES: dict[tuple[str, int], Reach] = {
    ("worker CPU, copy", 3_072): Reach(0.10),
    ("worker CPU, verify / copy", 3_072): Reach(1.0),
    ("copy / seed 000's loop", 3_072): Reach(8.0, at_least=True),
}


def measured(name: str, unit: str, dimension: int, delay_ms: int, samples: Sequence[float]) -> dict[str, Any]:
    """One entry of `measures` in the JSON file; its interval goes from the lowest sample to the highest."""
    reach = REACHES.get((name, dimension))
    return {
        "name": f"{name}, {dimension}-d, {delay_ms} ms late",
        "value": median(samples),
        "unit": unit,
        "reach": str(reach) if reach else None,
        "ok": reach.judge(samples) if reach else None,
        "interval": [min(samples), max(samples)],
    }
