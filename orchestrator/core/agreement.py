"""Compare the answers of the old side and the new side: one question at a time, and all questions in sum. Pure.

An answer is the best k records of a namespace. Two namespaces agree on a record that both hold if both answers name it,
unless k better records push it out. Only records that went from the question's source to the target are compared.
Other records (of other sources, of other owners, from before the job) may push a record out, but prove nothing.
The comparison is exact if one whole source went to one target. If a source was split or sources were merged, a record
that is pushed out proves neither agreement nor disagreement.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

# Relative difference between scores of equal vectors: float32 sums depend on the order of summing.
_ROUNDING = 1e-5


@dataclass(frozen=True, slots=True)
class ScoredMatch:
    """One match. `id` is its id at the target, or None if the record did not go from this source to this target."""

    id: str | None
    score: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """Result of one question. `overlap` is None if nothing could be compared.

    Only the old side names the `lost` records, and only the new side the `odd` ones. `pushed_out` counts records that
    one side lacks because better ones fill its answer. `drift` is the greatest score difference of one record.
    """

    overlap: float | None
    compared: int
    lost: int
    odd: int
    pushed_out: int
    drift: float


def compare(old: Sequence[ScoredMatch], new: Sequence[ScoredMatch], top_k: int, *, least_is_best: bool) -> Agreement:
    """Compare two answers to a question for the best `top_k`; the best match comes first."""
    sign = -1.0 if least_is_best else 1.0
    here = {match.id: match.score for match in old if match.id is not None}
    there = {match.id: match.score for match in new if match.id is not None}

    def pushed_out(score: float, answer: Sequence[ScoredMatch]) -> bool:
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


def compare_models(old: Sequence[ScoredMatch] | None, new: Sequence[ScoredMatch]) -> Agreement:
    """Compare two answers to a question in the vectors of two models: how much of the longer one both name.

    Scores of two models have nothing in common, so nothing is lost or odd. `old` is None if only the new side was
    asked. An old answer that names no record is no measure of the new one.
    """
    here, there = ({match.id for match in answer or () if match.id is not None} for answer in (old, new))
    if not here:
        return Agreement(None, 0, 0, 0, 0, 0.0)
    compared = max(len(here), len(there))
    return Agreement(len(here & there) / compared, compared, 0, 0, 0, 0.0)


def recall(answer: Sequence[ScoredMatch], relevant: Collection[str], top_k: int) -> float | None:
    """Return the share of the relevant records that the best `top_k` name; None if none is known."""
    if not relevant:
        return None
    return sum(match.id in relevant for match in answer) / min(len(relevant), top_k)


@dataclass(frozen=True, slots=True)
class Summary:
    """Sum of all questions about a target or a job. Milliseconds cover the answers, without our own pace.

    Recall is known for questions that name their relevant records, on the sides that were asked. `refused`: questions
    that the model of the new side does not take; `pointless`: ones with no answer to compare, neither with the old one
    nor with relevant records. Both count for nothing.
    """

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
    old_recall_worst: float | None = None
    old_recall_mean: float | None = None
    new_recall_worst: float | None = None
    new_recall_mean: float | None = None
    refused: int = 0
    pointless: int = 0

    def to_json(self) -> dict[str, Any]:
        return {name: round(value, 6) if isinstance(value, float) else value for name, value in asdict(self).items()}


def summarise(questions: Sequence[Mapping[str, Any]]) -> Summary | None:
    """Sum up questions as the job table keeps them: an `Agreement`, `old_ms` and `new_ms` each. None: no question."""
    if not questions:
        return None
    import numpy as np  # only where questions were asked

    overlaps = [question["overlap"] for question in questions if question["overlap"] is not None]
    drifts = [question["drift"] for question in questions if question["overlap"] is not None]
    old, new = ([question[side] or 0.0 for question in questions] for side in ("old_ms", "new_ms"))
    recalls = {
        side: [share for question in questions if (share := question.get(f"{side}_recall")) is not None]
        for side in ("old", "new")
    }
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
        refused=sum(question["new_ms"] is None for question in questions),
        pointless=sum(
            question["new_ms"] is not None and question["overlap"] is None and question.get("new_recall") is None
            for question in questions
        ),
        **{f"{side}_recall_worst": min(shares) for side, shares in recalls.items() if shares},
        **{f"{side}_recall_mean": fmean(shares) for side, shares in recalls.items() if shares},
    )
