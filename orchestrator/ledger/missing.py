"""What a clean-up finds missing where readers have moved to, added up over all batches at work side by side."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from orchestrator import tables as t
from orchestrator.ledger import batches
from orchestrator.model import Lease
from orchestrator.states import BatchKind

_B, _M, _T = t.batch.c, t.move.c, t.target.c


def add_up(connection: sa.Connection, lease: Lease, missing: Mapping[int, int]) -> tuple[int, dict[int, Any]]:
    """Put on record how many records this batch found missing at each target.

    Returns the source's total, but for targets of which a person said how many may be missing; and of each of these
    targets `missing`, over all sources of the job, how many were `written` to it, and what was `said`. The rows of the
    move and of the targets are held until the commit, as `removals.add_up` does. Raises Fenced.
    """
    batches.require(connection, lease)
    connection.execute(sa.select(_M.id).where(_M.id == lease.move_id).with_for_update(key_share=True)).one()
    held = sa.select(_T.id).where(_T.id.in_(missing)).order_by(_T.id)
    connection.execute(held.with_for_update(key_share=True)).all()
    note = sa.func.coalesce(_B.found, sa.text("'{}'::jsonb")).op("||")(
        sa.cast({"missing_at": {str(target_id): count for target_id, count in missing.items()}}, JSONB)
    )
    connection.execute(sa.update(t.batch).where(_B.id == lease.id).values(found=note))
    each = sa.func.jsonb_each_text(_B.found["missing_at"]).table_valued("key", "value").lateral()
    count = sa.func.coalesce(sa.func.sum(sa.cast(each.c.value, sa.Integer)), 0)
    counted = _B.kind.in_((BatchKind.RECHECK, BatchKind.REMOVE))
    unsaid = sa.select(sa.cast(_T.id, sa.Text)).where(_T.job_id == lease.job_id, _T.missing_allowed.is_(None))
    of_source = sa.select(count).select_from(t.batch).join(each, sa.true()).where(counted, _B.move_id == lease.move_id)
    total: int = connection.execute(of_source.where(each.c.key.in_(unsaid))).scalar_one()
    wrote = t.batch_tally.c
    of_target = (
        sa.select(count)
        .select_from(t.batch)
        .join(each, each.c.key == sa.cast(_T.id, sa.Text))
        .where(counted, _B.copy_id.in_(sa.select(wrote.batch_id).where(wrote.target_id == _T.id)))
    )
    written = sa.select(sa.func.coalesce(sa.func.sum(wrote.records), 0)).where(wrote.target_id == _T.id)
    rows = connection.execute(
        sa.select(
            _T.id,
            of_target.correlate(t.target).scalar_subquery().label("missing"),
            written.correlate(t.target).scalar_subquery().label("written"),
            _T.missing_allowed.label("said"),
        ).where(_T.id.in_(missing))
    )
    return total, {row.id: row for row in rows}
