"""The status of a job for people: its state and its waits, in a few bounded queries. Read-only.

A job of 12,000 namespaces and a million batches is read in well under a second: the database adds up totals,
namespaces come page by page, and only the head of the queue is searched for failures.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from migrations.plan import Estimate, Policies
from orchestrator.core.budget import SPENT
from orchestrator.core.guards import Proof
from orchestrator.core.model import Move, RecordCounts
from orchestrator.core.reading import JobRow, Reading, Totals, Waiting
from orchestrator.core.states import (
    BATCH_OPEN,
    JOB_ENDED,
    JOB_WORKING,
    KINDS_OF,
    BatchKind,
    BatchState,
    JobState,
    MoveState,
)
from orchestrator.ledger import clients, differences, jobs, leadership, moves, parked, rollback, rollout
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import NOW, among
from orchestrator.ledger.sides import index_of
from vecfleet.stores.base import Usage

_J, _M, _T, _B, _S = t.job.c, t.move.c, t.target.c, t.batch.c, t.spent.c
# Batches that wait for a retry come before those never tried, so they are at the head of the queue.
_HEAD = 1_000
_TOLD_EACH = sa.not_(rollback.LINGERS)  # one sentence covers all lingering batches
_REASONS = 3
# In these the next step tells of records that only another plan can move.
_LEADS_TO_ANOTHER_PLAN = frozenset({JobState.NEEDS_ATTENTION, JobState.CANCELLED, JobState.ROLLED_BACK})
_GROUPS = 10
_COUNTS = tuple(field.name for field in fields(RecordCounts))


def reading(connection: sa.Connection, job_id: int, *, namespaces: int) -> Reading:
    """Return everything about one job, with `namespaces` moves, the most urgent first. Raises NotFound."""
    row = connection.execute(_job_columns().where(_J.id == job_id)).one_or_none()
    if row is None:
        raise jobs.absent(connection, job_id)
    job = _job_row(row)
    stopped = _count(connection, job_id, _B.state == BatchState.PARKED)
    flight = {
        row.state: row
        for row in connection.execute(
            sa.select(_B.state, sa.func.count().label("n"), sa.func.min(_B.dispatched_at).label("since"))
            .where(_B.job_id == job_id, _B.state.in_((BatchState.DISPATCHED, BatchState.LEASED)))
            .group_by(_B.state)
        )
    }
    totals = _totals(connection, [job_id])[job_id]
    reasons = parked.groups(connection, job_id) if totals.parked or totals.left_behind or stopped else []
    unanswered = flight.get(BatchState.DISPATCHED)
    leased = flight.get(BatchState.LEASED)
    led = leadership.seconds_left(connection)
    now = connection.execute(sa.select(NOW)).scalar_one()
    split = job.state is JobState.VERIFIED and 0 < job.cut_over_percent < 100
    return Reading(
        now=now,
        job=job,
        totals=totals,
        targets=_targets(connection, job_id),
        undecided=parked.undecided(connection, job_id),
        parked_batches=stopped,
        left=_left(connection, job),
        leased=leased.n if leased else 0,
        unanswered=unanswered.n if unanswered else 0,
        unanswered_since=unanswered.since if unanswered else None,
        waiting=_waiting(connection, job_id),
        led=led is not None and led > 0,
        page=page(connection, job_id, namespaces),
        since=differences.since(connection, job_id, 0),
        proof=_proof(connection, job) if job.state is JobState.VERIFIED else None,
        watched_until=rollout.watched_until(connection, job_id, job.policies, now) if split else None,
        undoing=rollback.undoing(connection, job_id) if JobState.ROLLING_BACK in (job.state, job.resume_to) else None,
        conflicting=parked.conflicting(connection, job_id) if job.state in _LEADS_TO_ANOTHER_PLAN else 0,
        landing=connection.execute(sa.select(sa.func.max(_T.lands_by)).where(_T.job_id == job_id)).scalar_one(),
        empty_targets=len(parked.left_empty(connection, job_id)) if totals.left_behind else 0,
        reasons=reasons[:_GROUPS],
        more_reasons=len(reasons[_GROUPS:]),
        confirmations=parked.confirmations(connection, job_id, job.reason) if stopped or job.reason else (),
        clients=clients.groups(connection) if job.state not in JOB_ENDED else (),
        spent=used(connection, job_id) if (job.reason or "").startswith(SPENT) else None,
    )


def _proof(connection: sa.Connection, job: JobRow) -> Proof | None:
    there = sa.select(t.route.c.new_namespace).where(t.route.c.job_id == job.id, t.route.c.side == "new")
    oldest = connection.execute(
        sa.select(_T.namespace, _T.verdict_at)
        .where(_T.job_id == job.id, _T.verdict_at.is_not(None), _T.namespace.not_in(there))
        .order_by(_T.verdict_at)
        .limit(1)
    ).one_or_none()
    back = rollout.taken_back(connection, job.id)
    if oldest is None or (job.policies.cut_over == "none" and not job.cut_over_percent and back is None):
        return None
    return Proof(oldest.namespace, oldest.verdict_at, job.passes, back)


def every(
    connection: sa.Connection, states: Collection[str] = (), limit: int | None = None
) -> list[tuple[JobRow, Totals]]:
    """Return all jobs with their totals, or those in these states, the newest first; no more than `limit`."""
    chosen = _job_columns().order_by(_J.id.desc()).limit(limit)
    if states:
        chosen = chosen.where(among(_J.state, states))
    rows = [_job_row(row) for row in connection.execute(chosen)]
    totals = _totals(connection, [row.id for row in rows])
    return [(row, totals[row.id]) for row in rows]


def page(connection: sa.Connection, job_id: int, limit: int) -> list[Move]:
    """Return moves: first those that need a person, then those under way, then the others."""
    rank = sa.case(
        (sa.or_(_M.state.in_((MoveState.PARKED, MoveState.MISMATCHED)), _M.parked > 0), 0),
        (_M.state.in_((MoveState.COPYING, MoveState.REPAIRING, MoveState.CLEANING)), 1),
        (_M.state == MoveState.LISTING, 2),
        (_M.state == MoveState.COPIED, 3),
        else_=4,
    )
    begun = sa.case((_M.written + _M.identical > 0, 0), else_=1)
    rows = connection.execute(sa.select(t.move).where(_M.job_id == job_id).order_by(rank, begun, _M.seq).limit(limit))
    return [moves.from_row(row) for row in rows]


def _job_columns() -> sa.Select[Any]:
    plain = [_J[name] for name in JobRow.__dataclass_fields__ if name in _J and name not in ("source", "target")]
    return sa.select(
        *plain,
        index_of("source").label("source"),
        index_of("target").label("target"),
        _J.plan["source"]["store"].astext.label("source_store"),
        _J.plan["target"]["store"].astext.label("target_store"),
        _J.plan["recipe"].astext.label("recipe"),
        _J.plan["policies"].label("policies"),
        _J.plan["estimate"].label("estimate"),
        _J.plan["command"].label("command"),
    )


def _job_row(row: sa.Row[Any]) -> JobRow:
    body = dict(row._mapping)
    body["state"] = JobState(body["state"])
    body["resume_to"] = JobState(body["resume_to"]) if body["resume_to"] else None
    body["policies"] = Policies.model_validate(body["policies"])
    body["estimate"] = Estimate.model_validate(body["estimate"])
    body["command"] = tuple(body["command"] or ())  # plans of before do not know it
    return JobRow(**body)


def _totals(connection: sa.Connection, job_ids: Sequence[int]) -> dict[int, Totals]:
    expected = sa.case((_M.listed_all, _M.listed), else_=sa.func.greatest(_M.listed, _M.planned))
    sums = [sa.func.sum(_M[name]).label(name) for name in _COUNTS]
    namespaces: dict[int, dict[MoveState, int]] = {job_id: {} for job_id in job_ids}
    added: dict[int, dict[str, int]] = {job_id: dict.fromkeys((*_COUNTS, "expected"), 0) for job_id in job_ids}
    for row in connection.execute(
        sa.select(_M.job_id, _M.state, sa.func.count().label("n"), sa.func.sum(expected).label("expected"), *sums)
        .where(among(_M.job_id, job_ids))
        .group_by(_M.job_id, _M.state)
    ):
        namespaces[row.job_id][MoveState(row.state)] = row.n
        for name in added[row.job_id]:
            added[row.job_id][name] += int(row._mapping[name])
    return {job_id: Totals(namespaces=namespaces[job_id], **added[job_id]) for job_id in job_ids}


def _targets(connection: sa.Connection, job_id: int) -> dict[str, int]:
    rows = connection.execute(
        sa.select(_T.check_state, sa.func.count().label("n")).where(_T.job_id == job_id).group_by(_T.check_state)
    )
    return {row.check_state: row.n for row in rows}


def _left(connection: sa.Connection, job: JobRow) -> int:
    if job.state not in JOB_WORKING - {JobState.RUNNING}:
        return 0
    kinds = sorted(KINDS_OF[job.state])
    return _count(connection, job.id, _B.kind.in_(kinds), _B.state.in_(sorted(BATCH_OPEN)))


def _count(connection: sa.Connection, job_id: int, *where: Any) -> int:
    count: int = connection.execute(
        sa.select(sa.func.count()).select_from(t.batch).where(_B.job_id == job_id, *where)
    ).scalar_one()
    return count


def _waiting(connection: sa.Connection, job_id: int) -> list[Waiting]:
    columns = (_B.error_class, _B.error_text, _B.first_leased_at, _B.run_after)
    head = (
        sa.select(*columns)
        .where(_B.job_id == job_id, _B.state == BatchState.READY, _TOLD_EACH)
        .order_by(_B.seq, _B.id)
        .limit(_HEAD)
    )
    in_flight = _B.state.in_((BatchState.DISPATCHED, BatchState.LEASED))
    flight = sa.select(*columns).where(_B.job_id == job_id, in_flight, _TOLD_EACH)
    tried = sa.union_all(head, flight).subquery()
    rows = connection.execute(
        sa.select(
            tried.c.error_class,
            tried.c.error_text,
            sa.func.count().label("n"),
            sa.func.min(tried.c.first_leased_at).label("since"),
            sa.func.min(tried.c.run_after).filter(tried.c.run_after > NOW).label("next_at"),
        )
        .where(tried.c.error_class.is_not(None))
        .group_by(tried.c.error_class, tried.c.error_text)
        .order_by(sa.desc("n"), tried.c.error_text)
        .limit(_REASONS)
    )
    return [Waiting(row.error_class, row.error_text or "", row.n, row.since, row.next_at) for row in rows]


@dataclass(frozen=True, slots=True)
class Spent:
    """Cost of the batches of one step, failed attempts included; `began` and `ended` by the database clock."""

    requests: int
    read_units: float
    write_units: float
    egress_bytes: int
    began: datetime | None
    ended: datetime | None


def spent(connection: sa.Connection, job_id: int) -> dict[BatchKind, Spent]:
    """Return the cost by kind of batch. Discarded checks and proofs count too."""
    costs = ("requests", "read_units", "write_units", "egress_bytes")
    now = sa.select(
        _B.kind, *(_B[name] for name in costs), _B.first_leased_at.label("began"), _B.done_at.label("ended")
    )
    before = sa.select(_S.kind, *(_S[name] for name in costs), _S.began, _S.ended)
    both = sa.union_all(now.where(_B.job_id == job_id), before.where(_S.job_id == job_id)).subquery()
    rows = connection.execute(
        sa.select(
            both.c.kind,
            *(sa.func.sum(both.c[name]).label(name) for name in costs),
            sa.func.min(both.c.began).label("began"),
            sa.func.max(both.c.ended).label("ended"),
        ).group_by(both.c.kind)
    )
    return {
        BatchKind(row.kind): Spent(
            int(row.requests),
            float(row.read_units),
            float(row.write_units),
            int(row.egress_bytes),
            row.began,
            row.ended,
        )
        for row in rows
    }


def used(connection: sa.Connection, job_id: int) -> Usage:
    """Return the cost of the job so far."""
    usage = Usage()
    for kind in spent(connection, job_id).values():
        usage += Usage(kind.requests, kind.read_units, kind.write_units, kind.egress_bytes)
    return usage


def left_alone(connection: sa.Connection, job_id: int) -> list[str]:
    """Return the source namespaces that the plan does not move."""
    names: list[str] = connection.execute(sa.select(_J.plan["left_alone"]).where(_J.id == job_id)).scalar_one()
    return names


def unlisted(connection: sa.Connection, job_id: int) -> int:
    """Return how many source namespaces were not listed to the end: their numbers of records are not known."""
    query = sa.select(sa.func.count()).select_from(t.move).where(_M.job_id == job_id, ~_M.listed_all)
    number: int = connection.execute(query).scalar_one()
    return number


def recorded_tests(connection: sa.Connection, job_id: int) -> dict[str, str]:
    """Return the latest result of each test that was run and audited for this job: name → result."""
    rows = connection.execute(
        sa.select(t.audit.c.payload)
        .where(t.audit.c.job_id == job_id, t.audit.c.action == "test")
        .order_by(t.audit.c.id)
    )
    return {row.payload["test"]: row.payload["result"] for row in rows}
