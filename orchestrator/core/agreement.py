"""Whether the old side and the new answer alike: pure, one question at a time, and all of them summed up.

What is comparable. An answer is the best k of what a namespace holds, so two namespaces agree on a record that both
hold if each of them names it, unless k better ones push it out. Only records that the question's source namespace gave
to the target are compared; others (of other sources, of other owners, from before the job) may push, and prove nothing.
Where one source went to one target whole, that is exact. Where a source was split or sources were merged, a record that
is pushed out is no evidence at all, neither for nor against.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import numpy as np

# Scores of equal vectors, summed in another order in float32, differ by so much of their size.
_ROUNDING = 1e-5


@dataclass(frozen=True, slots=True)
class Found:
    """One match: its id at the target, or None where it is no record that went from this source to this target."""

    id: str | None
    score: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """What became of one question. `overlap` is None where nothing could be compared.

    `lost` are named by the old side only, `odd` by the new side only, `pushed_out` by one, for a reason. `drift` is the
    greatest difference between two scores of one record.
    """

    overlap: float | None
    compared: int
    lost: int
    odd: int
    pushed_out: int
    drift: float


def compare(old: Sequence[Found], new: Sequence[Found], top_k: int, *, least_is_best: bool) -> Agreement:
    """Compare two answers, best first, to a question for the best `top_k`."""
    sign = -1.0 if least_is_best else 1.0
    here = {found.id: found.score for found in old if found.id is not None}
    there = {found.id: found.score for found in new if found.id is not None}

    def pushed_out(score: float, answer: Sequence[Found]) -> bool:
        if len(answer) < top_k:
            return False
        worst = answer[-1].score
        return sign * (score - worst) <= _ROUNDING * max(1.0, abs(worst))

    gone = [score for record_id, score in here.items() if record_id not in there]
    come = [score for record_id, score in there.items() if record_id not in here]
    lost = sum(not pushed_out(score, new) for score in gone)
    odd = sum(not pushed_out(score, old) for score in come)
    both = here.keys() & there.keys()
    compared = len(both) + lost + odd
    return Agreement(
        overlap=len(both) / compared if compared else None,
        compared=compared,
        lost=lost,
        odd=odd,
        pushed_out=len(gone) + len(come) - lost - odd,
        drift=max((abs(here[record_id] - there[record_id]) for record_id in both), default=0.0),
    )


@dataclass(frozen=True, slots=True)
class Summary:
    """All questions about a target, or of a job. Milliseconds are those of the answers, without our own pace."""

    asked: int
    compared: int
    overlap_worst: float | None
    overlap_mean: float | None
    drift_worst: float
    drift_mean: float
    old_p50_ms: float
    old_p95_ms: float
    new_p50_ms: float
    new_p95_ms: float

    def to_json(self) -> dict[str, Any]:
        return {name: round(value, 6) if isinstance(value, float) else value for name, value in asdict(self).items()}


def summarise(questions: Sequence[Mapping[str, Any]]) -> Summary | None:
    """Sum up questions as the job table keeps them: an `Agreement`, `old_ms` and `new_ms` each. None: no questions."""
    if not questions:
        return None
    overlaps = [question["overlap"] for question in questions if question["overlap"] is not None]
    drifts = [question["drift"] for question in questions if question["overlap"] is not None]
    old, new = ([question[side] for question in questions] for side in ("old_ms", "new_ms"))
    return Summary(
        asked=len(questions),
        compared=len(overlaps),
        overlap_worst=min(overlaps, default=None),
        overlap_mean=fmean(overlaps) if overlaps else None,
        drift_worst=max(drifts, default=0.0),
        drift_mean=fmean(drifts) if drifts else 0.0,
        old_p50_ms=float(np.percentile(old, 50)),
        old_p95_ms=float(np.percentile(old, 95)),
        new_p50_ms=float(np.percentile(new, 50)),
        new_p95_ms=float(np.percentile(new, 95)),
    )
