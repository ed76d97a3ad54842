"""Copy batches of whose source records no deletion was asked for: the only ones that may be copied again.

What is gone of the others is gone by our doing. A pass would take that for a deletion by the application, and remove
the last copies from the targets.
"""

import sqlalchemy as sa

from orchestrator import tables as t
from orchestrator.states import BatchKind, MoveState

_B, _M = t.batch.c, t.move.c
_remove = t.batch.alias("asked_for")

_REMOVED = (
    sa.select(_remove.c.id)
    .where(_remove.c.copy_id == _B.id, _remove.c.kind == BatchKind.REMOVE, _remove.c.intent_at.is_not(None))
    .correlate(t.batch)
    .exists()
)
_BEING_DELETED = (
    sa.select(_M.id)
    .where(_M.id == _B.move_id, _M.state.in_((MoveState.CLEANING, MoveState.CLEANED)))
    .correlate(t.batch)
    .exists()
)
UNTOUCHED = sa.and_(~_REMOVED, ~_BEING_DELETED)
"""A condition on `batch`, for copy batches outside of a clean-up."""
