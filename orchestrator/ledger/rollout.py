"""The steps of each job's roll-out: the share of moved readers, its start, and the evidence of shadow reads since."""

from datetime import datetime

import msgspec
import sqlalchemy as sa

from migrations.plan import Policies
from orchestrator.core import guards
from orchestrator.core.guards import Step, TakenBack
from orchestrator.core.model import Job
from orchestrator.ledger import tables as t
from vecfleet.tenancy.shadow_reads import Evidence, evidence_of

_S = t.step.c


def begin(connection: sa.Connection, job: Job, percent: int) -> None:
    """Begin a step: another share of the readers is on the new side. Not safe to repeat: a repeated step restarts."""
    connection.execute(sa.insert(t.step).values(job_id=job.id, percent=percent, passes=job.passes))


def taken_back(connection: sa.Connection, job_id: int) -> TakenBack | None:
    """Return the job's last step to a smaller share of the readers, or None if no reader was ever taken back."""
    before = sa.func.lag(_S.percent).over(order_by=_S.id).label("before")
    steps = sa.select(t.step, before).where(_S.job_id == job_id).subquery().c
    back = sa.select(steps.since, steps.passes).where(steps.percent < steps.before)
    row = connection.execute(back.order_by(steps.id.desc()).limit(1)).one_or_none()
    return None if row is None else TakenBack(row.since, row.passes)


def current(connection: sa.Connection, job_id: int) -> Step | None:
    """Return the job's last step, or None if no reader was moved yet."""
    row = connection.execute(
        sa.select(_S.percent, _S.since, _S.evidence).where(_S.job_id == job_id).order_by(_S.id.desc()).limit(1)
    ).one_or_none()
    return None if row is None else Step(row.percent, row.since, evidence_of(row.evidence or {}))


def watched_until(connection: sa.Connection, job_id: int, policies: Policies, now: datetime) -> datetime | None:
    """Return until when the job's moved readers are watched before the others may follow; None if they are not now."""
    step = current(connection, job_id)
    return None if step is None else guards.watched_until(step, policies, now)


def add_evidence(connection: sa.Connection, job_id: int, evidence: Evidence) -> None:
    """Add evidence to the job's last step. The caller holds the job's row lock, so that no sum is lost.

    Evidence sent twice counts twice: queries are samples, and decisions depend on shares, not on numbers.
    """
    last = connection.execute(sa.select(sa.func.max(_S.id)).where(_S.job_id == job_id)).scalar_one()
    if last is None:
        return
    before = connection.execute(sa.select(_S.evidence).where(_S.id == last)).scalar_one()
    total = evidence_of(before or {}).plus(evidence)
    connection.execute(sa.update(t.step).where(_S.id == last).values(evidence=msgspec.to_builtins(total)))
