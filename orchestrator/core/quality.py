"""Judge whether a new model answers as well as the plan asks. Pure. Without questions there is no verdict of quality.

Recall is the share of a question's relevant records that an answer names; overlap is what the answers of the old and of
the new model have in common. The means of each namespace decide, and the worst question is shown beside them: among
many questions one always goes wrong.
"""

from migrations.embedding import Gate
from orchestrator.core.agreement import Summary
from orchestrator.core.wording import counted

UNJUDGED = "its quality is not judged: no question was asked of it"


def against_quality(gate: Gate, asked: Summary | None, unasked: str | None) -> str | None:
    """Say why the new model does not pass, or why that cannot be told. None: it passes, or the gate asks nothing."""
    if unasked:
        return f"its questions could not be asked: {unasked}"
    if asked is None:
        return None
    if asked.new_recall_mean is None and asked.overlap_mean is None:
        return "no answer to its questions could be compared"
    if asked.new_recall_mean is not None and asked.new_recall_mean < gate.least_recall:
        return f"its recall is {asked.new_recall_mean:.0%}, and the plan asks {gate.least_recall:.0%}"
    if (asked.overlap_mean or 0.0) < gate.least_overlap:
        shared = "nothing" if asked.overlap_mean is None else f"{asked.overlap_mean:.0%}"
        return f"its answers have {shared} in common with the old ones, and the plan asks {gate.least_overlap:.0%}"
    return None


def quality(asked: Summary) -> str:
    """Return what the answers of both models are like, mean and worst."""
    sides = [
        ("recall", asked.new_recall_mean, asked.new_recall_worst),
        ("of the old model", asked.old_recall_mean, asked.old_recall_worst),
        ("overlap", asked.overlap_mean, asked.overlap_worst),
    ]
    shown = [f"{name} {mean:.0%} (worst {worst:.0%})" for name, mean, worst in sides if None not in (mean, worst)]
    said = f"{counted(asked.asked, 'question', 'questions')}: {', '.join(shown) or 'no answer could be compared'}"
    apart = (asked.refused, "that the model refused"), (asked.pointless, "without an answer to compare")
    left_out = ", ".join(f"{count:,} {why}" for count, why in apart if count)
    return f"{said}; left out: {left_out}" if left_out else said
