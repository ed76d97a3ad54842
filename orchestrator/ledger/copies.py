"""Records of copying: tallies with the counters, in one transaction."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from orchestrator.core import manifests
from orchestrator.core.model import CopyOutcome, Lease, TargetTally
from orchestrator.core.states import BatchKind, BatchState, MoveState
from orchestrator.ledger import batches, erased_ids, moves, transitions
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import among, one_statement
from orchestrator.ledger.deletions import UNTOUCHED
from vecfleet.errors import RefusedAlike
from vecfleet.stores.base import Usage

_M = t.move.c
_NO_ERROR = {"error_class": None, "error_text": None}
_COUNTS = ("written", "identical", "gone", "parked", "left_behind")
_TALLIED = ("target_id", "records", "digest", "ids_digest", "members", "record_digests")
_ADD_TALLIES = sa.insert(t.batch_tally)
_ADD_COUNTS = (
    sa.update(t.move)
    .where(_M.id == sa.bindparam("of_move"))
    .values(
        open_batches=_M.open_batches + sa.bindparam("opened", type_=sa.Integer),
        **{name: _M[name] + sa.bindparam(f"more_{name}", type_=sa.BigInteger) for name in _COUNTS},
    )
    .returning(_M.open_batches, _M.listed_all)
)


def finishing(ended: sa.CTE) -> sa.Select[bool]:
    """Return the statement that records a batch's first copy to one place if `ended` has a row.

    It locks what `ended` locks, then the target, then the move, as every worker does: each part reads the one before.
    A move of this batch alone is settled too. Of a move with more, another worker may record a batch meanwhile, which
    this statement would not see.
    """
    its = {name: sa.bindparam(f"its_{name}", type_=t.batch_tally.c[name].type) for name in _TALLIED}
    tallied = insert(t.batch_tally).from_select(["batch_id", *its], sa.select(ended.c.id, *its.values()))
    lsn = sa.bindparam("newest_lsn", type_=sa.BigInteger)
    noted = (
        sa.update(t.target)
        .where(t.target.c.id == its["target_id"], lsn.is_not(None), sa.select(ended.c.id).exists())
        .values(lsn=sa.func.greatest(t.target.c.lsn, lsn))
        .returning(t.target.c.id)
        .cte("noted")
    )
    ends = sa.and_(_M.batches == 1, _M.open_batches == 1, *moves.MAY_SETTLE)
    counted = (
        transitions.move_to(
            sa.case((ends, moves.SETTLED), else_=_M.state),
            reason=sa.case((ends, moves.SETTLED_FOR), else_=_M.reason),
            open_batches=_M.open_batches - 1,
            **{name: _M[name] + sa.bindparam(f"more_{name}", type_=sa.BigInteger) for name in _COUNTS},
        )
        .where(_M.id == sa.bindparam("of_move"), sa.select(ended.c.id).exists())
        .where(sa.select(sa.func.count()).select_from(noted).scalar_subquery() >= 0)
        .returning(sa.and_(_M.listed_all, _M.open_batches == 0, _M.batches > 1).label("is_last"))
        .cte("counted")
    )
    return sa.select(counted.c.is_last).add_cte(tallied.cte("tallied"))


_FINISH_FIRST = finishing(batches.DONE.cte("ended"))


def _is_first(lease: Lease, outcome: CopyOutcome) -> bool:
    """Say whether this is the batch's first copy, to one place, with nothing set aside."""
    left = outcome.parked or outcome.erased or outcome.keeps or outcome.unchanged
    return lease.found is None and len(outcome.tallies) == 1 and not left


def ends_alone(lease: Lease, outcome: CopyOutcome) -> bool:
    """Say whether `finish_copy` is one statement, which needs no transaction around it."""
    alone = lease.move is not None and lease.move.listed_all and lease.move.batches == 1
    return alone and _is_first(lease, outcome)


def finish_copy(connection: sa.Connection, lease: Lease, outcome: CopyOutcome, usage: Usage, busy_ms: int) -> None:
    """Record a copied batch, its tallies, its parked records and the move's counters. Raises LeaseLost.

    All in one transaction. A repeated batch (a repair, a second worker) replaces its earlier records and never adds to
    them; a person's decision to let a record stay behind remains.
    """
    if _is_first(lease, outcome):
        _finish_first(connection, lease, outcome, usage, busy_ms)
        return
    # A batch that never finished has recorded nothing.
    before = _recorded(connection, lease.id) if lease.found is not None else {}
    if outcome.keeps:
        batches.settle(connection, lease, BatchState.DONE, usage, busy_ms, **_NO_ERROR)
        if outcome.erased:
            erased_ids.remove_ids(connection, lease.id, dict.fromkeys(outcome.erased))
        _count(connection, _move_id(lease), before, before, opened=-1)
        return
    if outcome.unchanged:
        found = before | {"changed": 0, "removed": 0}
        batches.settle(connection, lease, BatchState.DONE, usage, busy_ms, found=found, **_NO_ERROR)
        _count(connection, _move_id(lease), before, before, opened=-1)
        return
    accepted = _accepted(connection, lease.id) if before else {}
    counts = outcome.counts()
    stays = sum(record.record_id in accepted for record in outcome.parked)
    counts |= {"parked": counts["parked"] - stays, "left_behind": counts["left_behind"] + stays}
    batches.done(connection, lease, _results(outcome, counts, before), usage, busy_ms)
    if lease.found is not None:
        take_back(connection, lease.id)
    if outcome.tallies:
        connection.execute(
            _ADD_TALLIES,
            [{"batch_id": lease.id, **_tally(tally)} for tally in outcome.tallies],
        )
    if outcome.parked:
        connection.execute(
            insert(t.parked_record),
            [
                {
                    "job_id": lease.job_id,
                    "move_id": lease.move_id,
                    "batch_id": lease.id,
                    "record_id": record.record_id,
                    "reason": record.reason,
                    "accepted_by": None,
                    "accepted_at": None,
                    **accepted.get(record.record_id, {}),
                }
                for record in outcome.parked
            ],
        )
    _note_lsns(connection, outcome.tallies)
    if outcome.erased:
        erased_ids.remove_ids(connection, lease.id, dict.fromkeys(outcome.erased), counted=False)
    _count(connection, _move_id(lease), before, counts, opened=-1)


def _finish_first(connection: sa.Connection, lease: Lease, outcome: CopyOutcome, usage: Usage, busy_ms: int) -> None:
    (tally,), counts = outcome.tallies, outcome.counts()
    values = batches.ending(lease, _results(outcome, counts, {}), usage, busy_ms) | {
        **{f"its_{name}": value for name, value in _tally(tally).items()},
        **{f"more_{name}": counts[name] for name in _COUNTS},
        "newest_lsn": tally.lsn,
        "of_move": lease.move_id,
    }
    is_last = one_statement(connection, _FINISH_FIRST, values).scalar_one_or_none()
    if is_last is None:
        raise batches.LeaseLost
    if is_last:
        moves.settle_if_done(connection, _move_id(lease))


def _results(outcome: CopyOutcome, counts: Mapping[str, int], before: Mapping[str, Any]) -> dict[str, Any]:
    results: dict[str, Any] = {**counts, "changed": outcome.changed, "removed": outcome.removed}
    results["lacking"] = outcome.gone
    if outcome.versions is not None:
        results["versions"] = outcome.versions
    # A repair embeds only a part of the batch.
    if cut := max(outcome.cut, before.get("cut", 0)):
        results["cut"] = cut
    return results


def cut_texts(connection: sa.Connection, job_id: int) -> int | None:
    """Return how many texts the job's batches cut, because the model takes no longer ones. None: they were purged."""
    cut = sa.func.coalesce(sa.cast(t.batch.c.found["cut"].astext, sa.Integer), 0)
    of_copies = sa.and_(t.batch.c.job_id == job_id, t.batch.c.kind == BatchKind.COPY)
    in_all: int | None = connection.execute(sa.select(sa.func.sum(cut)).where(of_copies)).scalar_one()
    return in_all


def _tally(tally: TargetTally) -> dict[str, Any]:
    return {
        "target_id": tally.target_id,
        "records": tally.count,
        "digest": tally.digest,
        "ids_digest": tally.ids_digest,
        "members": tally.members,
        "record_digests": tally.record_digests,
    }


def agree(connection: sa.Connection, lease: Lease, copy_id: int, read: TargetTally, tally: TargetTally) -> None:
    """Replace a tally that lags behind what was read: the application wrote to both sides, or an erasure left its sum
    incomplete. Raises LeaseLost.

    `read` is the compared tally. If an erasure has removed ids from the stored tally since, the stored tally stays.
    """
    batches.require(connection, lease)
    connection.execute(
        sa.update(t.batch_tally)
        .where(t.batch_tally.c.batch_id == copy_id, t.batch_tally.c.target_id == tally.target_id)
        .where(t.batch_tally.c.records == read.count, t.batch_tally.c.members.is_not_distinct_from(read.members))
        .values(**_tally(tally))
    )


def _recorded(connection: sa.Connection, batch_id: int) -> dict[str, int]:
    """Return the batch's present counts. Lock its row, so that nobody accepts its parked records meanwhile."""
    query = sa.select(t.batch.c.found).where(t.batch.c.id == batch_id).with_for_update(key_share=True)
    return connection.execute(query).scalar_one() or {}


def _accepted(connection: sa.Connection, batch_id: int) -> dict[str, dict[str, Any]]:
    """Return the accepted parked records of the batch, with who accepted each and when."""
    P = t.parked_record.c
    rows = connection.execute(
        sa.select(P.record_id, P.accepted_by, P.accepted_at).where(P.batch_id == batch_id, P.accepted_at.is_not(None))
    )
    return {row.record_id: {"accepted_by": row.accepted_by, "accepted_at": row.accepted_at} for row in rows}


def _note_lsns(connection: sa.Connection, tallies: Sequence[TargetTally]) -> None:
    """Note the number of the newest write to each target, if the service gives one."""
    for tally in sorted(tallies, key=lambda entry: entry.target_id):
        if tally.lsn is not None:
            connection.execute(
                sa.update(t.target)
                .where(t.target.c.id == tally.target_id)
                .values(lsn=sa.func.greatest(t.target.c.lsn, tally.lsn))
            )


def take_back(connection: sa.Connection, batch_id: int) -> None:
    """Delete the tallies and parked records of an earlier copy. The caller subtracts the copy's counts."""
    connection.execute(sa.delete(t.batch_tally).where(t.batch_tally.c.batch_id == batch_id))
    connection.execute(sa.delete(t.parked_record).where(t.parked_record.c.batch_id == batch_id))


def park(
    connection: sa.Connection, lease: Lease, error_class: str, error_text: str, usage: Usage, busy_ms: int
) -> None:
    """Set the batch aside with its reason; its ids count as parked. Raises LeaseLost.

    The records of an earlier copy stay and count again once the batch is retried.
    """
    before = _recorded(connection, lease.id)
    parks_ids = lease.kind is BatchKind.COPY
    counts = _all_parked(lease.size, before) if parks_ids else before
    batches.settle(
        connection,
        lease,
        BatchState.PARKED,
        usage,
        busy_ms,
        found=counts,
        error_class=error_class,
        error_text=error_text,
    )
    if parks_ids:
        _count(connection, _move_id(lease), before, counts, opened=-1)
    elif lease.kind is BatchKind.LIST:
        _park_move(connection, _move_id(lease), error_text)


def _all_parked(size: int, before: dict[str, Any]) -> dict[str, Any]:
    return {**dict.fromkeys(_COUNTS, 0), "parked": size, "before": before}


def _park_move(connection: sa.Connection, move_id: int, reason: str) -> None:
    connection.execute(transitions.move_to(MoveState.PARKED, reason=reason).where(_M.id == move_id))


def park_exhausted(connection: sa.Connection, batch_id: int) -> None:
    """Park a ready batch whose workers died too often."""
    row = connection.execute(
        sa.select(t.batch).where(t.batch.c.id == batch_id, t.batch.c.state == BatchState.READY).with_for_update()
    ).one_or_none()
    if row is None:
        return
    reason = f"its worker stopped answering {row.attempts} times"
    before = row.found or {}
    counts = _all_parked(row.size, before) if row.kind == BatchKind.COPY else row.found
    connection.execute(
        transitions.batch_to(BatchState.PARKED, found=counts, error_class="LeaseExpired", error_text=reason).where(
            t.batch.c.id == batch_id
        )
    )
    if row.kind == BatchKind.LIST:
        _park_move(connection, row.move_id, reason)
    if row.kind == BatchKind.COPY:
        _count(connection, row.move_id, before, counts, opened=-1)


def split(connection: sa.Connection, lease: Lease, ids: Sequence[str], usage: Usage, busy_ms: int) -> None:
    """Replace a batch that was too large by two, in one transaction. Raises LeaseLost.

    The tallies and counts of an earlier copy are deleted, because the two new batches account for the ids now.
    """
    middle = len(ids) // 2
    before = _recorded(connection, lease.id)
    batches.settle(
        connection,
        lease,
        BatchState.SPLIT,
        usage,
        busy_ms,
        found=None,
        error_class="TooLarge",
        error_text="split in two",
    )
    take_back(connection, lease.id)
    move = connection.execute(sa.select(_M.batches).where(_M.id == lease.move_id).with_for_update(key_share=True)).one()
    connection.execute(
        sa.insert(t.batch),
        [
            {
                "job_id": lease.job_id,
                "move_id": lease.move_id,
                "kind": BatchKind.COPY,
                "seq": move.batches + position,
                "listed_in": lease.listed_in,
                "first_id": half[0],
                "size": len(half),
                "manifest": manifests.pack(half),
                "targets": list(lease.targets) or None,
            }
            for position, half in enumerate((ids[:middle], ids[middle:]), start=1)
        ],
    )
    connection.execute(sa.update(t.move).where(_M.id == lease.move_id).values(batches=_M.batches + 2))
    _count(connection, _move_id(lease), before, {}, opened=1)


def _move_id(lease: Lease) -> int:
    assert lease.move_id is not None, "a copy batch belongs to a move"
    return lease.move_id


def _count(
    connection: sa.Connection, move_id: int, before: Mapping[str, int], after: Mapping[str, int], *, opened: int
) -> None:
    more = {f"more_{name}": after.get(name, 0) - before.get(name, 0) for name in _COUNTS}
    move = connection.execute(_ADD_COUNTS, {"of_move": move_id, "opened": opened, **more}).one()
    if move.listed_all and not move.open_batches:
        # A separate statement, because it must see the counts that others recorded before they released the move's row.
        moves.settle_if_done(connection, move_id)


def _changes(before: dict[str, int], after: dict[str, int]) -> dict[str, Any]:
    """Return a move's new counters if a batch counts for `after` instead of `before`."""
    return {name: _M[name] + after.get(name, 0) - before.get(name, 0) for name in _COUNTS}


def reopen(connection: sa.Connection, job_id: int, copy_ids: Sequence[int], *, rewrite: str | None = None) -> int:
    """Copy settled batches again, to repair differing ones or retry parked ones. Return their number.

    `rewrite` says which ids are written: the `differing` ones, the `parked` ones, or all (None). A parked batch keeps
    its own `rewrite`. A batch whose records were all refused alike tries each record by itself (`each`). The batches'
    tallies and counts stay until they finish again.
    """
    rows = connection.execute(
        sa.select(*(t.batch.c[name] for name in ("id", "move_id", "state", "found", "rewrite", "error_class")))
        .where(t.batch.c.job_id == job_id, among(t.batch.c.id, copy_ids), t.batch.c.kind == BatchKind.COPY)
        .where(t.batch.c.state.in_((BatchState.DONE, BatchState.PARKED)), UNTOUCHED)
        .with_for_update()
    ).all()
    for row in rows:
        parked = row.state == BatchState.PARKED
        now: dict[str, Any] = row.found if parked else {}
        then: dict[str, Any] = now.get("before", {})
        if row.error_class == RefusedAlike.__name__:
            then = then | {"each": True}
        values: dict[str, Any] = {"found": then} if parked else {}
        again = transitions.batch_anew(rewrite=(row.rewrite if parked else None) or rewrite, **values)
        connection.execute(again.where(t.batch.c.id == row.id))
        repairing = _M.state.in_((MoveState.MISMATCHED, MoveState.REPAIRING))
        state = sa.case((repairing, MoveState.REPAIRING), else_=MoveState.COPYING)
        connection.execute(
            transitions.move_to(
                sa.case((_M.listed_all, state), else_=MoveState.LISTING),
                open_batches=_M.open_batches + 1,
                **_changes(now, then),
                reason=None,
            ).where(_M.id == row.move_id)
        )
    return len(rows)
