"""Rollback: its batches, their results, its progress and its waits."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from orchestrator.core.model import Finding, Lease
from orchestrator.core.reading import RollBackProgress, Undoing
from orchestrator.core.states import BATCH_OPEN, KINDS_OF, ROLLING_BACK, BatchKind, BatchState, JobState, MoveState
from orchestrator.ledger import batches, differences, transitions
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import among

_T, _B, _M = t.target.c, t.batch.c, t.move.c
_NOT_LEASED = _B.state != BatchState.LEASED
LINGERS = sa.and_(_B.kind == BatchKind.DROP, sa.func.coalesce(_B.error_class, "") == "Waiting")
"""A condition: the namespace to drop looks empty and gets one more look once reads cannot lag any more."""


def undoing(connection: sa.Connection, job_id: int) -> Undoing:
    """Return the progress of a job that rolls back or stopped in the middle of it."""
    lingers = sa.and_(LINGERS, _B.state.in_(sorted(BATCH_OPEN)))
    untried = sa.and_(_B.kind != BatchKind.DROP, _B.state == BatchState.READY, _B.first_leased_at.is_(None))
    rows = {
        row.kind: row
        for row in connection.execute(
            sa.select(
                _B.kind,
                sa.func.count().label("n"),
                sa.func.count().filter(_B.state.not_in(sorted(BATCH_OPEN))).label("done"),
                sa.func.count().filter(lingers).label("lingering"),
                sa.func.max(_B.first_leased_at).filter(lingers).label("since"),
                sa.func.max(_B.run_after).filter(untried).label("not_before"),
            )
            .where(_B.job_id == job_id, _B.kind.in_(sorted(KINDS_OF[JobState.ROLLING_BACK])))
            .where(_B.state != BatchState.SPLIT)
            .group_by(_B.kind)
        )
    }

    def of(kind: BatchKind, coming: int) -> tuple[int, int]:
        row = rows.get(kind)
        return (row.done, max(row.n, coming)) if row else (0, coming)

    compared = of(BatchKind.COMPARE, 0)
    droppable: int = connection.execute(
        sa.select(sa.func.count()).where(_T.job_id == job_id, _T.created_by_us)
    ).scalar_one()
    drop = rows.get(BatchKind.DROP)
    return Undoing(
        compared=compared,
        undone=of(BatchKind.UNDO, compared[1]),
        dropped=of(BatchKind.DROP, droppable),
        lingering=drop.lingering if drop else 0,
        since=drop.since if drop else None,
        not_before=max((row.not_before for row in rows.values() if row.not_before is not None), default=None),
    )


def begin_rolling_back(connection: sa.Connection, job_id: int, not_before: datetime | None) -> None:
    """Add one `compare` for every copy batch that may have written something. Deletes no record.

    No batch is due before `not_before`. From that time on reads show the applications' last writes.
    """
    differences.forget_changed(connection, job_id)
    batches.discard(connection, _B.job_id == job_id, _B.kind.in_(ROLLING_BACK))
    _per_written_copy(connection, job_id, BatchKind.COMPARE, sa.literal(not_before, sa.DateTime(timezone=True)))


def wait_until(connection: sa.Connection, job_id: int, moment: datetime) -> None:
    """Hold a rollback back until then: reads show the applications' last writes from then on.

    What a worker has at this moment goes on. The moment stands in settled batches too, for the `undo`s yet to be added.
    """
    its = sa.and_(_B.job_id == job_id, _B.kind.in_(ROLLING_BACK))
    connection.execute(transitions.batch_to(BatchState.READY).where(its, _B.state == BatchState.DISPATCHED))
    connection.execute(sa.update(t.batch).where(its).values(run_after=_no_sooner_than(moment)))


def _no_sooner_than(moment: datetime) -> sa.ColumnElement[datetime]:
    return sa.func.greatest(_B.run_after, moment)


def add_undos(connection: sa.Connection, job_id: int) -> None:
    """Add one `undo` for every written copy batch without one, due once no `compare` would have to wait any more."""
    compares = sa.and_(_B.job_id == job_id, _B.kind == BatchKind.COMPARE)
    held_until = sa.select(sa.func.max(_B.run_after)).where(compares).scalar_subquery()
    _per_written_copy(connection, job_id, BatchKind.UNDO, held_until)


def add_drops(connection: sa.Connection, job_id: int) -> None:
    """Add one `drop` for every target namespace that we created."""
    connection.execute(
        sa.insert(t.batch).from_select(
            ["job_id", "target_id", "kind", "seq"],
            sa.select(_T.job_id, _T.id, sa.literal(str(BatchKind.DROP)), sa.literal(0))
            .where(_T.job_id == job_id, _T.created_by_us)
            .where(~sa.select(_B.id).where(_B.target_id == _T.id, _B.kind == BatchKind.DROP).exists()),
        )
    )


def take_back(connection: sa.Connection, lease: Lease, namespaces_of: Sequence[int], not_before: datetime) -> None:
    """Undo a batch again that wrote after its undo, and later drop the namespaces that it may have created again.

    The undo begins `not_before`: from that time on reads show what applications wrote there meanwhile.
    If the deletion of such a namespace was not answered, the undo begins once the deletion can no longer take effect.
    None is added while the batch is only compared, or while no worker has its undo: that undo looks once more, and what
    it asked for before is no answer any more.
    """
    copy_id = lease.copy_id or lease.id
    if _is_only_compared(connection, copy_id):
        its_compare = sa.and_(_B.copy_id == copy_id, _B.kind == BatchKind.COMPARE)
        connection.execute(sa.update(t.batch).where(its_compare).values(run_after=_no_sooner_than(not_before)))
        return
    of_these = among(_B.target_id, namespaces_of)
    drops = sa.and_(_B.job_id == lease.job_id, _B.kind == BatchKind.DROP, of_these, _NOT_LEASED)
    lands_by = connection.execute(sa.select(sa.func.max(_B.lands_by)).where(drops)).scalar_one()
    its_undo = sa.and_(_B.copy_id == copy_id, _B.kind == BatchKind.UNDO)
    anew = {
        "lands_by": sa.func.greatest(_B.lands_by, lands_by),
        "run_after": _no_sooner_than(not_before),
        "first_leased_at": None,
        "answered_at": None,
        "found": None,
    }
    waiting = its_undo, _B.state.in_((BatchState.READY, BatchState.DISPATCHED))
    waits = connection.execute(transitions.batch_to(BatchState.READY, **anew).where(*waiting)).rowcount
    stays = sa.update(t.batch).where(its_undo, _B.state == BatchState.PARKED).values(**anew)
    if not waits + connection.execute(stays).rowcount:
        connection.execute(
            sa.insert(t.batch).values(
                job_id=lease.job_id,
                move_id=lease.move_id,
                copy_id=copy_id,
                kind=BatchKind.UNDO,
                seq=lease.seq,
                size=lease.size,
                lands_by=lands_by,
                run_after=not_before,
            )
        )
    batches.discard(connection, drops)


def _is_only_compared(connection: sa.Connection, copy_id: int) -> bool:
    """Say whether the rollback has not come to the undo of this copy batch yet: `add_undos` adds it."""
    compare, undo = (
        sa.select(_B.id).where(_B.copy_id == copy_id, _B.kind == kind).exists()
        for kind in (BatchKind.COMPARE, BatchKind.UNDO)
    )
    return bool(connection.execute(sa.select(sa.and_(compare, ~undo))).scalar_one())


def _per_written_copy(connection: sa.Connection, job_id: int, kind: BatchKind, not_before: Any) -> None:
    source, existing = t.batch.alias("copy"), t.batch.alias("existing")
    connection.execute(
        sa.insert(t.batch).from_select(
            ["job_id", "move_id", "copy_id", "kind", "seq", "size", "run_after"],
            sa.select(
                *(source.c.job_id, source.c.move_id, source.c.id, sa.literal(str(kind)), source.c.seq, source.c.size),
                not_before,
            ).where(
                source.c.job_id == job_id,
                source.c.kind == BatchKind.COPY,
                source.c.state != BatchState.SPLIT,
                source.c.targets.is_not(None),
                ~sa.select(existing.c.id).where(existing.c.copy_id == source.c.id, existing.c.kind == kind).exists(),
            ),
        )
    )


def note_changed(connection: sa.Connection, lease: Lease, changed: dict[int, list[str]]) -> None:
    """Note records at targets that changed since we wrote them. Safe to repeat."""
    differences.forget_changed(connection, lease.job_id, lease.id)
    for target_id, ids in changed.items():
        findings = [Finding("changed", record_id, lease.copy_id) for record_id in ids]
        differences.note(connection, target_id, lease.id, findings)


def roll_back_progress(connection: sa.Connection, job_id: int) -> RollBackProgress:
    """Count the batches of each step, and the records that changed since we wrote them."""
    row = connection.execute(
        sa.select(
            *(sa.func.count().filter(_B.kind == kind).label(str(kind)) for kind in ROLLING_BACK),
            sa.func.coalesce(
                sa.func.sum(sa.cast(_B.found["changed"].astext, sa.Integer)).filter(_B.kind == BatchKind.COMPARE), 0
            ).label("changed"),
        ).where(_B.job_id == job_id, _B.kind.in_(ROLLING_BACK))
    ).one()
    droppable: int = connection.execute(
        sa.select(sa.func.count()).where(_T.job_id == job_id, _T.created_by_us)
    ).scalar_one()
    undo = t.batch.alias("undo")
    undone = sa.select(undo.c.id).where(undo.c.copy_id == _B.copy_id, undo.c.kind == BatchKind.UNDO).exists()
    not_undone: int = connection.execute(
        sa.select(sa.func.count()).where(_B.job_id == job_id, _B.kind == BatchKind.COMPARE, ~undone)
    ).scalar_one()
    return RollBackProgress(row.compare, not_undone, row.drop, droppable, int(row.changed))


def mark_rolled_back(connection: sa.Connection, job_id: int) -> None:
    connection.execute(transitions.move_to(MoveState.ROLLED_BACK, reason=None).where(_M.job_id == job_id))
