"""Clean-up: its batches, its results, and the intent on record before each deletion is sent."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from orchestrator.core.model import Lease
from orchestrator.core.states import CLEANING, BatchKind, BatchState, MoveState
from orchestrator.ledger import batches, continuity, transitions
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import NOW, among
from vecfleet.stores.base import Usage

_B, _M, _T = t.batch.c, t.move.c, t.target.c


def begin_cleaning(
    connection: sa.Connection, job_id: int, by_ids: Sequence[int], not_before: datetime | None = None
) -> None:
    """Start to clean verified moves: add one `remove` per copy batch for moves `by_ids`, one `recheck` for the others.

    No batch is due before `not_before`. From that time on reads show the last permitted write to the sources.
    """
    connection.execute(
        transitions.move_to(
            MoveState.CLEANING,
            clean_mode=sa.case((among(_M.id, by_ids), "by_ids"), else_="whole"),
            proof_lsn=None,
            reason=None,
        ).where(_M.job_id == job_id, _M.state == MoveState.VERIFIED)
    )
    for mode, kind in (("by_ids", BatchKind.REMOVE), ("whole", BatchKind.RECHECK)):
        cleaned = sa.and_(_M.state == MoveState.CLEANING, _M.clean_mode == mode)
        _one_per_copy(connection, job_id, kind, cleaned, not_before)


def _one_per_copy(
    connection: sa.Connection, job_id: int, kind: BatchKind, moves: Any, not_before: datetime | None = None
) -> None:
    """Add one batch of `kind` per copy batch. Rechecks take their namespace's ordinal because a proof ages.

    Namespaces are then read one after another. If batches of 12,000 namespaces took turns, as for other kinds, the
    reading of a namespace's first batch would be hours old by its last batch.
    """
    source = t.batch.alias("copy")
    seq = _M.seq if kind is BatchKind.RECHECK else source.c.seq
    existing = t.batch.alias("existing")
    connection.execute(
        sa.insert(t.batch).from_select(
            ["job_id", "move_id", "copy_id", "kind", "seq", "size", "run_after"],
            sa.select(
                *(source.c.job_id, source.c.move_id, source.c.id, sa.literal(str(kind)), seq, source.c.size),
                sa.literal(not_before, sa.DateTime(timezone=True)),
            )
            .join(t.move, _M.id == source.c.move_id)
            .where(source.c.job_id == job_id, source.c.kind == BatchKind.COPY, source.c.state != BatchState.SPLIT)
            .where(moves)
            .where(~sa.select(existing.c.id).where(existing.c.copy_id == source.c.id, existing.c.kind == kind).exists())
            .order_by(_M.seq, source.c.seq),
        )
    )


def _none_left(kinds: Sequence[BatchKind]) -> Any:
    """Return the condition that the move of the enclosing query has no batch of these kinds left to do."""
    return ~(
        sa.select(_B.id)
        .where(_B.move_id == _M.id, _B.kind.in_(kinds), _B.state != BatchState.DONE)
        .correlate(t.move)
        .exists()
    )


def add_clears(connection: sa.Connection, job_id: int) -> int:
    """Add the one `clear` of each move whose records were all read again or deleted. Return the number added.

    A `clear` deletes the namespace or lists it.
    """
    has_clear = sa.select(_B.id).where(_B.move_id == _M.id, _B.kind == BatchKind.CLEAR).correlate(t.move).exists()
    intent = (
        sa.select(sa.func.max(_B.intent_at))
        .where(_B.move_id == _M.id, _B.kind.in_((BatchKind.RECHECK, BatchKind.REMOVE)))
        .correlate(t.move)
        .scalar_subquery()
    )
    due = sa.case((_M.clean_mode == "whole", _none_left((BatchKind.RECHECK,))), else_=_none_left((BatchKind.REMOVE,)))
    return connection.execute(
        sa.insert(t.batch).from_select(
            ["job_id", "move_id", "kind", "seq", "intent_at"],
            sa.select(_M.job_id, _M.id, sa.literal(str(BatchKind.CLEAR)), sa.literal(0), intent)
            .where(_M.job_id == job_id, _M.state == MoveState.CLEANING)
            .where(due, ~has_clear),
        )
    ).rowcount


def prove_again(connection: sa.Connection, job_id: int) -> None:
    """Have sources that will be deleted whole read again after the clean-up stopped: only a recent proof counts.

    Skip parked sources: a retry returns the move to cleaning first, and only a cleaning move gets its `clear` again.
    """
    clear = sa.select(_B.id).where(_B.move_id == _M.id, _B.kind == BatchKind.CLEAR).correlate(t.move)
    under_way = clear.where(_B.state.in_((BatchState.LEASED, BatchState.DONE))).exists()
    affected = (
        sa.select(_M.id)
        .where(_M.job_id == job_id, _M.clean_mode == "whole")
        .where(_M.state == MoveState.CLEANING, ~under_way)
    )
    _read_again(connection, connection.execute(affected).scalars().all(), attempts=0)


def _read_again(connection: sa.Connection, move_ids: Sequence[int], **values: Any) -> None:
    """Repeat every recheck of these moves, and then the `clear`. A move without rechecks keeps its `clear`.

    A deletion that was sent may have been refused or carried out, or may still be carried out. Its intent passes to the
    rechecks, which start once the deletion must show, and so do not take deleted records for vanished ones. The intent
    then passes to the next `clear`, which finds out how much was deleted.
    """
    clear = t.batch.alias("clear")
    intent, lands_by = (
        sa.select(sa.func.max(column))
        .where(clear.c.move_id == _B.move_id, clear.c.kind == BatchKind.CLEAR)
        .correlate(t.batch)
        .scalar_subquery()
        for column in (clear.c.intent_at, batches.shows_by(clear))
    )
    connection.execute(
        transitions.batch_to(
            BatchState.READY,
            run_after=None,
            first_leased_at=None,
            looked_at=None,
            intent_at=sa.func.coalesce(intent, _B.intent_at),
            lands_by=lands_by,
            **values,
        )
        .where(among(_B.move_id, move_ids), _B.kind == BatchKind.RECHECK)
        .where(_B.state.in_((BatchState.DONE, BatchState.LEASED)))  # a leased one may have read old records
    )
    recheck = t.batch.alias("recheck")
    is_read = sa.select(recheck.c.id).where(recheck.c.move_id == _B.move_id, recheck.c.kind == BatchKind.RECHECK)
    batches.discard(connection, among(_B.move_id, move_ids), _B.kind == BatchKind.CLEAR, is_read.exists())
    connection.execute(sa.update(t.move).where(among(_M.id, move_ids)).values(proof_lsn=None))


def prove_otherwise(
    connection: sa.Connection, lease: Lease, why: str, *, by_ids: bool, usage: Usage, busy_ms: int
) -> None:
    """Read a namespace again because its `clear` found the proof too weak for a deletion. Raises LeaseLost.

    This happens once. If each batch was read twice, or with `by_ids`, delete the records by their ids instead, each
    batch proven right before. So a clean-up ends, however large the namespace and however slow the fleet.
    """
    batches.settle(connection, lease, BatchState.READY, usage, busy_ms)
    mine = _B.move_id == lease.move_id
    readings = sa.select(sa.func.min(_B.attempts)).where(mine, _B.kind == BatchKind.RECHECK)
    if by_ids or (connection.execute(readings).scalar_one() or 0) > 1:
        _change_to_ids(connection, lease)
    else:
        assert lease.move_id is not None
        _read_again(connection, [lease.move_id])
    connection.execute(sa.update(t.move).where(_M.id == lease.move_id).values(reason=why))


def _change_to_ids(connection: sa.Connection, lease: Lease) -> None:
    """Replace a move's rechecks and `clear` by a `remove` for each copy batch. An intent passes to the `remove`s."""
    mine = _B.move_id == lease.move_id
    whole = sa.and_(mine, _B.kind.in_((BatchKind.RECHECK, BatchKind.CLEAR)))
    asked = sa.select(sa.func.max(_B.intent_at), sa.func.max(batches.shows_by(t.batch))).where(whole)
    intent, lands_by = connection.execute(asked).one()
    batches.discard(connection, whole)
    _one_per_copy(connection, lease.job_id, BatchKind.REMOVE, _M.id == lease.move_id)
    connection.execute(
        sa.update(t.batch).where(mine, _B.kind == BatchKind.REMOVE).values(intent_at=intent, lands_by=lands_by)
    )
    connection.execute(sa.update(t.move).where(_M.id == lease.move_id).values(clean_mode="by_ids", proof_lsn=None))


def note_proof_lsn(connection: sa.Connection, lease: Lease, lsn: int) -> None:
    """Note the number of the last write to the source before the second reading. The first note stays.

    Raises LeaseLost.
    """
    batches.require(connection, lease)
    connection.execute(sa.update(t.move).where(_M.id == lease.move_id, _M.proof_lsn.is_(None)).values(proof_lsn=lsn))


def settle_cleaned(connection: sa.Connection, job_id: int) -> None:
    """Mark moves as cleaned once their `clear` is done, or as parked if one of their batches is parked.

    If a move was deleted by ids, the reason for that stays for people to read.
    """
    parked = (
        sa.select(_B.error_text)
        .where(_B.move_id == _M.id, _B.kind.in_(CLEANING), _B.state == BatchState.PARKED)
        .correlate(t.move)
        .limit(1)
        .scalar_subquery()
    )
    cleaning = sa.and_(_M.job_id == job_id, _M.state == MoveState.CLEANING)
    cleared = (
        sa.select(_B.id)
        .where(_B.move_id == _M.id, _B.kind == BatchKind.CLEAR, _B.state == BatchState.DONE)
        .correlate(t.move)
        .exists()
    )
    reason = sa.case((_M.clean_mode == "by_ids", _M.reason))
    connection.execute(transitions.move_to(MoveState.CLEANED, reason=reason).where(cleaning, cleared))
    connection.execute(
        transitions.move_to(MoveState.PARKED, reason=parked)
        .where(cleaning, parked.is_not(None))
        .where(_none_open(CLEANING))
    )


def _none_open(kinds: Sequence[BatchKind]) -> Any:
    return ~(
        sa.select(_B.id)
        .where(_B.move_id == _M.id, _B.kind.in_(kinds))
        .where(_B.state.in_((BatchState.READY, BatchState.DISPATCHED, BatchState.LEASED)))
        .correlate(t.move)
        .exists()
    )


def intend(connection: sa.Connection, lease: Lease, lands_within_s: float, target_ids: Sequence[int] = ()) -> None:
    """Record the intent to delete before the call. Removals from a target raise its sequence.

    Raises LeaseLost; raises Busy until a dispatcher has looked at a restarted Postgres. The call takes effect and shows
    within `lands_within_s` from now. If the worker dies after this commit, no other worker takes the batch before that
    time, and the next one looks first. The first intent restarts the batch's freshness wait, because reads lag behind
    deletions too.
    """
    batches.require(connection, lease)
    continuity.require_known_server(connection)
    connection.execute(
        sa.update(t.batch)
        .where(_B.id == lease.id)
        .values(
            intent_at=sa.func.coalesce(_B.intent_at, NOW),
            lands_by=NOW + batches.interval(lands_within_s),
            answered_at=None,
            first_leased_at=sa.case((_B.intent_at.is_(None), NOW), else_=_B.first_leased_at),
        )
    )
    if target_ids:
        written_to = sa.update(t.target).where(among(_T.id, target_ids))
        connection.execute(written_to.values(sequence=_T.sequence + 1, last_write_at=NOW))


def presume_intent(connection: sa.Connection, lease: Lease) -> None:
    """Record the intent again that lost commits held, because records of this batch are gone. Raises LeaseLost."""
    batches.require(connection, lease)
    intent = sa.func.coalesce(_B.intent_at, NOW)
    connection.execute(sa.update(t.batch).where(_B.id == lease.id).values(intent_at=intent))


def any_intended(connection: sa.Connection, job_id: int, move_id: int | None = None) -> bool:
    """Say whether any deletion in a source of this job, or of this move, was ever intended."""
    cleaning = _B.kind.in_(CLEANING)
    intended = sa.select(_B.id).where(_B.job_id == job_id, cleaning, _B.intent_at.is_not(None))
    if move_id is not None:
        intended = intended.where(_B.move_id == move_id)
    return bool(connection.execute(sa.select(intended.exists())).scalar_one())


def add_up(connection: sa.Connection, lease: Lease, kinds: Sequence[BatchKind], name: str, count: int) -> int:
    """Record that `count` records of this batch are `name`. Return the total over the source's batches of these kinds.

    `name` is "missing", "removed" or "lacking". It is none of the counts of a move, because the batch may never finish.

    The move's row stays locked until the commit, so parallel batches see each other's counts. The caller rolls back if
    the total exceeds a cap. Raises LeaseLost.
    """
    batches.require(connection, lease)
    connection.execute(sa.select(_M.id).where(_M.id == lease.move_id).with_for_update(key_share=True)).one()
    others: int = connection.execute(
        sa.select(sa.func.coalesce(sa.func.sum(sa.cast(_B.found[name].astext, sa.Integer)), 0)).where(
            _B.move_id == lease.move_id, _B.kind.in_(kinds), _B.id != lease.id
        )
    ).scalar_one()
    noted = sa.func.coalesce(_B.found, sa.text("'{}'::jsonb")).op("||")(
        sa.func.jsonb_build_object(sa.literal(name, sa.Text), sa.literal(count, sa.Integer))
    )
    connection.execute(sa.update(t.batch).where(_B.id == lease.id).values(found=noted))
    return others + count


def _deleted() -> sa.Select[int]:
    ended = batches.DONE.cte("ended")
    added = (
        sa.update(t.move)
        .where(_M.id == sa.bindparam("its_move"), sa.select(ended.c.id).exists())
        .values(deleted=_M.deleted + sa.bindparam("its_deleted", type_=sa.BigInteger))
        .returning(_M.id)
        .cte("added")
    )
    return sa.select(added.c.id)


_DELETED = _deleted()


def finish(connection: sa.Connection, lease: Lease, found: dict[str, Any], usage: Usage, busy_ms: int) -> None:
    """Settle a batch that is neither a copy nor a check; add a clean-up's deletions to the move. Raises LeaseLost.

    One statement, so it needs no transaction around it.
    """
    if lease.kind not in (BatchKind.CLEAR, BatchKind.REMOVE):
        batches.done(connection, lease, found, usage, busy_ms)
        return
    its_move = {"its_move": lease.move_id, "its_deleted": found["deleted"]}
    if connection.execute(_DELETED, batches.ending(lease, found, usage, busy_ms) | its_move).one_or_none() is None:
        raise batches.LeaseLost


def add_up_missing(connection: sa.Connection, lease: Lease, missing: Mapping[int, int]) -> tuple[int, dict[int, Any]]:
    """Record how many records this batch found missing at each target.

    Return two things. The total over this source's batches, leaving out targets for which a person named a number. And
    a row for each target: the records `missing` there over all sources of the job, the records `written` to it, and the
    number that a person `said` for it, if any.

    The rows of the move and the targets stay locked until the commit, as in `add_up`. Raises LeaseLost.
    """
    batches.require(connection, lease)
    connection.execute(sa.select(_M.id).where(_M.id == lease.move_id).with_for_update(key_share=True)).one()
    held = sa.select(_T.id).where(among(_T.id, missing)).order_by(_T.id)
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
        ).where(among(_T.id, missing))
    )
    return total, {row.id: row for row in rows}
