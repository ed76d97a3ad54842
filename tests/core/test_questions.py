"""A file of questions: read whole or refused with the line that is wrong, and held to its digest."""

import json
from pathlib import Path
from typing import Any

import pytest

from migrations.questions import Question, gate_of, questions_of, read_questions
from vecfleet.errors import BadInput, NotFound


def write(root: Path, *lines: Any) -> str:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (root / "q.jsonl").write_text(text)
    return "q.jsonl"


FULL = {"question": "How to sleep?", "namespace": "s", "relevant": ["a", "b", "a"], "like": "c"}


def test_questions_are_read_with_their_namespace_and_relevant_ids(tmp_path: Path) -> None:
    file = write(tmp_path, FULL, {"question": "And then?", "relevant": ["x"]})
    assert read_questions(tmp_path, file) == [
        Question("How to sleep?", "s", ("a", "b"), "c"),
        Question("And then?", "__default__", ("x",)),
    ]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("no json", "q.jsonl, question 2: it is no JSON"),
        ('["a"]', "not a JSON object"),
        ({"question": "  ", "like": "a"}, "its `question` is no text"),
        ({"question": "q"}, "with neither `relevant` nor `like` nothing can be compared"),
        ({"question": "q", "relevant": "a"}, "its `relevant` is a list of ids"),
        ({"question": "q", "like": 7}, "its `namespace` and its `like` are texts"),
        ({"question": "q", "relevent": ["a"]}, "it has a field 'relevent'"),
    ],
)
def test_a_line_that_is_wrong_is_named(tmp_path: Path, line: Any, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        read_questions(tmp_path, write(tmp_path, FULL, line))


def test_an_empty_file_and_a_file_elsewhere_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no question"):
        read_questions(tmp_path, write(tmp_path, ""))
    with pytest.raises(NotFound):
        read_questions(tmp_path, "other.jsonl")
    with pytest.raises(BadInput, match="not under the folder"):
        read_questions(tmp_path, "../q.jsonl")


def test_a_gate_counts_the_questions_and_notices_a_changed_file(tmp_path: Path) -> None:
    file = write(tmp_path, FULL, {"question": "And then?", "relevant": ["x"]})
    gate = gate_of(tmp_path, file, 0.8, 0.1)
    assert gate.counts == {"__default__": 1, "s": 1}
    assert [question.text for question in questions_of(tmp_path, gate, "s")] == ["How to sleep?"]
    write(tmp_path, FULL)
    with pytest.raises(BadInput, match="no longer those of the plan"):
        questions_of(tmp_path, gate, "s")
