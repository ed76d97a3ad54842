"""Questions by which the answers of two models are compared: a file of JSON lines under the folder of plan files.

`{"question": "…", "namespace": "…", "relevant": ["id", …], "like": "id"}`. Only `question` must be there. `namespace`:
of the source, the default one if it is left out. `relevant`: ids of the records that a good answer names. `like`: the
record whose old vector stands for the question on the old side; without it only the new side is asked.
"""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from migrations.embedding import Gate
from migrations.files import read_lines, within
from vecfleet import names
from vecfleet.errors import BadInput

MOST = 10_000
_FIELDS = {"question", "namespace", "relevant", "like"}
_NEXT = 'write each line so: {"question": "…", "namespace": "…", "relevant": ["id", "id"]}'


@dataclass(frozen=True, slots=True)
class Question:
    """A question about one source namespace."""

    text: str
    namespace: str
    relevant: tuple[str, ...] = ()
    like: str | None = None


def gate_of(root: Path, file: str | None, least_recall: float, least_overlap: float) -> Gate:
    """Return the gate of a plan. Raises BadInput, NotFound for a file that cannot be used."""
    if file is None:
        return Gate(least_recall=least_recall, least_overlap=least_overlap)
    asked = read_questions(root, file)
    return Gate(
        file=file,
        digest=_digest(root, file),
        counts=dict(sorted(Counter(question.namespace for question in asked).items())),
        least_recall=least_recall,
        least_overlap=least_overlap,
    )


def questions_of(root: Path, gate: Gate, namespace: str) -> list[Question]:
    """Return the questions about a source namespace, in the order of the file. Raises BadInput if the file changed."""
    assert gate.file is not None, "only a gate with a file has questions"
    if _digest(root, gate.file) != gate.digest:
        raise BadInput(
            f"the questions in {gate.file} are no longer those of the plan",
            next_step="put the file back as it was, on every machine of the fleet; or make the plan again",
        )
    return [question for question in read_questions(root, gate.file) if question.namespace == namespace]


def read_questions(root: Path, file: str) -> list[Question]:
    """Read a file of questions. Raises BadInput with the line that is wrong, NotFound."""
    questions = [_read(file, number, line) for number, line in enumerate(read_lines(within(root, file)), start=1)]
    if not questions:
        raise BadInput(f"{file} holds no question", next_step=_NEXT)
    if len(questions) > MOST:
        raise BadInput(
            f"{file} holds {len(questions):,} questions; at most {MOST:,} are asked",
            next_step="choose some: a few dozen of each namespace tell enough",
        )
    return questions


def _read(file: str, number: int, line: str) -> Question:
    def wrong(why: str) -> BadInput:
        return BadInput(f"{file}, question {number}: {why}", next_step=_NEXT)

    try:
        body = json.loads(line)
    except ValueError as error:
        raise wrong("it is no JSON") from error
    if not isinstance(body, dict):
        raise wrong("it is not a JSON object")
    if unknown := sorted(body.keys() - _FIELDS):
        raise wrong(f"it has a field {unknown[0]!r}, and there is none of that name")
    text, namespace, relevant, like = (body.get(name) for name in ("question", "namespace", "relevant", "like"))
    if not isinstance(text, str) or not text.strip():
        raise wrong("its `question` is no text")
    if not isinstance(namespace, str | None) or not isinstance(like, str | None):
        raise wrong("its `namespace` and its `like` are texts")
    if not isinstance(relevant, list | None) or not all(isinstance(record_id, str) for record_id in relevant or ()):
        raise wrong("its `relevant` is a list of ids")
    if not relevant and like is None:
        raise wrong("with neither `relevant` nor `like` nothing can be compared")
    return Question(text, names.canonical(namespace or ""), tuple(dict.fromkeys(relevant or ())), like)


def _digest(root: Path, file: str) -> str:
    return "sha256:" + hashlib.sha256(within(root, file).read_bytes()).hexdigest()
