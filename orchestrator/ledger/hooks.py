"""Calls of hooks: asked for by an act, taken and answered by a dispatcher, used up by the act that an answer allows.

The job table says which hooks there are, so an act is held on any machine, whatever its own settings say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from orchestrator.core.hooks import POLICY, Hook, given, held
from orchestrator.core.states import MoveState
from orchestrator.ledger import audit, jobs
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import NOW, among

_H, _C, _M = t.hook.c, t.hook_call.c, t.move.c
ASKED, ALLOWED, REFUSED, USED = "asked", "allowed", "refused", "used"
# An older answer says nothing about the job as it is now.
_HOLDS_FOR_S = 300.0
_NAMESPACES = 1_000


def declare(connection: sa.Connection, timeouts: Mapping[Hook, float]) -> None:
    """Let these hooks, and no other, hold jobs from now on. `timeouts`: seconds that each may take."""
    connection.execute(sa.delete(t.hook).where(~among(_H.name, timeouts)))
    for name, timeout_s in timeouts.items():
        proposal = insert(t.hook).values(name=name, timeout_s=timeout_s)
        connection.execute(proposal.on_conflict_do_update(index_elements=[_H.name], set_={"timeout_s": timeout_s}))


def timeout_s(connection: sa.Connection, hook: Hook) -> float | None:
    """Return how long the hook may take; None if there is none."""
    return connection.execute(sa.select(_H.timeout_s).where(_H.name == hook)).scalar_one_or_none()


@dataclass(frozen=True, slots=True)
class Call:
    """One question to a hook. `fresh`: its answer is young enough to act on."""

    id: int
    delivery_id: str
    job_id: int
    hook: Hook
    percent: int | None
    who: str
    answer: str
    words: str | None
    fresh: bool


_FRESH = (_C.answered_at > NOW - sa.func.make_interval(0, 0, 0, 0, 0, 0, _HOLDS_FOR_S)).label("fresh")
_CALL = (_C.id, _C.delivery_id, _C.job_id, _C.hook, _C.percent, _C.who, _C.answer, _C.words, _FRESH)


def _call(row: sa.Row[Any] | None) -> Call | None:
    return None if row is None else Call(**{**row._mapping, "hook": Hook(row.hook), "fresh": bool(row.fresh)})


def latest(connection: sa.Connection, job_id: int, hook: Hook, percent: int | None) -> Call | None:
    """Return the last call about this act on this job."""
    query = sa.select(*_CALL).where(_C.job_id == job_id, _C.hook == hook, _C.percent.is_not_distinct_from(percent))
    return _call(connection.execute(query.order_by(_C.id.desc()).limit(1)).one_or_none())


def get(connection: sa.Connection, call_id: int) -> Call:
    call = _call(connection.execute(sa.select(*_CALL).where(_C.id == call_id)).one())
    assert call is not None
    return call


def ask(connection: sa.Connection, job_id: int, hook: Hook, percent: int | None, who: str) -> int:
    """Put a question; a dispatcher with the operator's file asks it. Return its number."""
    row = sa.insert(t.hook_call).values(job_id=job_id, hook=hook, percent=percent, who=who).returning(_C.id)
    audit.note_of_leave(connection, who, "ask hook", job_id, hook=hook, percent=percent)
    return int(connection.execute(row).scalar_one())


def take(connection: sa.Connection, hook: Hook, seconds: float) -> Call | None:
    """Take the oldest question that is due; it is due again after `seconds`. None if there is none."""
    due = (
        sa.select(_C.id)
        .where(_C.hook == hook, _C.answer == ASKED, _C.due_at <= NOW)
        .order_by(_C.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    until = NOW + sa.func.make_interval(0, 0, 0, 0, 0, 0, seconds)
    taken = sa.update(t.hook_call).where(_C.id == due.scalar_subquery()).values(due_at=until)
    return _call(connection.execute(taken.returning(*_CALL)).one_or_none())


def record(connection: sa.Connection, call: Call, *, allowed: bool, words: str) -> None:
    """Record an answer, in the job's reason too if it holds what a person asked for. Safe to repeat: the first counts.

    Locks the job first, as every act does.
    """
    jobs.lock(connection, call.job_id)
    values = {"answer": ALLOWED if allowed else REFUSED, "answered_at": NOW, "words": words}
    recorded = sa.update(t.hook_call).where(_C.id == call.id, _C.answer == ASKED).values(**values)
    if not connection.execute(recorded).rowcount:
        return
    audit.note(connection, f"hook {call.hook}", "allow" if allowed else "refuse", call.job_id, words=words)
    if not allowed and call.who != POLICY:
        jobs.set_reason(connection, call.job_id, held(call.hook, call.percent, words))


def use(connection: sa.Connection, call: Call) -> None:
    """Use up an answer that allows an act, in the transaction of the act."""
    connection.execute(sa.update(t.hook_call).where(_C.id == call.id).values(answer=USED))


def facts(connection: sa.Connection, call: Call) -> dict[str, Any]:
    """Return what a hook is given: the job, its namespaces and counts; no key, no record and no id of one."""
    job = jobs.get(connection, call.job_id)
    query = sa.select(_M.source, _M.to, _M.listed, _M.written, _M.parked, _M.left_behind)
    query = query.where(_M.job_id == job.id, _M.state != MoveState.CLEANED).order_by(_M.seq)
    rows = connection.execute(query.limit(_NAMESPACES)).all()
    sums = [sa.func.coalesce(sa.func.sum(_M[name]), 0).label(name) for name in ("listed", "written", "parked")]
    counted = sa.select(sa.func.count().label("namespaces"), *sums).where(_M.job_id == job.id)
    counts = connection.execute(counted).one()._mapping
    return given(
        call.delivery_id,
        call.hook,
        call.percent,
        call.who,
        job,
        {str(name): int(value) for name, value in counts.items()},
        [{str(name): value for name, value in row._mapping.items()} for row in rows],
    )
