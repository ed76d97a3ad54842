"""Calls of a worker that had lost its lease: the verdicts of other jobs that rest on them, and reasons that tell."""

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from orchestrator.core.late_calls import settled
from orchestrator.core.states import JOB_ENDED
from orchestrator.ledger import jobs
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import among
from vecfleet import names

_J, _M, _T = t.job.c, t.move.c, t.target.c


def resting_on(connection: sa.Connection, host: str, namespaces: Collection[str], *, but: int) -> Sequence[sa.Row[Any]]:
    """Return the targets of live jobs other than `but` whose verdicts rest on these namespaces of the index at `host`.

    A row for each that is one of them, or was written from one of them (`is_source`): its job, id and authority. A job
    that has not written from such a source yet has one row without a target.
    """
    there = sorted({spelling for name in namespaces for spelling in names.spellings(name)})
    live = sa.and_(_J.state.not_in(sorted(JOB_ENDED)), _J.id != but)
    target = _J.id.label("job_id"), _T.id.label("target_id"), _T.authority
    written_to = (
        sa.select(*target, sa.false().label("is_source"))
        .join_from(t.job, t.target, _T.job_id == _J.id)
        .where(live, among(_T.namespace, there), _J.target["host"].astext == host)
    )
    read_from = (
        sa.select(*target, sa.true().label("is_source"))
        .join_from(t.job, t.move, _M.job_id == _J.id)
        .outerjoin(t.move_target, t.move_target.c.move_id == _M.id)
        .outerjoin(t.target, _T.id == t.move_target.c.target_id)
        .where(live, among(_M.source, there), _J.source["host"].astext == host)
    )
    return connection.execute(sa.union(written_to, read_from)).all()


def settle_late_calls(connection: sa.Connection, job_id: int) -> None:
    """Take what the job's reason says of late calls out of it."""
    jobs.change(connection, job_id, reason=settled(jobs.reason_of(connection, job_id)))
