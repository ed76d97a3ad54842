"""Ask the old and the new side the same questions: the neighbours of sampled vectors, and how long each side takes.

Read-only at the store. Safe to run twice: the sample of a job is always the same. A worker that dies at any line
recorded nothing, and the questions are asked again. A difference counts only after the freshness wait. If the service
gives the number of the last write that a query saw, wait until queries see the target's last write.
"""

from dataclasses import asdict
from typing import Any

from orchestrator.core.agreement import ScoredMatch, compare
from orchestrator.core.model import Finding, Move
from orchestrator.ledger import moves
from orchestrator.ledger.check_results import SampledRecord, questions, went
from vecfleet.errors import WrongKind
from vecfleet.records import Record
from vecfleet.stores.base import Matches
from workers.work import Work


class _TooOld(Exception):
    """The service's queries do not yet see its last write."""


def ask_both_sides(work: Work) -> tuple[dict[str, Any], list[Finding]]:
    """Return the answers of both sides, question by question, or why they could not be asked."""
    policies, target = work.job.plan.policies, work.target_row
    with work.database.begin() as connection:
        asked = questions(connection, target.id, work.job.salt, policies.query_sample, work.lease.seq)
        sources = {move_id: moves.get(connection, move_id) for move_id in {question.move_id for question in asked}}
    try:
        answers = [
            answer for question in asked if (answer := _ask(work, question, sources[question.move_id])) is not None
        ]
    except WrongKind as error:
        return {"queries": [], "unasked": error.message}, []
    except _TooOld as error:
        work.look_again(str(error))
        return {"queries": [], "unasked": str(error)}, []
    if any(answer["lost"] or answer["odd"] for answer in answers):
        work.look_again(f"queries of {target.namespace} do not yet agree with those of its sources")
    return {"queries": answers}, []


def _ask(work: Work, question: SampledRecord, move: Move) -> dict[str, Any] | None:
    """Return one question with its answers; None if the sampled record left the source meanwhile."""
    target = work.target_row
    record = work.source.fetch(move.source, [question.record_id]).get(question.record_id)
    if record is None:
        return None
    top_k = work.job.plan.policies.query_top_k
    like = Record("", record.values, record.sparse)
    old, old_ms = work.source.ask(move.source, like, top_k)
    new, new_ms = work.target.ask(target.namespace, like, top_k)
    if target.lsn is not None and new.lsn is not None and new.lsn < target.lsn:
        raise _TooOld(f"queries of {target.namespace} see its writes up to {new.lsn}, and the last is {target.lsn}")
    here, there = _in_common(work, move, old, new)
    agreement = compare(here, there, top_k, least_is_best=work.target.index.info.metric == "euclidean")
    return {"id": question.record_id, **asdict(agreement), "old_ms": round(old_ms, 2), "new_ms": round(new_ms, 2)}


def _in_common(work: Work, move: Move, old: Matches, new: Matches) -> tuple[list[ScoredMatch], list[ScoredMatch]]:
    """Return both answers, each match under its id at the target; without an id if this move did not copy it there."""
    from_there = {
        match.id: match.id.removeprefix(move.prefix) for match in new.matches if match.id.startswith(move.prefix)
    }
    ids = sorted({*(match.id for match in old.matches), *from_there.values()})
    with work.database.begin() as connection:
        moved = went(connection, move.id, work.target_row.id, work.job.listings, ids) if ids else set()
    here = [ScoredMatch(move.prefix + match.id if match.id in moved else None, match.score) for match in old.matches]
    there = [ScoredMatch(match.id if from_there.get(match.id) in moved else None, match.score) for match in new.matches]
    return here, there
