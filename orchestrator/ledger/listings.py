"""Records of listing: batch rows with the bookmark, and with the end of the listing, each in one statement."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert

from orchestrator.core import manifests
from orchestrator.core.model import Lease
from orchestrator.core.states import BatchKind, BatchState, MoveState
from orchestrator.ledger import batches, moves, transitions
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import one_statement
from vecfleet.stores.base import Usage

_M = t.move.c


def adding(ours: sa.CTE) -> sa.Select[int]:
    """Return the statement that sets the bookmark of a move and adds copy batches if `ours` has a row.

    It locks what `ours` locks, then the move: each part reads the one before it.
    """
    is_complete = sa.bindparam("is_complete", type_=sa.Boolean)
    more = sa.bindparam("more_batches", type_=sa.Integer)
    marked = (
        transitions.move_to(
            sa.case((sa.and_(is_complete, _M.state == MoveState.LISTING), MoveState.COPYING), else_=_M.state),
            batches=_M.batches + more,
            open_batches=_M.open_batches + more,
            listed=_M.listed + sa.bindparam("more_listed", type_=sa.BigInteger),
            page_token=sa.bindparam("next_page", type_=sa.Text),
            listed_all=is_complete,
            last_id=sa.func.coalesce(sa.bindparam("last_of_runs", type_=sa.Text), _M.last_id),
        )
        .where(_M.id == sa.bindparam("of_move"), sa.select(ours.c.id).exists())
        .returning(_M.id, _M.job_id, _M.batches, _M.open_batches)
        .cte("marked")
    )
    arrays = {"first_ids": sa.Text, "run_sizes": sa.Integer, "run_manifests": sa.LargeBinary}
    runs = (
        sa.func.unnest(*(sa.bindparam(name, type_=ARRAY(type_)) for name, type_ in arrays.items()))
        .table_valued("first_id", "size", "manifest", with_ordinality="place")
        .render_derived()
    )
    of_move = (marked.c.job_id, marked.c.id, sa.literal(str(BatchKind.COPY)), marked.c.batches - more + runs.c.place)
    of_run = (sa.bindparam("in_pass", type_=sa.SmallInteger), runs.c.first_id, runs.c.size, runs.c.manifest)
    added = insert(t.batch).from_select(
        ["job_id", "move_id", "kind", "seq", "listed_in", "first_id", "size", "manifest"],
        sa.select(*of_move, *of_run).select_from(marked.join(runs, sa.true())),
    )
    return sa.select(marked.c.open_batches).add_cte(added.cte("added"))


_ADD, _END = adding(batches.LOCKED), adding(batches.DONE.cte("ended"))


def add(
    connection: sa.Connection, lease: Lease, runs: Sequence[Sequence[str]], page_token: str | None, *, listed_in: int
) -> None:
    """Add copy batches for runs of ids, and set the bookmark behind the last run. Raises LeaseLost.

    One statement: a crash before it leaves the old bookmark and no rows; after it, the new bookmark and all rows.
    """
    _record(connection, _ADD, batches.fence_of(lease), lease, runs, page_token, listed_in=listed_in, is_complete=False)


def end(
    connection: sa.Connection,
    lease: Lease,
    runs: Sequence[Sequence[str]],
    usage: Usage,
    busy_ms: int,
    *,
    listed_in: int,
) -> None:
    """Add the last copy batches of a listing, mark the move as listed and settle the listing's own batch.

    With runs this is one statement, which needs no transaction around it: the move has batches to copy. Without runs
    the move may have none left, and is settled here too. Raises LeaseLost.
    """
    values = batches.ending(lease, {}, usage, busy_ms)
    if not _record(connection, _END, values, lease, runs, None, listed_in=listed_in, is_complete=True):
        assert lease.move_id is not None, "a listing belongs to a move"
        moves.settle_if_done(connection, lease.move_id)


def _record(
    connection: sa.Connection,
    statement: sa.Select[int],
    values: dict[str, Any],
    lease: Lease,
    runs: Sequence[Sequence[str]],
    page_token: str | None,
    *,
    listed_in: int,
    is_complete: bool,
) -> int:
    """Return how many batches of the move are open now. Raises LeaseLost."""
    values |= {
        "of_move": lease.move_id,
        "more_batches": len(runs),
        "more_listed": sum(len(ids) for ids in runs),
        "next_page": page_token,
        "is_complete": is_complete,
        "last_of_runs": runs[-1][-1] if runs else None,
        "in_pass": listed_in,
        "first_ids": [ids[0] for ids in runs],
        "run_sizes": [len(ids) for ids in runs],
        "run_manifests": [manifests.pack(ids) for ids in runs],
    }
    open_batches: int | None = one_statement(connection, statement, values).scalar_one_or_none()
    if open_batches is None:
        raise batches.LeaseLost
    return open_batches


def manifest_page(
    connection: sa.Connection, move_id: int, listed_in: int, after: str | None, limit: int
) -> list[tuple[str, bytes]]:
    """Return the next copy batches of one pass, in id order: (first id, manifest).

    A batch that an erasure emptied has no first id and is left out.
    """
    B = t.batch.c
    query = (
        sa.select(B.first_id, B.manifest)
        .where(B.move_id == move_id, B.kind == BatchKind.COPY, B.state != BatchState.SPLIT, B.listed_in == listed_in)
        .where(B.first_id.is_not(None))
        .order_by(B.first_id)
        .limit(limit)
    )
    if after is not None:
        query = query.where(B.first_id > after)
    return [(row.first_id, row.manifest) for row in connection.execute(query)]
