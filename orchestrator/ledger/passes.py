"""Passes: where writers go on, every source is listed and read again until nothing changes any more.

A clean-up that a write came into is left for another pass. What it deleted, or asked to delete, stays as it is.
"""

import sqlalchemy as sa

from orchestrator.core.states import BatchKind, BatchState, MoveState
from orchestrator.ledger import batches, checks, parked
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import among
from orchestrator.ledger.deletions import UNTOUCHED

_B, _M = t.batch.c, t.move.c
# Those whose records a person let stay behind are not copied again.
_COPIES = (_B.kind == BatchKind.COPY, _B.state == BatchState.DONE, _B.found["accepted"].astext.is_(None), UNTOUCHED)
_PASSED = (MoveState.COPIED, MoveState.VERIFIED)


def begin(connection: sa.Connection, job_id: int) -> None:
    """Every copied move is listed again, and every batch of it copied again. What they recorded stays until then.

    Under the job's row lock, with nothing in flight. Verdicts are void: what they rest on is about to be read anew.
    """
    checks.restart(connection, checks.targets_of_moves(connection, job_id, (*_PASSED, MoveState.MISMATCHED)))
    # A move that wrote nothing has no target whose verdict could be void: it stays verified, and is read again too.
    copied = sa.select(_M.id).where(_M.job_id == job_id, _M.state.in_(_PASSED))
    of_move = sa.and_(_B.move_id == _M.id, *_COPIES)
    reopened = sa.select(sa.func.count()).select_from(t.batch).where(of_move).correlate(t.move).scalar_subquery()
    connection.execute(
        sa.insert(t.batch).from_select(
            ["job_id", "move_id", "kind", "seq"],
            sa.select(_M.job_id, _M.id, sa.literal(str(BatchKind.LIST)), sa.literal(0)).where(_M.id.in_(copied)),
        )
    )
    moves = connection.execute(
        sa.update(t.move)
        .where(_M.id.in_(copied))
        .values(
            state=MoveState.LISTING,
            reason=None,
            listed_all=False,
            last_id=None,
            page_token=None,
            open_batches=reopened,
        )
        .returning(_M.id)
    ).scalars()
    connection.execute(
        sa.update(t.batch)
        .where(_B.move_id.in_(list(moves)), *_COPIES)
        .values(
            state=BatchState.READY,
            generation=_B.generation + 1,
            attempts=0,
            run_after=None,
            first_leased_at=None,
            rewrite=None,
            found=_B.found.op("-")(sa.literal("removed", sa.Text)),
        )
    )


def leave_cleaning(connection: sa.Connection, job_id: int) -> int:
    """Take the sources that are left of a clean-up back to be copied and verified again. Returns how many.

    Not one that was asked to be deleted whole: it waits as it is until the clean-up goes on. Of one that is deleted by
    ids, what was asked for stays on record; the rest is proven anew. What is parked of either is ready once the
    clean-up goes on. Under the job's row lock, with nothing in flight.
    """
    cleaning = _B.kind.in_((BatchKind.RECHECK, BatchKind.CLEAR, BatchKind.REMOVE))
    stopped = sa.and_(
        _M.job_id == job_id,
        sa.or_(_M.state == MoveState.CLEANING, sa.and_(_M.state == MoveState.PARKED, _M.clean_mode.is_not(None))),
    )
    asked = sa.select(_B.id).where(_B.move_id == _M.id, cleaning, _B.intent_at.is_not(None)).correlate(t.move).exists()
    whole = sa.and_(_M.clean_mode == "whole", asked)
    connection.execute(sa.update(t.move).where(stopped, whole).values(state=MoveState.CLEANING, reason=None))
    left = connection.execute(
        sa.update(t.move)
        .where(stopped, ~whole)
        .values(state=MoveState.COPIED, reason=None, proof_lsn=None)
        .returning(_M.id)
    ).scalars()
    of_those = among(_B.move_id, moves := list(left))
    batches.discard(connection, of_those, cleaning, sa.or_(_B.kind == BatchKind.CLEAR, _B.intent_at.is_(None)))
    parked.ready_deletions(connection, job_id)
    return len(moves)


def changed(connection: sa.Connection, job_id: int) -> int:
    """How many records the job's copy batches found new, changed or gone when each was last worked."""
    total: int = connection.execute(
        sa.select(sa.func.coalesce(sa.func.sum(sa.cast(_B.found["changed"].astext, sa.Integer)), 0)).where(
            _B.job_id == job_id, *_COPIES
        )
    ).scalar_one()
    return total
