"""What the web page shows of a job besides `reads`: a cell for each namespace, and how fast it went. Read-only."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from orchestrator import tables as t
from orchestrator.ledger import moves
from orchestrator.model import Move, Target
from orchestrator.states import JOB_WORKING, BatchKind, BatchState, MoveState

_NOW = sa.func.clock_timestamp()
_J, _M, _T, _B = t.job.c, t.move.c, t.target.c, t.batch.c
_SETTLED = _M.written + _M.identical + _M.gone + _M.parked + _M.left_behind + _M.erased
_EXPECTED = sa.case((_M.listed_all, _M.listed), else_=sa.func.greatest(_M.listed, _M.planned))
# A namespace that was written to so long ago is written to no more, or not often enough to be held up.
_WRITTEN_WITHIN = sa.text("interval '5 seconds'")


class Cell(NamedTuple):
    """One move of a job, as small as it can be told."""

    state: str
    settled: int
    expected: int
    parked: int
    deleted: int


def cells(connection: sa.Connection, job_id: int) -> list[Cell]:
    """Every move of a job in the order of its plan: the n-th has the `seq` n + 1."""
    rows = connection.execute(
        sa.select(_M.state, _SETTLED, _EXPECTED, _M.parked, _M.deleted).where(_M.job_id == job_id).order_by(_M.seq)
    )
    return [Cell(*row) for row in rows]


def namespace(connection: sa.Connection, job_id: int, seq: int) -> tuple[Move, list[Target]] | None:
    """One move and the targets it writes to, or None where the job has none of this number."""
    row = connection.execute(sa.select(t.move).where(_M.job_id == job_id, _M.seq == seq)).one_or_none()
    if row is None:
        return None
    tied = sa.select(t.move_target.c.target_id).where(t.move_target.c.move_id == row.id)
    return moves.from_row(row), moves.targets_of_job(connection, job_id, _T.id.in_(tied))


def namespaces(
    connection: sa.Connection, job_id: int, *, after: int, limit: int, states: Sequence[MoveState] = ()
) -> list[Move]:
    """A page of the moves (in these states; none named: in all), those with a `seq` above `after`."""
    query = sa.select(t.move).where(_M.job_id == job_id, _M.seq > after).order_by(_M.seq).limit(limit)
    if states:
        query = query.where(_M.state.in_(states))
    return [moves.from_row(row) for row in connection.execute(query)]


@dataclass(frozen=True, slots=True)
class Throughput:
    """Records a second over the life of a job, in spans of `seconds` from `began` on."""

    began: datetime
    seconds: float
    rates: tuple[float, ...]


_SPANS = 100
_SHORTEST_SPAN_S = 0.5


def throughput(connection: sa.Connection, job_id: int) -> Throughput | None:
    """By the times at which copy batches landed; None before the first one. Reads every batch of the job."""
    landed = sa.and_(_B.job_id == job_id, _B.kind == BatchKind.COPY, _B.state == BatchState.DONE)
    last = sa.func.max(_B.done_at)
    row = connection.execute(
        sa.select(
            sa.func.min(sa.func.coalesce(_B.first_leased_at, _B.done_at)).label("began"),
            sa.case((sa.exists().where(_J.id == job_id, _J.state == "running"), _NOW), else_=last).label("until"),
        ).where(landed)
    ).one()
    if row.began is None or row.until is None:
        return None
    seconds = max((row.until - row.began).total_seconds() / _SPANS, _SHORTEST_SPAN_S)
    span = sa.cast(sa.func.floor(sa.func.extract("epoch", _B.done_at - row.began) / seconds), sa.Integer)
    counts = {
        found.span: int(found.records)
        for found in connection.execute(
            sa.select(span.label("span"), sa.func.sum(_B.size).label("records")).where(landed).group_by(span)
        )
    }
    spans = int((row.until - row.began).total_seconds() / seconds) + 1
    return Throughput(row.began, seconds, tuple(counts.get(number, 0) / seconds for number in range(spans)))


@dataclass(frozen=True, slots=True)
class Paced:
    """Whose pace a working job keeps to, and at which share of the documented limits. `written`: target namespaces."""

    job_id: int
    source_host: str
    target_host: str
    share: float
    written: tuple[str, ...]


def paced(connection: sa.Connection, namespaces: int) -> list[Paced]:
    """Every working job, each with at most so many of the namespaces it wrote to in the last seconds."""
    rows: Sequence[Any] = connection.execute(
        sa.select(
            _J.id,
            _J.source["host"].astext.label("source_host"),
            _J.target["host"].astext.label("target_host"),
            _J.pace_share,
        ).where(_J.state.in_(sorted(JOB_WORKING)))
    ).all()
    return [
        Paced(row.id, row.source_host, row.target_host, row.pace_share, _written(connection, row.id, namespaces))
        for row in rows
    ]


def _written(connection: sa.Connection, job_id: int, limit: int) -> tuple[str, ...]:
    recent = sa.select(_T.namespace).where(_T.job_id == job_id, _T.last_write_at > _NOW - _WRITTEN_WITHIN)
    return tuple(connection.execute(recent.order_by(_T.last_write_at.desc()).limit(limit)).scalars())


def places(connection: sa.Connection) -> list[tuple[str, str]]:
    """Each namespace that a job reads or writes, with the host of its index. Reads every move and target."""
    read = sa.select(_J.source["host"].astext, _M.source).join(t.move, _M.job_id == _J.id)
    written = sa.select(_J.target["host"].astext, _T.namespace).join(t.target, _T.job_id == _J.id)
    return [(host, name) for host, name in connection.execute(sa.union(read, written))]
