"""How far a roll back is, and what it still waits for. Read-only."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from orchestrator import tables as t
from orchestrator.states import BATCH_OPEN, KINDS_OF, BatchKind, BatchState, JobState

_T, _B = t.target.c, t.batch.c
LINGERS = sa.and_(_B.kind == BatchKind.DROP, sa.func.coalesce(_B.error_class, "") == "Waiting")
"""A namespace that is to be dropped and looks empty: it is looked at once more, when reads cannot lag any more."""


@dataclass(frozen=True, slots=True)
class Undoing:
    """How far a roll back is: batches done and in all of its three steps, those of a later step as many as will come.

    `lingering` of the namespaces to drop were seen empty, the last of them since `since`, and are looked at once more.
    """

    compared: tuple[int, int]
    undone: tuple[int, int]
    dropped: tuple[int, int]
    lingering: int
    since: datetime | None


def undoing(connection: sa.Connection, job_id: int) -> Undoing:
    """Of a job that is rolled back, or stopped amid it."""
    lingers = sa.and_(LINGERS, _B.state.in_(sorted(BATCH_OPEN)))
    rows = {
        row.kind: row
        for row in connection.execute(
            sa.select(
                _B.kind,
                sa.func.count().label("n"),
                sa.func.count().filter(_B.state.not_in(sorted(BATCH_OPEN))).label("done"),
                sa.func.count().filter(lingers).label("lingering"),
                sa.func.max(_B.first_leased_at).filter(lingers).label("since"),
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
    )
