"""Figures for the page (cells and speeds) and for monitoring (counts by job). Read-only.

Monitoring reads figures in a few statements, by job and never by namespace. Rows count in their present state, and a
batch that is copied again is open again: counts that usually grow may also shrink.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from orchestrator.core.model import Move, Target
from orchestrator.core.reading import JobRow, Totals
from orchestrator.core.states import BATCH_OPEN, CHECK_PASSED, JOB_ENDED, JOB_WORKING, BatchKind, BatchState, MoveState
from orchestrator.ledger import leadership, moves, status
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import NOW, among

_J, _M, _T, _B = t.job.c, t.move.c, t.target.c, t.batch.c
_D, _S = t.difference.c, t.spent.c
_DONE = _M.written + _M.identical + _M.gone + _M.erased
_EXPECTED = sa.case((_M.listed_all, _M.listed), else_=sa.func.greatest(_M.listed, _M.planned))
# A namespace without a write for this long is no longer written to, or so rarely that the pace does not hold it up.
_WRITTEN_WITHIN = sa.text("interval '5 seconds'")


class Cell(NamedTuple):
    """The few figures that show one move of a job."""

    state: str
    done: int
    expected: int
    parked: int
    deleted: int


def cells(connection: sa.Connection, job_id: int) -> list[Cell]:
    """Return every move of a job in the order of its plan: index n has the `seq` n + 1."""
    rows = connection.execute(
        sa.select(_M.state, _DONE, _EXPECTED, _M.parked, _M.deleted).where(_M.job_id == job_id).order_by(_M.seq)
    )
    return [Cell(*row) for row in rows]


def namespace(connection: sa.Connection, job_id: int, seq: int) -> tuple[Move, list[Target]] | None:
    """Return one move and its targets, or None if the job has no move of this number."""
    row = connection.execute(sa.select(t.move).where(_M.job_id == job_id, _M.seq == seq)).one_or_none()
    if row is None:
        return None
    tied = sa.select(t.move_target.c.target_id).where(t.move_target.c.move_id == row.id)
    return moves.from_row(row), moves.targets_of_job(connection, job_id, _T.id.in_(tied))


def namespaces(
    connection: sa.Connection, job_id: int, *, after: int, limit: int, states: Sequence[MoveState] = ()
) -> list[Move]:
    """Return a page of the moves with a `seq` above `after`, in these states; in all states if none is named."""
    query = sa.select(t.move).where(_M.job_id == job_id, _M.seq > after).order_by(_M.seq).limit(limit)
    if states:
        query = query.where(_M.state.in_(states))
    return [moves.from_row(row) for row in connection.execute(query)]


_TOLD = (
    *("id", "kind", "seq", "size", "state", "attempts", "first_leased_at", "done_at", "run_after", "lease_owner"),
    *("error_class", "error_text", "requests", "read_units", "write_units", "egress_bytes", "busy_ms", "found"),
)


def batches_of_move(connection: sa.Connection, move_id: int, limit: int) -> Sequence[Any]:
    """Return copy batches of a move: first those that are not done, then the slowest."""
    rest = sa.case((_B.state == BatchState.DONE, 1), else_=0)
    query = sa.select(*(_B[name] for name in _TOLD)).where(_B.move_id == move_id, _B.kind == BatchKind.COPY)
    return connection.execute(query.order_by(rest, _B.busy_ms.desc(), _B.seq).limit(limit)).all()


def history_of_batch(connection: sa.Connection, job_id: int, batch_id: int) -> Sequence[Any]:
    """Return a batch, and then the batches that work on its ids, oldest first."""
    its_own = sa.or_(_B.id == batch_id, _B.copy_id == batch_id)
    query = sa.select(*(_B[name] for name in _TOLD)).where(_B.job_id == job_id, its_own)
    rows = connection.execute(query.order_by(_B.id != batch_id, _B.id)).all()
    return rows if rows and rows[0].id == batch_id else ()


@dataclass(frozen=True, slots=True)
class Throughput:
    """Records a second over the life of a job, in spans of `seconds` from `began` to `ended`."""

    began: datetime
    seconds: float
    rates: tuple[float, ...]
    ended: datetime


_SPANS = 100
_SHORTEST_SPAN_S = 0.5


def throughput(connection: sa.Connection, job_id: int) -> Throughput | None:
    """Return the throughput by the times when copy batches were done; None before the first. Reads every batch."""
    landed = sa.and_(_B.job_id == job_id, _B.kind == BatchKind.COPY, _B.state == BatchState.DONE)
    last = sa.func.max(_B.done_at)
    row = connection.execute(
        sa.select(
            sa.func.min(sa.func.coalesce(_B.first_leased_at, _B.done_at)).label("began"),
            sa.case((sa.exists().where(_J.id == job_id, _J.state == "running"), NOW), else_=last).label("until"),
        ).where(landed)
    ).one()
    if row.began is None or row.until is None:
        return None
    seconds = max((row.until - row.began).total_seconds() / _SPANS, _SHORTEST_SPAN_S)
    span = sa.cast(sa.func.floor(sa.func.extract("epoch", _B.done_at - row.began) / seconds), sa.Integer)
    counts = {
        group.span: int(group.records)
        for group in connection.execute(
            sa.select(span.label("span"), sa.func.sum(_B.size).label("records")).where(landed).group_by(span)
        )
    }
    spans = int((row.until - row.began).total_seconds() / seconds) + 1
    return Throughput(row.began, seconds, tuple(counts.get(number, 0) / seconds for number in range(spans)), row.until)


@dataclass(frozen=True, slots=True)
class Paced:
    """The index hosts of a working job, and its share of the documented limits. `written`: its target namespaces."""

    job_id: int
    source_host: str
    target_host: str
    share: float
    written: tuple[str, ...]


def paced(connection: sa.Connection, namespaces: int) -> list[Paced]:
    """Return every working job, each with at most `namespaces` that it wrote to in the last seconds."""
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
    recent = sa.select(_T.namespace).where(_T.job_id == job_id, _T.last_write_at > NOW - _WRITTEN_WITHIN)
    return tuple(connection.execute(recent.order_by(_T.last_write_at.desc()).limit(limit)).scalars())


@dataclass(frozen=True, slots=True)
class HeldByProcess:
    """Batches that one process holds on lease. The lease that ends first ends at `until`."""

    batches: int
    until: datetime


def held_by_process(connection: sa.Connection) -> dict[tuple[str, int], HeldByProcess]:
    """Return (host, pid) → the batches that this process holds on lease."""
    host, pid = (sa.func.split_part(_B.lease_owner, ":", part) for part in (1, 2))
    rows = connection.execute(
        sa.select(host, pid, sa.func.count(), sa.func.min(_B.lease_until))
        .where(_B.state == BatchState.LEASED, _B.lease_owner.is_not(None))
        .group_by(host, pid)
    )
    return {(row[0], int(row[1])): HeldByProcess(row[2], row[3]) for row in rows}


def places(connection: sa.Connection) -> list[tuple[str, str]]:
    """Return each namespace that a job reads or writes, with its index's host. Reads every move and target."""
    read = sa.select(_J.source["host"].astext, _M.source).join(t.move, _M.job_id == _J.id)
    written = sa.select(_J.target["host"].astext, _T.namespace).join(t.target, _T.job_id == _J.id)
    return [(host, name) for host, name in connection.execute(sa.union(read, written))]


# The last figures of an ended job stay for this long, so that any monitoring reads them.
_SHOWN_AFTER_THE_END = sa.text("interval '1 hour'")
_UNSETTLED = sorted(BATCH_OPEN | {BatchState.PARKED})
# Upper edges, in seconds, of the time that one batch takes: a request takes about 0.1 s, its deadline is 20 s.
BUSY_EDGES_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass(frozen=True, slots=True)
class KindFigures:
    """Cost of one kind of batch in one job, with failed attempts and discarded batches.

    `within`: the number of done batches that took no longer than each of BUSY_EDGES_S. `done` and `busy_s` count done
    batches too.
    """

    requests: int
    read_units: float
    write_units: float
    egress_bytes: int
    done: int
    busy_s: float
    within: tuple[int, ...]


@dataclass(slots=True)
class JobFigures:
    """Figures of one job. `unsettled`: open and parked batches by state. `failing`: batches to retry, by error class.

    `targets` by verdict; `findings` of the last checks by kind. `unproven_s`: seconds since the last write to the
    target that has waited longest for a verdict; 0 if a verdict covers every write.
    """

    row: JobRow
    totals: Totals
    unsettled: dict[str, int] = field(default_factory=dict)
    failing: dict[str, int] = field(default_factory=dict)
    targets: dict[str, int] = field(default_factory=dict)
    findings: dict[str, int] = field(default_factory=dict)
    unproven_s: float = 0.0
    steps: dict[str, KindFigures] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of all jobs. `late_writes`: writes that may have come after their lease was lost."""

    leads: bool
    by_state: dict[str, int]
    jobs: Sequence[JobFigures]
    late_writes: int


def read(connection: sa.Connection) -> Figures:
    """Return every job that is live or ended within the last hour. Reads every batch of them."""
    states = connection.execute(sa.select(_J.state, sa.func.count()).group_by(_J.state)).all()
    recent = sa.or_(_J.state.not_in(JOB_ENDED), _J.ended_at > NOW - _SHOWN_AFTER_THE_END)
    shown = set(connection.execute(sa.select(_J.id).where(recent)).scalars())
    every = {row.id: JobFigures(row, totals) for row, totals in status.every(connection) if row.id in shown}
    for job_id, state, count in connection.execute(
        sa.select(_B.job_id, _B.state, sa.func.count())
        .where(among(_B.job_id, shown), _B.state.in_(_UNSETTLED))
        .group_by(_B.job_id, _B.state)
    ):
        every[job_id].unsettled[state] = count
    for job_id, error, count in connection.execute(
        sa.select(_B.job_id, _B.error_class, sa.func.count())
        .where(among(_B.job_id, shown), _B.state.in_(sorted(BATCH_OPEN)), _B.error_class.is_not(None))
        .group_by(_B.job_id, _B.error_class)
    ):
        every[job_id].failing[error] = count
    _targets(connection, every)
    _steps(connection, every)
    lead = leadership.seconds_left(connection)
    late: int = connection.execute(
        sa.select(sa.func.count()).select_from(t.audit).where(t.audit.c.action == "late write")
    ).scalar_one()
    return Figures(lead is not None and lead > 0, {row[0]: row[1] for row in states}, list(every.values()), late)


def _targets(connection: sa.Connection, every: dict[int, JobFigures]) -> None:
    for job_id, verdict, count in connection.execute(
        sa.select(_T.job_id, _T.check_state, sa.func.count())
        .where(among(_T.job_id, every))
        .group_by(_T.job_id, _T.check_state)
    ):
        every[job_id].targets[verdict] = count
    for job_id, kind, count in connection.execute(
        sa.select(_T.job_id, _D.kind, sa.func.sum(_D.size))
        .join(t.difference, _D.target_id == _T.id)
        .where(among(_T.job_id, every))
        .group_by(_T.job_id, _D.kind)
    ):
        every[job_id].findings[kind] = int(count)
    covered = sa.and_(_T.check_state.in_(CHECK_PASSED), _T.check_sequence == _T.sequence)
    for job_id, seconds in connection.execute(
        sa.select(_T.job_id, sa.func.extract("epoch", NOW - sa.func.min(_T.last_write_at)))
        .where(among(_T.job_id, every), _T.last_write_at.is_not(None), sa.not_(sa.func.coalesce(covered, False)))
        .group_by(_T.job_id)
    ):
        every[job_id].unproven_s = float(seconds)


def _steps(connection: sa.Connection, every: dict[int, JobFigures]) -> None:
    costs = ("requests", "read_units", "write_units", "egress_bytes")
    done = _B.state == BatchState.DONE
    purged = connection.execute(sa.select(t.spent).where(among(_S.job_id, every)))
    before = {(row.job_id, row.kind): row for row in purged}
    for row in connection.execute(
        sa.select(
            _B.job_id,
            _B.kind,
            *(sa.func.sum(_B[name]).label(name) for name in costs),
            sa.func.count().filter(done).label("done"),
            sa.func.coalesce(sa.func.sum(_B.busy_ms).filter(done), 0).label("busy_ms"),
            *(
                sa.func.count().filter(done, _B.busy_ms <= edge * 1_000).label(f"within_{n}")
                for n, edge in enumerate(BUSY_EDGES_S)
            ),
        )
        .where(among(_B.job_id, every))
        .group_by(_B.job_id, _B.kind)
    ):
        earlier = before.get((row.job_id, row.kind))
        spent = {name: row._mapping[name] + (earlier._mapping[name] if earlier else 0) for name in costs}
        every[row.job_id].steps[row.kind] = KindFigures(
            requests=int(spent["requests"]),
            read_units=float(spent["read_units"]),
            write_units=float(spent["write_units"]),
            egress_bytes=int(spent["egress_bytes"]),
            done=row.done,
            busy_s=float(row.busy_ms) / 1_000,
            within=tuple(row._mapping[f"within_{n}"] for n in range(len(BUSY_EDGES_S))),
        )
