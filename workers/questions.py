"""The questions about one target: what each side is asked with. Read-only, and the same whenever they are gathered.

Where the plan copies vectors, both sides are asked with a sampled one. Where it embeds, each side is asked in its own
model: with the old and the new vector of a sampled record, or with the questions of the plan's file.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from migrations.embedding import Gate
from migrations.questions import Question, questions_of
from orchestrator.core.model import Move
from orchestrator.ledger import checks, moves
from orchestrator.ledger.check_results import questions
from orchestrator.ledger.checks import ASKED_AT_ONCE
from vecfleet.records import Record
from workers.work import Work


@dataclass(frozen=True, slots=True)
class Asked:
    """A question: the vector that each side is asked with; None where it cannot be asked there.

    `relevant`: ids at the source that a good answer names.
    """

    move: Move
    old: Record | None
    new: Record | None
    relevant: frozenset[str] = frozenset()


def gather(work: Work) -> Iterator[Asked]:
    """Yield the questions of this batch. Raises BadInput if the plan's file changed, and what the model raises."""
    embedding = work.job.plan.policies.embedding
    if embedding is not None and embedding.gate.file is not None:
        yield from _of_file(work, embedding.gate)
    else:
        yield from _of_sample(work, embeds=embedding is not None)


def _of_sample(work: Work, *, embeds: bool) -> Iterator[Asked]:
    target, policies = work.target_row, work.job.plan.policies
    with work.database.begin() as connection:
        sampled = questions(connection, target.id, work.job.salt, policies.query_sample, work.lease.seq)
        sources = {move_id: moves.get(connection, move_id) for move_id in {record.move_id for record in sampled}}
    for record in sampled:
        move = sources[record.move_id]
        old = _like(work.source.fetch(move.source, [record.record_id]), record.record_id)
        new = old
        if embeds:
            there = work.placer_of(move).target_id(record.record_id)
            new = _like(work.target.fetch(target.namespace, [there]), there)
        if new is not None:  # else it left meanwhile
            yield Asked(move, old, new)


def _of_file(work: Work, gate: Gate) -> Iterator[Asked]:
    target = work.target_row
    with work.database.begin() as connection:
        sources = [moves.get(connection, move_id) for move_id, _ in sorted(checks.moves_into(connection, target.id))]
    every: list[tuple[Move, Question]] = [
        (move, question)
        for move in sources
        for question in questions_of(work.settings.vecfleet_root, gate, move.source)
    ]
    mine = every[work.lease.seq * ASKED_AT_ONCE : (work.lease.seq + 1) * ASKED_AT_ONCE]
    if not mine:
        return
    assert work.embeddings is not None, "the runner opens the model of a plan that embeds"
    texts = [question.text for _, question in mine]
    answer = work.embeddings.values_of(texts, [frozenset()] * len(texts), lambda _subjects: None, purpose="query")
    for (move, question), values in zip(mine, answer.values, strict=True):
        old = None
        if question.like is not None:
            old = _like(work.source.fetch(move.source, [question.like]), question.like)
        new = Record("", values) if values is not None else None
        yield Asked(move, old, new, frozenset(question.relevant))


def _like(records: Mapping[str, Record], record_id: str) -> Record | None:
    record = records.get(record_id)
    return Record("", record.values, record.sparse) if record is not None else None
