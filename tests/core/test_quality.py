"""The quality gate: recall and overlap of two models, the means of a namespace against the plan's bounds."""

from dataclasses import asdict, replace
from typing import Any

import pytest
from test_verdicts import PROVEN

from migrations.embedding import Gate
from orchestrator.core.agreement import ScoredMatch, compare_models, recall, summarise
from orchestrator.core.verdicts import judge


def matches(*ids: str | None) -> list[ScoredMatch]:
    return [ScoredMatch(record_id, 1.0 - place / 100) for place, record_id in enumerate(ids)]


def question(old: list[ScoredMatch] | None, new: list[ScoredMatch], *relevant: str) -> dict[str, Any]:
    return {
        **asdict(compare_models(old, new)),
        "old_ms": 1.0 if old is not None else None,
        "new_ms": 2.0,
        "old_recall": recall(old, relevant, 2) if old is not None else None,
        "new_recall": recall(new, relevant, 2),
    }


GOOD = question(matches("a", "b"), matches("b", "c"), "b", "c")
BAD = question(matches("a", "b"), matches("x", "y"), "a")


def test_two_models_share_what_both_name_and_nothing_counts_as_lost() -> None:
    agreement = compare_models(matches("a", "b", "c"), matches("b", "d"))
    assert agreement.overlap == pytest.approx(1 / 3)
    assert (agreement.lost, agreement.odd) == (0, 0)
    assert compare_models(None, matches("a")).overlap is None
    assert compare_models([], []).overlap is None
    # A new model that finds nothing misses everything; an old one that found nothing is no measure
    assert compare_models(matches("a"), []).overlap == 0.0
    assert compare_models(matches(None), matches("a")).overlap is None


def test_recall_is_the_share_of_the_relevant_that_the_best_few_can_name() -> None:
    assert recall(matches("a", "b"), ["a", "b", "c"], 2) == 1.0
    assert recall(matches("a", None), ["a", "b"], 2) == 0.5
    assert recall(matches("a"), [], 2) is None


def test_a_summary_has_both_sides_mean_and_worst() -> None:
    summary = summarise([GOOD, BAD, question(None, matches("a", "b"), "a")])
    assert summary is not None
    assert (summary.new_recall_worst, summary.new_recall_mean) == (0.0, pytest.approx(2 / 3))
    assert (summary.old_recall_worst, summary.old_recall_mean) == (0.5, 0.75)
    assert (summary.asked, summary.compared, summary.overlap_mean) == (3, 2, 0.25)


def test_a_question_that_the_new_model_refuses_is_counted_and_said() -> None:
    refused = question(None, []) | {"new_ms": None, "new_recall": None}
    summary = summarise([GOOD, refused])
    assert summary is not None and (summary.asked, summary.refused, summary.new_recall_mean) == (2, 1, 1.0)
    assert judged(GOOD, refused)[1].endswith("; left out: 1 that the model refused")


def test_a_question_without_an_answer_to_compare_is_no_hit_and_no_miss_and_is_said() -> None:
    # Given questions whose relevant records did not go to the target, and whose old neighbours did not either
    pointless = [question(None, matches("a")), question(matches(None), matches("a", "b"))]
    refused = question(None, []) | {"new_ms": None, "new_recall": None}
    summary = summarise([GOOD, *pointless, refused])
    # Then they are counted apart from those that the model refused, and the means are of the others
    assert summary is not None
    assert (summary.asked, summary.pointless, summary.refused) == (4, 2, 1)
    assert (summary.new_recall_mean, summary.overlap_mean, summary.overlap_worst) == (1.0, 0.5, 0.5)
    assert judged(GOOD, *pointless, refused)[1].endswith(
        "4 questions: recall 100% (worst 100%), of the old model 50% (worst 50%), overlap 50% (worst 50%); left out: "
        "1 that the model refused, 2 without an answer to compare"
    )


def judged(*queries: dict[str, Any], unasked: str | None = None, **gate: Any) -> tuple[str, str]:
    evidence = replace(PROVEN, level="content+query", gate=Gate(**gate), queries=queries, unasked=unasked)
    verdict = judge(evidence)
    return verdict.state, verdict.reason


def test_a_namespace_passes_by_the_mean_of_its_questions() -> None:
    assert judged(GOOD, GOOD, BAD, least_recall=0.6) == (
        "verified",
        "3 records read back and equal; 3 questions: recall 67% (worst 0%), of the old model 67% (worst 50%), "
        "overlap 33% (worst 0%)",
    )


def test_below_the_bound_there_is_no_verdict_to_cut_over_on() -> None:
    state, reason = judged(GOOD, BAD, least_recall=0.6)
    assert state == "mismatched"
    assert reason.startswith(
        "3 records read back and equal, but its recall is 50%, and the plan asks 60%; 2 questions:"
    )
    assert judged(GOOD, least_overlap=0.9)[1].startswith(
        "3 records read back and equal, but its answers have 50% in common with the old ones, and the plan asks 90%"
    )


def test_questions_that_nothing_could_be_told_by_prove_nothing() -> None:
    state, reason = judged(question(None, matches("a")))
    assert (state, "no answer to its questions could be compared" in reason) == ("mismatched", True)
    state, reason = judged(unasked="the questions in q.jsonl are no longer those of the plan")
    assert (state, "could not be asked: the questions in q.jsonl" in reason) == ("mismatched", True)


def test_without_questions_the_content_is_proven_and_the_quality_said_not_to_be() -> None:
    told = ("verified", "3 records read back and equal; its quality is not judged: no question was asked of it")
    assert judged() == told
    verdict = judge(replace(PROVEN, gate=Gate()))
    assert (verdict.state, verdict.reason) == told
