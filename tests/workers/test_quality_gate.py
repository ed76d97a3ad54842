"""The quality gate of a job that embeds: both models are asked, and a bound that is not reached stops the cut-over."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from embedding_apis import COHERE
from embedding_job import old, open_embedding
from embedding_service import serving
from in_one_process import One

from orchestrator.core.states import JobState
from orchestrator.ledger import check_results
from orchestrator.services import acts
from vecfleet.errors import Refused
from vecfleet.records import Record

SUBJECTS = {
    "sleep": "sleep eight hours and keep your bedroom dark",
    "bike": "tyres of a gravel bike are wide and their pressure is low",
    "bread": "a sourdough starter needs flour, water and patience",
}
Open = Callable[..., One]


@pytest.fixture
def open_job(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Open]:
    """`open_job(*questions, **policies)`: twelve records about three subjects, and questions about them."""

    def open_job(*questions: dict[str, Any], **policies: Any) -> One:
        if questions:
            write(tmp_path, *questions)
            policies |= {"questions": "questions.jsonl", "verify": "content+query"}
        return open_embedding(ending, database_url, redis_url, tmp_path, records(), query_top_k=4, **policies)

    with ExitStack() as ending:
        yield open_job


def records() -> list[Record]:
    return [old(f"{name}-{n}", text=f"{said}, part {n}") for name, said in SUBJECTS.items() for n in range(4)]


def write(root: Path, *questions: dict[str, Any]) -> None:
    lines = [json.dumps({"namespace": "s", **question}) for question in questions]
    (root / "questions.jsonl").write_text("\n".join(lines))


def about(subject: str, question: str, **other: Any) -> dict[str, Any]:
    return {"question": question, "relevant": [f"{subject}-{n}" for n in range(4)], **other}


ASKED = (
    about("sleep", "how many hours of sleep do I need?", like="sleep-0"),
    about("bike", "which tyres for a gravel bike?", like="bike-0"),
    about("bread", "what does a sourdough starter need?"),
)


UNJUDGED = "12 records read back and equal; its quality is not judged: no question was asked of it"


def verdict(one: One) -> dict[str, Any]:
    found = one.table.targets["s"].verdict
    assert found is not None
    return dict(found)


def test_both_models_are_asked_and_the_verdict_says_how_they_answer(open_job: Open) -> None:
    one = open_job(*ASKED)
    one.until(JobState.VERIFIED)
    found = verdict(one)
    assert found["reason"].startswith(
        "12 records read back and equal; 3 questions: recall 100% (worst 100%), of the old"
    )
    # The local model finds what is said of a subject; the old vectors of this test mean nothing
    assert (found["queries"]["new_recall_mean"], found["queries"]["asked"], found["queries"]["compared"]) == (1.0, 3, 2)
    assert 0.0 < found["queries"]["old_recall_mean"] < 1.0


def test_below_the_bound_no_reader_is_moved_until_a_person_says_so(open_job: Open) -> None:
    # Given questions whose relevant records no answer names
    wrong = {"question": "how many hours of sleep do I need?", "relevant": ["bike-1", "bread-1"]}
    one = open_job(wrong, cut_over="operator")
    one.work_until(lambda: one.table.targets and one.table.targets["s"].check_state == "mismatched")
    assert "but its recall is 0%, and the plan asks 80%" in verdict(one)["reason"]
    with pytest.raises(Refused):
        acts.cut_over(one.table.database, one.table.job_id, "ana", 100)
    # When a person looks at the contents alone, the verdict says that nothing is told of the quality
    acts.verify(one.table.database, one.table.job_id, "ana", "content")
    one.until(JobState.VERIFIED)
    assert verdict(one)["reason"] == UNJUDGED


def test_a_file_of_questions_that_changed_is_no_evidence(open_job: Open, tmp_path: Path) -> None:
    one = open_job(*ASKED)
    write(tmp_path, ASKED[0])
    one.work_until(lambda: one.table.targets and one.table.targets["s"].check_state == "mismatched")
    assert (
        "could not be asked: the questions in questions.jsonl are no longer those of the plan" in verdict(one)["reason"]
    )


def test_without_a_file_sampled_records_are_asked_by_both_their_vectors(open_job: Open) -> None:
    one = open_job(verify="content+query", query_sample=5)
    one.until(JobState.VERIFIED)
    queries = verdict(one)["queries"]
    assert (queries["asked"], queries["compared"]) == (5, 5)
    assert queries["new_recall_mean"] is None
    assert 0.25 <= queries["overlap_worst"] < 1.0  # each finds itself in both


def test_questions_about_records_that_did_not_move_are_counted_apart(open_job: Open) -> None:
    # Given a question about records that nobody has, and one in place of a record that the source does not hold
    nowhere = {"question": "what is a crankset?", "relevant": ["crank-1", "crank-2"]}
    gone = {"question": "how long does a loaf bake?", "like": "loaf-7"}
    one = open_job(*ASKED, nowhere, gone)
    one.until(JobState.VERIFIED)
    found = verdict(one)
    # Then neither is a hit or a miss, the verdict says so, and so does the report's sum
    assert found["reason"].endswith("; left out: 2 without an answer to compare")
    assert (found["queries"]["asked"], found["queries"]["pointless"], found["queries"]["refused"]) == (5, 2, 0)
    assert found["queries"]["new_recall_mean"] == 1.0
    with one.table.database.begin() as connection:
        summed = check_results.asked(connection, one.table.job_id)
    assert summed is not None and (summed.asked, summed.pointless, summed.refused) == (5, 2, 0)


def test_a_sampled_record_that_left_the_source_is_no_miss_of_the_new_model(open_job: Open) -> None:
    # Given a sample whose records leave the source before they are asked
    one = open_job(verify="content+query", query_sample=12)
    one.until(JobState.COPIED)
    source = one.process.index("memory", one.table.job.source)
    source.delete("s", ["sleep-0"])
    one.work_until(lambda: one.table.targets["s"].verdict is not None)
    queries = verdict(one)["queries"]
    assert (queries["asked"], queries["compared"], queries["pointless"]) == (12, 11, 1)


def test_without_questions_the_verdict_says_that_quality_is_not_judged(open_job: Open) -> None:
    one = open_job()
    one.until(JobState.VERIFIED)
    assert verdict(one)["reason"] == UNJUDGED


def test_a_model_that_tells_questions_from_what_is_stored_is_told_which_it_embeds(open_job: Open) -> None:
    with serving(COHERE) as service:
        service.dimension = 1_536
        one = open_job(*ASKED, service=service, model="cohere/embed-v4.0", least_recall=0.0)
        one.until(JobState.VERIFIED)
    as_what = {text: body["input_type"] for body in service.asked_for for text in body["texts"]}
    stored = {str(record.metadata["text"]) for record in records()}
    assert {text for text, purpose in as_what.items() if purpose == "search_query"} == {
        asked["question"] for asked in ASKED
    }
    assert stored <= {text for text, purpose in as_what.items() if purpose == "search_document"}
