"""Retention: the rows of an ended job that stay, and those that may go.

Ids, digests and batches make a job provable while it runs. Nothing needs them once the job's old side is gone: the way
back reads the records themselves, and the report reads sums. Three short rows for each namespace stay.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from orchestrator.core.states import JOB_ENDED, BatchKind, CheckState, JobState
from orchestrator.core.wording import being, in_days
from orchestrator.ledger import batches
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import NOW, among
from orchestrator.ledger.sides import index_of

_DAY_S = 86_400
_J, _M, _T, _B, _P = t.job.c, t.move.c, t.target.c, t.batch.c, t.parked_record.c
# Query batches stay because reports quote their answers. A batch with parked records stays as long as these records.
_GOES = sa.and_(_B.kind != BatchKind.QUERY, ~sa.select(_P.id).where(_P.batch_id == _B.id).exists())


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that ended long enough ago. The `batches` that may go hold about `bytes` of ids and digests.

    `stays` says why nothing may go; None if it may.
    """

    job_id: int
    state: JobState
    source: str
    ended_at: datetime
    batches: int
    bytes: int
    stays: str | None


def ended(connection: sa.Connection, days: float, job_id: int | None = None) -> list[Ended]:
    """Return jobs that ended `days` ago or earlier and have batches that may go, oldest first. Reads every batch."""
    size = sa.func.coalesce(sa.func.sum(sa.func.pg_column_size(_B.manifest)), 0)
    digests = sa.select(
        _B.job_id,
        sa.func.coalesce(sa.func.sum(sa.func.pg_column_size(t.batch_tally.c.record_digests)), 0).label("bytes"),
    )
    tallied = digests.join(t.batch_tally, t.batch_tally.c.batch_id == _B.id).group_by(_B.job_id).subquery()
    counted = (
        sa.select(_B.job_id, sa.func.count().label("batches"), size.label("bytes"))
        .where(_GOES)
        .group_by(_B.job_id)
        .subquery()
    )
    query = (
        sa.select(
            _J.id,
            _J.state,
            index_of("source").label("source"),
            _J.ended_at,
            counted.c.batches,
            (counted.c.bytes + sa.func.coalesce(tallied.c.bytes, 0)).label("bytes"),
            _wrote().label("wrote"),
        )
        .join(counted, counted.c.job_id == _J.id)
        .outerjoin(tallied, tallied.c.job_id == _J.id)
        .where(_J.state.in_(sorted(JOB_ENDED)), _J.ended_at <= NOW - timedelta(days=days))
        .order_by(_J.ended_at, _J.id)
    )
    if job_id is not None:
        query = query.where(_J.id == job_id)
    return [
        Ended(
            row.id,
            JobState(row.state),
            row.source,
            row.ended_at,
            row.batches,
            int(row.bytes),
            _stays(row.id, JobState(row.state), row.wrote),
        )
        for row in connection.execute(query)
    ]


def _wrote() -> Any:
    """Return the condition that the job of the enclosing query may have written anything."""
    return sa.select(_B.id).where(_B.job_id == _J.id, _B.targets.is_not(None)).correlate(t.job).exists()


def _stays(job_id: int, state: JobState, wrote: bool) -> str | None:
    if state in (JobState.CANCELLED, JobState.FINISHED) and wrote:
        return f"it wrote records, and `vecfleet rollback {job_id}` needs to know which"
    return None


def why_it_stays(connection: sa.Connection, job_id: int, least_days: float) -> str | None:
    """Say why nothing of this job may go; None if it may. Call it under the job's row lock."""
    age = sa.func.extract("epoch", NOW - _J.ended_at).label("age")
    row = connection.execute(sa.select(_J.state, age, _wrote().label("wrote")).where(_J.id == job_id)).one()
    if row.state not in JOB_ENDED:
        return f"it {being(row.state)}"
    if row.age < least_days * _DAY_S:
        return f"it ended less than {in_days(least_days)} ago, and a frozen worker of it may still wake up and write"
    return _stays(job_id, JobState(row.state), row.wrote)


def let_go_of_ids(connection: sa.Connection, job_id: int) -> None:
    """Delete ids claimed in shared targets and the bookmarks of listings; findings no longer name their batch."""
    targets = sa.select(_T.id).where(_T.job_id == job_id)
    connection.execute(sa.delete(t.target_id).where(t.target_id.c.target_id.in_(targets)))
    for table in (t.difference, t.finding):
        connection.execute(
            sa.update(table).where(table.c.target_id.in_(targets), table.c.copy_id.is_not(None)).values(copy_id=None)
        )
    connection.execute(sa.update(t.move).where(_M.job_id == job_id).values(last_id=None, page_token=None))


def shorten_verdicts(connection: sa.Connection, job_id: int) -> None:
    """Shorten each good verdict to its level, records, digest, reason and anything unusual. Safe to repeat.

    Zeros, empty lists, and counts or digests equal to the expected ones add nothing, nor do columns of the target. They
    are a quarter of all that a namespace keeps.
    """
    fact = (
        sa.func.jsonb_each(_T.verdict)
        .table_valued(sa.column("key", sa.Text), sa.column("value", JSONB), name="fact")
        .render_derived()
    )
    key, value = fact.c.key, fact.c.value
    told = sa.or_(
        key.in_(("sequence", "verified")),
        sa.and_(key != "expected", sa.cast(value, sa.Text).in_(("0", "[]", "null"))),
        sa.and_(key == "listings", sa.cast(value, sa.Text) == "1"),
        sa.and_(key.in_(("read", "listed", "counted")), value == _T.verdict["expected"]),
        sa.and_(key == "digest_read", value == _T.verdict["digest"]),
    )
    kept = sa.select(sa.func.jsonb_object_agg(key, value)).select_from(fact).where(~told).scalar_subquery()
    proven = sa.and_(_T.job_id == job_id, _T.check_state == CheckState.VERIFIED, _T.verdict.is_not(None))
    connection.execute(sa.update(t.target).where(proven).values(verdict=kept))


def drop_batches(connection: sa.Connection, job_id: int, limit: int) -> int:
    """Delete up to `limit` batches with their tallies; their cost stays with the job. Return the number deleted.

    Batches that work on another batch's ids go first. Safe to repeat.
    """
    batch_ids = list(
        connection.execute(
            sa.select(_B.id)
            .where(_B.job_id == job_id, _GOES)
            .order_by(_B.copy_id.is_(None), _B.id)
            .limit(limit)
            .with_for_update()
        ).scalars()
    )
    connection.execute(sa.delete(t.batch_tally).where(among(t.batch_tally.c.batch_id, batch_ids)))
    batches.discard(connection, among(_B.id, batch_ids))
    return len(batch_ids)
