"""Passes: while writers go on, every source is listed and read again until nothing changes.

A clean-up stops for another pass if an application wrote to a source meanwhile. Deletions, done or sent, stay on
record.
"""

import sqlalchemy as sa

from orchestrator.core.states import CLEANING, BatchKind, BatchState, MoveState
from orchestrator.ledger import batches, checks, parked, transitions
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import among
from orchestrator.ledger.deletions import UNTOUCHED

_B, _M = t.batch.c, t.move.c
# Batches whose records a person let stay behind are not copied again.
_COPIES = (_B.kind == BatchKind.COPY, _B.state == BatchState.DONE, _B.found["accepted"].astext.is_(None), UNTOUCHED)
_PASSED = (MoveState.COPIED, MoveState.VERIFIED)


def begin(connection: sa.Connection, job_id: int) -> None:
    """List every copied move again and copy all its batches again. Their tallies and counts stay until then.

    Call this under the job's row lock, with no batch in flight. Verdicts become void, because all records are read
    again.
    """
    checks.restart(connection, checks.targets_of_moves(connection, job_id, (*_PASSED, MoveState.MISMATCHED)))
    # A move that wrote nothing has no target with a verdict to void. It stays verified, and it too is read again.
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
        transitions.move_to(
            MoveState.LISTING,
            reason=None,
            listed_all=False,
            last_id=None,
            page_token=None,
            open_batches=reopened,
        )
        .where(_M.id.in_(copied))
        .returning(_M.id)
    ).scalars()
    again = transitions.batch_anew(rewrite=None, found=_B.found.op("-")(sa.literal("removed", sa.Text)))
    connection.execute(again.where(among(_B.move_id, moves), *_COPIES))


def leave_cleaning(connection: sa.Connection, job_id: int) -> int:
    """Return the sources that a clean-up has not deleted to *copied*, to be read again. Return their number.

    A source whose whole deletion was sent keeps its state until the clean-up goes on. If a source is deleted by ids,
    the sent deletions stay on record and its other records are proven again. Parked batches of both are ready once the
    clean-up goes on. Call this under the job's row lock, with no batch in flight.
    """
    cleaning = _B.kind.in_(CLEANING)
    stopped = sa.and_(
        _M.job_id == job_id,
        sa.or_(_M.state == MoveState.CLEANING, sa.and_(_M.state == MoveState.PARKED, _M.clean_mode.is_not(None))),
    )
    asked = sa.select(_B.id).where(_B.move_id == _M.id, cleaning, _B.intent_at.is_not(None)).correlate(t.move).exists()
    whole = sa.and_(_M.clean_mode == "whole", asked)
    connection.execute(transitions.move_to(MoveState.CLEANING, reason=None).where(stopped, whole))
    left = connection.execute(
        transitions.move_to(MoveState.COPIED, reason=None, proof_lsn=None).where(stopped, ~whole).returning(_M.id)
    ).scalars()
    of_moves = among(_B.move_id, moves := list(left))
    batches.discard(connection, of_moves, cleaning, sa.or_(_B.kind == BatchKind.CLEAR, _B.intent_at.is_(None)))
    parked.ready_deletions(connection, job_id)
    return len(moves)


def changed(connection: sa.Connection, job_id: int) -> int:
    """Return how many records the last run of each copy batch found new, changed or gone."""
    total: int = connection.execute(
        sa.select(sa.func.coalesce(sa.func.sum(sa.cast(_B.found["changed"].astext, sa.Integer)), 0)).where(
            _B.job_id == job_id, *_COPIES
        )
    ).scalar_one()
    return total
