"""Figures of the fleet for monitoring: a few statements, read-only, by job and never by namespace.

Rows are counted as they are now, and a batch that is copied again is open again: what grows as a rule may also shrink.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from orchestrator import tables as t
from orchestrator.ledger import leadership, reads
from orchestrator.ledger.reads import JobRow, Totals
from orchestrator.states import BATCH_OPEN, JOB_ENDED, BatchState

_NOW = sa.func.clock_timestamp()
_J, _T, _B, _D, _S = t.job.c, t.target.c, t.batch.c, t.difference.c, t.spent.c
# The last figures of a job that ended are there long enough for any monitoring to have read them.
_SHOWN_AFTER_THE_END = sa.text("interval '1 hour'")
_UNSETTLED = sorted(BATCH_OPEN | {BatchState.PARKED})
# Upper edges in seconds of how long a batch was worked on: a request takes a tenth of a second, its deadline 20.
BUSY_EDGES_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass(frozen=True, slots=True)
class Step:
    """What one kind of batch took in one job, failed attempts and what was made anew included.

    `within`: how many done batches were worked on for no longer than each of BUSY_EDGES_S; `done` and `busy_s` of them.
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
    """One job. `unsettled`: open and parked batches by state; `failing`: batches to be tried again, by error class.

    `targets` by verdict, `findings` of the last checks by kind. `unproven_s`: how long ago the last write was to the
    target that has waited longest for a verdict; 0 where every write is covered by one.
    """

    row: JobRow
    totals: Totals
    unsettled: dict[str, int] = field(default_factory=dict)
    failing: dict[str, int] = field(default_factory=dict)
    targets: dict[str, int] = field(default_factory=dict)
    findings: dict[str, int] = field(default_factory=dict)
    unproven_s: float = 0.0
    steps: dict[str, Step] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Figures:
    """`late_writes`: writes that may have come after their lease was lost."""

    leads: bool
    by_state: dict[str, int]
    jobs: Sequence[JobFigures]
    late_writes: int


def read(connection: sa.Connection) -> Figures:
    """Every job that is not over, or was an hour ago. Reads every batch of them."""
    states = connection.execute(sa.select(_J.state, sa.func.count()).group_by(_J.state)).all()
    recent = sa.or_(_J.state.not_in(JOB_ENDED), _J.ended_at > _NOW - _SHOWN_AFTER_THE_END)
    shown = set(connection.execute(sa.select(_J.id).where(recent)).scalars())
    every = {row.id: JobFigures(row, totals) for row, totals in reads.every(connection) if row.id in shown}
    for job_id, state, count in connection.execute(
        sa.select(_B.job_id, _B.state, sa.func.count())
        .where(_B.job_id.in_(shown), _B.state.in_(_UNSETTLED))
        .group_by(_B.job_id, _B.state)
    ):
        every[job_id].unsettled[state] = count
    for job_id, error, count in connection.execute(
        sa.select(_B.job_id, _B.error_class, sa.func.count())
        .where(_B.job_id.in_(shown), _B.state.in_(sorted(BATCH_OPEN)), _B.error_class.is_not(None))
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
        .where(_T.job_id.in_(every))
        .group_by(_T.job_id, _T.check_state)
    ):
        every[job_id].targets[verdict] = count
    for job_id, kind, count in connection.execute(
        sa.select(_T.job_id, _D.kind, sa.func.sum(_D.size))
        .join(t.difference, _D.target_id == _T.id)
        .where(_T.job_id.in_(every))
        .group_by(_T.job_id, _D.kind)
    ):
        every[job_id].findings[kind] = int(count)
    covered = sa.and_(_T.check_state.in_(("verified", "empty")), _T.check_sequence == _T.sequence)
    for job_id, seconds in connection.execute(
        sa.select(_T.job_id, sa.func.extract("epoch", _NOW - sa.func.min(_T.last_write_at)))
        .where(_T.job_id.in_(every), _T.last_write_at.is_not(None), sa.not_(sa.func.coalesce(covered, False)))
        .group_by(_T.job_id)
    ):
        every[job_id].unproven_s = float(seconds)


def _steps(connection: sa.Connection, every: dict[int, JobFigures]) -> None:
    costs = ("requests", "read_units", "write_units", "egress_bytes")
    done = _B.state == BatchState.DONE
    before = {(row.job_id, row.kind): row for row in connection.execute(sa.select(t.spent).where(_S.job_id.in_(every)))}
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
        .where(_B.job_id.in_(every))
        .group_by(_B.job_id, _B.kind)
    ):
        earlier = before.get((row.job_id, row.kind))
        spent = {name: row._mapping[name] + (earlier._mapping[name] if earlier else 0) for name in costs}
        every[row.job_id].steps[row.kind] = Step(
            requests=int(spent["requests"]),
            read_units=float(spent["read_units"]),
            write_units=float(spent["write_units"]),
            egress_bytes=int(spent["egress_bytes"]),
            done=row.done,
            busy_s=float(row.busy_ms) / 1_000,
            within=tuple(row._mapping[f"within_{n}"] for n in range(len(BUSY_EDGES_S))),
        )
