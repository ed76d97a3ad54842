"""Passes: while writers go on, every source is listed and read again until nothing changes.

A source whose store tells of its writes is looked at first, and read only if somebody wrote to it. A clean-up stops for
another pass if an application wrote to a source meanwhile. Deletions, done or sent, stay on record.
"""

import sqlalchemy as sa

from orchestrator.core.model import Lease
from orchestrator.core.states import CLEANING, BatchKind, BatchState, MoveState
from orchestrator.ledger import batches, checks, listings, parked, transitions
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import NOW, among
from orchestrator.ledger.deletions import UNTOUCHED
from vecfleet.stores.base import Usage

_B, _M = t.batch.c, t.move.c
# Batches whose records a person let stay behind are not copied again.
_COPIES = (_B.kind == BatchKind.COPY, _B.state == BatchState.DONE, _B.found["accepted"].astext.is_(None), UNTOUCHED)
_PASSED = (MoveState.COPIED, MoveState.VERIFIED)
BEGAN = "began"
"""Noted with a listing whose source's copy batches are open: no time tells it, for the clock may be put back."""


def begin(connection: sa.Connection, job_id: int) -> None:
    """List every copied move again and copy all its batches again. Their tallies and counts stay until then.

    If the store tells of writes to a source, the worker that lists it opens its batches (`begin_reading`), or leaves
    them as they are (`leave_unread`). Call this under the job's row lock, with no batch in flight. Verdicts become
    void, because all records are read again.
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
    is_told = _M.source_version.is_not(None)
    moves = connection.execute(
        transitions.move_to(
            MoveState.LISTING,
            reason=None,
            listed_all=False,
            last_id=None,
            page_token=None,
            open_batches=sa.case((is_told, 0), else_=reopened),
        )
        .where(_M.id.in_(copied))
        .returning(_M.id, is_told.label("is_told"))
    )
    _open(connection, [move.id for move in moves if not move.is_told])


def _open(connection: sa.Connection, move_ids: list[int]) -> int:
    """Make the copy batches of these moves ready again. Return their number."""
    again = transitions.batch_anew(rewrite=None, found=_B.found.op("-")(sa.literal("removed", sa.Text)))
    return connection.execute(again.where(among(_B.move_id, move_ids), *_COPIES)).rowcount


def begin_reading(connection: sa.Connection, lease: Lease, version: str | None) -> None:
    """Open the copy batches of the source that this lease lists, before any of it is read. Raises LeaseLost.

    `version` is what the store told before; None: it told nothing, and no later pass asks it again.
    """
    batches.note_found(connection, lease, {BEGAN: True})
    assert lease.move_id is not None, "a listing belongs to a move"
    seen_before = _M.source_version == version
    connection.execute(
        sa.update(t.move)
        .where(_M.id == lease.move_id)
        .values(
            open_batches=_M.open_batches + _open(connection, [lease.move_id]),
            source_version=version,
            source_version_at=sa.case((seen_before, _M.source_version_at), else_=NOW),
            source_read_at=NOW,
        )
    )


def leave_unread(connection: sa.Connection, lease: Lease, usage: Usage, busy_ms: int) -> None:
    """End the pass for the source that this lease lists: it is as the last pass read it. Raises LeaseLost.

    Its copy batches keep their records; only what their last run found changed is not counted again.
    """
    unchanged = _B.found.op("||")(sa.text("""'{"changed": 0, "removed": 0}'::jsonb"""))
    batches.require(connection, lease)
    counted = sa.or_(*(_B.found[name].astext != "0" for name in ("changed", "removed")))
    connection.execute(sa.update(t.batch).where(_B.move_id == lease.move_id, counted, *_COPIES).values(found=unchanged))
    listings.end(connection, lease, [], usage, busy_ms, listed_in=0)


def forget_readings(connection: sa.Connection, job_id: int) -> None:
    """Let the next pass read every source, also one that tells of no write since it was read."""
    connection.execute(sa.update(t.move).where(_M.job_id == job_id).values(source_read_at=None))


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
