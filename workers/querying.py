"""Ask the old and the new side the same questions, and note how their answers agree and how long each side takes.

Read-only at the store. Safe to run twice: the sample of a job is always the same. A worker that dies at any line
recorded nothing, and the questions are asked again. A difference counts only after the freshness wait. If the service
gives the number of the last write that a query saw, wait until queries see the target's last write.
"""

from dataclasses import asdict
from typing import Any

from orchestrator.core.agreement import ScoredMatch, compare, compare_models, recall
from orchestrator.core.model import Finding
from orchestrator.ledger.check_results import went
from vecfleet.errors import BadInput, WrongKind
from vecfleet.stores.base import Matches
from workers.questions import Asked, gather
from workers.work import Work


class _TooOld(Exception):
    """The service's queries do not yet see its last write."""


def ask_both_sides(work: Work) -> tuple[dict[str, Any], list[Finding]]:
    """Return the answers of both sides, question by question, or why they could not be asked."""
    target = work.target_row
    try:
        answers = [_ask(work, asked) for asked in gather(work)]
    except (WrongKind, BadInput) as error:
        return {"queries": [], "unasked": error.message}, []
    except _TooOld as error:
        work.look_again(str(error))
        return {"queries": [], "unasked": str(error)}, []
    if any(answer["lost"] or answer["odd"] for answer in answers):
        work.look_again(f"queries of {target.namespace} do not yet agree with those of its sources")
    return {"queries": answers}, []


def _ask(work: Work, asked: Asked) -> dict[str, Any]:
    """Return one question and its answers."""
    target, move, policies = work.target_row, asked.move, work.job.plan.policies
    top_k = policies.query_top_k
    old = work.source.ask(move.source, asked.old, top_k) if asked.old is not None else None
    new = work.target.ask(target.namespace, asked.new, top_k) if asked.new is not None else None
    lsn = new[0].lsn if new is not None else None
    if target.lsn is not None and lsn is not None and lsn < target.lsn:
        raise _TooOld(f"queries of {target.namespace} see its writes up to {lsn}, and the last is {target.lsn}")
    here, there, relevant = _in_common(work, asked, old[0] if old else None, new[0] if new else None)
    if policies.embedding is not None:
        agreement = compare_models(here if old and new else None, there)
    else:
        agreement = compare(here, there, top_k, least_is_best=work.target.index.info.metric == "euclidean")
    return {
        **asdict(agreement),
        "old_ms": round(old[1], 2) if old else None,
        "new_ms": round(new[1], 2) if new else None,
        "old_recall": recall(here, relevant, top_k) if old else None,
        "new_recall": recall(there, relevant, top_k) if new else None,
    }


def _in_common(
    work: Work, asked: Asked, old: Matches | None, new: Matches | None
) -> tuple[list[ScoredMatch], list[ScoredMatch], frozenset[str]]:
    """Return both answers and the relevant ids, each under its id at the target if this move took the record there."""
    move, here, there = asked.move, old.matches if old else (), new.matches if new else ()
    from_there = {match.id: match.id.removeprefix(move.prefix) for match in there if match.id.startswith(move.prefix)}
    ids = sorted({*(match.id for match in here), *from_there.values(), *asked.relevant})
    with work.database.begin() as connection:
        moved = went(connection, move.id, work.target_row.id, work.job.listings, ids) if ids else set()
    return (
        [ScoredMatch(move.prefix + match.id if match.id in moved else None, match.score) for match in here],
        [ScoredMatch(match.id if from_there.get(match.id) in moved else None, match.score) for match in there],
        frozenset(move.prefix + record_id for record_id in asked.relevant & moved),
    )
