"""Ends of small namespaces in one statement each: of a listing, and of the only batch of a move.

What `copies` records in a transaction of five to seven statements is one here, because nobody else counts for the move
meanwhile. Each part of a statement depends on the part that leaves the lease through the fence.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert

from orchestrator.core import manifests
from orchestrator.core.model import CopyOutcome, Lease
from orchestrator.core.states import BatchKind, MoveState
from orchestrator.ledger import batches, copies, transitions
from orchestrator.ledger import tables as t
from vecfleet.stores.base import Usage

_M = t.move.c


def _ending_listing() -> sa.Select[int]:
    """Return the statement that ends a listing: its last batches, its bookmark, and its own batch done."""
    ended = batches.DONE.cte("ended")
    marked = copies.marking(sa.select(ended.c.id).exists()).cte("marked")
    arrays = (("firsts", sa.Text), ("sizes", sa.Integer), ("manifests", sa.LargeBinary))
    runs = (
        sa.func.unnest(*(sa.bindparam(name, type_=ARRAY(type_)) for name, type_ in arrays))
        .table_valued("first_id", "size", "manifest", with_ordinality="place")
        .render_derived()
    )
    first_seq = marked.c.batches - sa.bindparam("more_batches", type_=sa.Integer)
    rows = sa.select(
        *(marked.c.job_id, marked.c.id, sa.literal(str(BatchKind.COPY)), first_seq + runs.c.place),
        *(sa.bindparam("listed_in", type_=sa.SmallInteger), runs.c.first_id, runs.c.size, runs.c.manifest),
    ).select_from(marked.join(runs, sa.true()))
    columns = ("job_id", "move_id", "kind", "seq", "listed_in", "first_id", "size", "manifest")
    return sa.select(ended.c.id).add_cte(insert(t.batch).from_select(columns, rows).cte("added"))


_END_LISTING = _ending_listing()


def end_listing(
    connection: sa.Connection,
    lease: Lease,
    runs: Sequence[Sequence[str]],
    *,
    listed_in: int,
    usage: Usage,
    busy_ms: int,
) -> None:
    """Add the last copy batches of a listing, set its bookmark and settle its own batch. Raises LeaseLost.

    One statement, which needs no transaction around it. There is at least one run: the move has a batch to copy.
    """
    assert runs, "a move without an open batch is settled by `add_listed`"
    values = copies.bookmark(lease, runs, None, complete=True) | batches.ending(lease, {}, usage, busy_ms)
    values |= {
        "listed_in": listed_in,
        "firsts": [ids[0] for ids in runs],
        "sizes": [len(ids) for ids in runs],
        "manifests": [manifests.pack(ids) for ids in runs],
    }
    if connection.execute(_END_LISTING, values).one_or_none() is None:
        raise batches.LeaseLost


def ends_at_once(lease: Lease, outcome: CopyOutcome) -> bool:
    """Say whether a batch ends its move by its first copy to one place, with nothing parked or erased.

    The move's listing is over and made this batch alone, so that no other worker counts for the move meanwhile.
    """
    move = lease.move
    alone = move is not None and move.listed_all and move.batches == 1 and lease.found is None
    left = outcome.parked or outcome.erased or outcome.keeps or outcome.unchanged
    return alone and len(outcome.tallies) == 1 and not left


def _finishing() -> sa.Select[int]:
    """Return the statement that ends a move's only batch: its tally, the target's newest write, the move's counts.

    It locks the batch, the target, the move, in this order, as every worker does: each part reads the one before it.
    """
    ended = batches.DONE.cte("ended")
    its = t.batch_tally.c
    values = [
        sa.bindparam(f"its_{name}", type_=its[name].type)
        for name in ("target_id", "records", "digest", "ids_digest", "members", "record_digests")
    ]
    tallied = insert(t.batch_tally).from_select(
        ["batch_id", *(value.key.removeprefix("its_") for value in values)], sa.select(ended.c.id, *values)
    )
    lsn = sa.bindparam("lsn", type_=sa.BigInteger)
    noted = (
        sa.update(t.target)
        .where(t.target.c.id == sa.bindparam("its_target_id"), lsn.is_not(None), sa.select(ended.c.id).exists())
        .values(lsn=sa.func.greatest(t.target.c.lsn, lsn))
        .returning(t.target.c.id)
        .cte("noted")
    )
    ends = sa.and_(_M.batches == 1, _M.listed_all, _M.state.in_((MoveState.LISTING, MoveState.COPYING)))
    counted = (
        transitions.move_to(
            sa.case((ends, MoveState.COPIED), else_=_M.state),
            reason=sa.case((ends, None), else_=_M.reason),
            open_batches=_M.open_batches - 1,
            **{name: _M[name] + sa.bindparam(f"more_{name}", type_=sa.BigInteger) for name in copies.COUNTS},
        )
        .where(_M.id == sa.bindparam("of_move"), sa.select(ended.c.id).exists())
        .where(sa.select(sa.func.count()).select_from(noted).scalar_subquery() >= 0)
        .returning(_M.id)
        .cte("counted")
    )
    return sa.select(counted.c.id).add_cte(tallied.cte("tallied"))


_FINISH = _finishing()


def finish_copy(connection: sa.Connection, lease: Lease, outcome: CopyOutcome, usage: Usage, busy_ms: int) -> None:
    """Record a move's only batch, which `ends_at_once`, and the move as copied, in one statement. Raises LeaseLost."""
    (tally,) = outcome.tallies
    counts = outcome.counts()
    values = batches.ending(lease, copies.results_of(outcome, counts, {}), usage, busy_ms) | {
        **{f"its_{name}": value for name, value in copies.columns_of(tally).items()},
        **{f"more_{name}": counts[name] for name in copies.COUNTS},
        "its_target_id": tally.target_id,
        "lsn": tally.lsn,
        "of_move": lease.move_id,
    }
    if connection.execute(_FINISH, values).one_or_none() is None:
        raise batches.LeaseLost
