"""Verification of each target: check batches, their results, and the verdict with its write sequence."""

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from migrations.plan import Level, Policies
from orchestrator.core.model import Finding, Lease, TargetTally
from orchestrator.core.states import CHECK_PASSED, CHECKING, BatchKind, BatchState, CheckState, MoveState
from orchestrator.ledger import batches, differences, transitions
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import NOW, among, one_statement
from vecfleet.digests import Tally
from vecfleet.stores.base import Usage

_T, _B, _TALLY = t.target.c, t.batch.c, t.batch_tally.c
MODULUS = sa.literal(2**128, sa.Numeric(39, 0))
# Records that one check reads back, from any number of copy batches: a namespace split between thousands of owners
# needs checks for its records, not one check for each batch and owner.
CHECKED_AT_ONCE = 1_000
# Questions in one batch: at most a minute of slow answers, so little is repeated if the worker dies.
ASKED_AT_ONCE = 25
_ENDED = batches.DONE.cte("ended")
_FINISH = (
    sa.update(t.target)
    .where(_T.id == sa.bindparam("of_target"), sa.select(_ENDED.c.id).exists())
    .values(open_checks=_T.open_checks - 1)
    .returning(_T.id)
)


def begin(connection: sa.Connection, job_id: int, policies: Policies) -> int:
    """Start to check each waiting target whose moves are all copied. Return the number of targets.

    Skip a target on which an unanswered upsert may still take effect, perhaps after the records were read. While other
    sources are still copied, skip a target whose last write may not show in reads yet: an early check would have to be
    repeated, and workers have copies to do meanwhile.

    Call this under the job's row lock. Locks batches before targets, as workers do. A move that differs at another
    target counts as copied. Moves to several targets are a separate condition, so that the rest is one join.
    """
    copied = (MoveState.COPIED, MoveState.MISMATCHED, MoveState.VERIFIED, MoveState.CLEANING, MoveState.CLEANED)
    unfinished = sa.select(t.move.c.id).where(t.move.c.job_id == job_id, t.move.c.state.not_in(copied))
    lag_s = sa.select(t.job.c.target_lag_s).where(t.job.c.id == job_id).scalar_subquery()
    shown = _T.last_write_at + batches.interval(lag_s) <= NOW
    ready: dict[int, Level] = {
        row.id: row.check_level or policies.verify
        for row in connection.execute(
            sa.select(_T.id, _T.check_level)
            .where(_T.job_id == job_id, _T.check_state == CheckState.WAITING)
            .where(sa.or_(_T.lands_by.is_(None), _T.lands_by <= NOW))
            .where(sa.or_(~unfinished.exists(), _T.last_write_at.is_(None), shown))
            .where(~unfinished.where(t.move.c.to == _T.namespace).exists())
            .where(~unfinished.where(t.move.c.to.is_(None)).exists())
        )
    }
    if not ready:
        return 0
    _forget(connection, list(ready))
    differences.forget(connection, list(ready))
    _add_readings(connection, [target_id for target_id, level in ready.items() if level != "ids"])
    surveys = sa.select(_T.job_id, _T.id, sa.literal(str(BatchKind.SURVEY)), sa.literal(0)).where(among(_T.id, ready))
    connection.execute(sa.insert(t.batch).from_select(["job_id", "target_id", "kind", "seq"], surveys))
    asked = [target_id for target_id, level in ready.items() if level == "content+query"]
    _add_questions(connection, job_id, _sizes(connection, asked, policies))
    checks = (
        sa.select(sa.func.count())
        .where(_B.target_id == _T.id, _B.kind.in_(CHECKING))
        .correlate(t.target)
        .scalar_subquery()
    )
    connection.execute(
        transitions.target_to(
            CheckState.CHECKING, check_sequence=_T.sequence, open_checks=checks, verdict=None, verdict_at=None
        ).where(among(_T.id, ready))
    )
    return len(ready)


def _add_readings(connection: sa.Connection, target_ids: Sequence[int]) -> None:
    """Add checks of about `CHECKED_AT_ONCE` records each, over the copy batches of one move to the target."""
    copy = t.batch.alias("copy")
    before = sa.func.sum(_TALLY.records).over(partition_by=(_TALLY.target_id, copy.c.move_id), order_by=copy.c.id)
    runs = (
        sa.select(
            copy.c.job_id,
            copy.c.move_id,
            _TALLY.target_id,
            copy.c.id,
            _TALLY.records,
            ((before - _TALLY.records) / CHECKED_AT_ONCE).label("run"),
        )
        .join(copy, copy.c.id == _TALLY.batch_id)
        .where(among(_TALLY.target_id, target_ids))
        .subquery()
    )
    run = (runs.c.job_id, runs.c.move_id, runs.c.target_id, sa.func.floor(runs.c.run))
    checks = sa.select(
        *run[:3],
        sa.func.array_agg(sa.dialects.postgresql.aggregate_order_by(runs.c.id, runs.c.id)),
        sa.literal(str(BatchKind.VERIFY)),
        sa.func.row_number().over(partition_by=runs.c.target_id, order_by=sa.func.min(runs.c.id)),
        sa.func.sum(runs.c.records),
    ).group_by(*run)
    connection.execute(
        sa.insert(t.batch).from_select(["job_id", "move_id", "target_id", "copies", "kind", "seq", "size"], checks)
    )


def _sizes(connection: sa.Connection, target_ids: Sequence[int], policies: Policies) -> dict[int, int]:
    """Return how many questions each target is asked: those of its sources, or about a sample of its records."""
    if policies.embedding is not None and policies.embedding.gate.file is not None:
        counts = policies.embedding.gate.counts
        sources = sa.select(_T.id, t.move.c.source).join(
            t.move, sa.and_(t.move.c.job_id == _T.job_id, t.move.c.to == _T.namespace)
        )
        sizes: dict[int, int] = defaultdict(int)
        for target_id, source in connection.execute(sources.where(among(_T.id, target_ids))):
            sizes[target_id] += counts.get(source, 0)
        return sizes
    expected = expected_of(connection, target_ids)
    return {target_id: min(policies.query_sample, tally.count) for target_id, tally in expected.items()}


def _add_questions(connection: sa.Connection, job_id: int, sizes: Mapping[int, int]) -> None:
    rows = [
        {
            "job_id": job_id,
            "target_id": target_id,
            "kind": BatchKind.QUERY,
            "seq": first // ASKED_AT_ONCE,
            "size": min(ASKED_AT_ONCE, size - first),
        }
        for target_id, size in sizes.items()
        for first in range(0, size, ASKED_AT_ONCE)
    ]
    if rows:
        connection.execute(sa.insert(t.batch), rows)


def _forget(connection: sa.Connection, target_ids: Sequence[int]) -> None:
    batches.discard(connection, among(_B.target_id, target_ids), _B.kind.in_(CHECKING))


def restart(connection: sa.Connection, target_ids: Sequence[int], level: Level | None = None) -> None:
    """Have these targets checked again: a repair wrote, a verdict is void or stale, or a person asks.

    The check has the plan's level or `level`. Differences on record stay until the new check begins, because a repair
    writes exactly those records.
    """
    if not target_ids:
        return
    _forget(connection, target_ids)
    connection.execute(
        transitions.target_to(
            CheckState.WAITING, check_level=level, open_checks=0, verdict=None, verdict_at=None
        ).where(among(_T.id, target_ids))
    )
    touched = sa.select(t.move_target.c.move_id).where(among(t.move_target.c.target_id, target_ids))
    connection.execute(
        transitions.move_to(MoveState.COPIED, reason=None).where(
            t.move.c.id.in_(touched), t.move.c.state.in_((MoveState.VERIFIED, MoveState.MISMATCHED))
        )
    )


def targets_of_moves(connection: sa.Connection, job_id: int, states: Collection[MoveState]) -> list[int]:
    """Return the targets that the job's moves in these states wrote to."""
    tied = (
        sa.select(t.move_target.c.target_id)
        .join(t.move, t.move.c.id == t.move_target.c.move_id)
        .where(t.move.c.job_id == job_id, t.move.c.state.in_(states))
    )
    return list(connection.execute(sa.select(_T.id).where(_T.job_id == job_id, _T.id.in_(tied))).scalars())


def finish(
    connection: sa.Connection,
    lease: Lease,
    found: dict[str, Any],
    findings: Sequence[Finding],
    usage: Usage,
    busy_ms: int,
) -> None:
    """Record the results of a check batch, and the `findings` that it has not noted itself. Raises LeaseLost.

    Without findings this is one statement, which needs no transaction around it.
    """
    assert lease.target_id is not None
    values = batches.ending(lease, found, usage, busy_ms) | {"of_target": lease.target_id}
    if one_statement(connection, _FINISH, values).one_or_none() is None:
        raise batches.LeaseLost
    differences.note(connection, lease.target_id, lease.id, findings)


def written_by(
    connection: sa.Connection, copy_ids: Sequence[int], target_id: int
) -> list[tuple[int, bytes, TargetTally]]:
    """Return the tallies of these copy batches in a target: (batch, manifest, tally)."""
    rows = connection.execute(
        sa.select(_B.id, _B.manifest, t.batch_tally)
        .join(t.batch_tally, _TALLY.batch_id == _B.id)
        .where(among(_B.id, copy_ids), _TALLY.target_id == target_id)
        .order_by(_B.id)
    )
    return [(row.id, row.manifest, _tally(row)) for row in rows]


def _tally(row: sa.Row[Any]) -> TargetTally:
    return TargetTally(
        row.target_id, row.records, int(row.digest), int(row.ids_digest), row.members, row.record_digests
    )


def tallies_of(connection: sa.Connection, copy_id: int) -> list[TargetTally]:
    """Return the tallies of one copy batch, one for each of its targets."""
    rows = connection.execute(sa.select(t.batch_tally).where(_TALLY.batch_id == copy_id).order_by(_TALLY.target_id))
    return [_tally(row) for row in rows]


def written_page(
    connection: sa.Connection, move_id: int, after: int, limit: int
) -> list[tuple[int, bytes, bytes | None, int | None]]:
    """Return the next copy batches of a move: (batch, manifest, members, target). Target None: nothing was written."""
    page = (
        sa.select(_B.id, _B.manifest)
        .where(_B.move_id == move_id, _B.kind == BatchKind.COPY, _B.state != BatchState.SPLIT, _B.id > after)
        .order_by(_B.id)
        .limit(limit)
        .subquery()
    )
    rows = connection.execute(
        sa.select(page.c.id, page.c.manifest, _TALLY.members, _TALLY.target_id)
        .select_from(page.outerjoin(t.batch_tally, _TALLY.batch_id == page.c.id))
        .order_by(page.c.id)
    )
    return [(row.id, row.manifest, row.members, row.target_id) for row in rows]


def expected_of(connection: sa.Connection, target_ids: Sequence[int]) -> dict[int, TargetTally]:
    """Return the expected tally of each target: the sum over all batches that wrote to it."""
    rows = connection.execute(
        sa.select(
            _TALLY.target_id,
            sa.func.sum(_TALLY.records).label("n"),
            (sa.func.sum(_TALLY.digest) % MODULUS).label("digest"),
            (sa.func.sum(_TALLY.ids_digest) % MODULUS).label("ids_digest"),
        )
        .where(among(_TALLY.target_id, target_ids))
        .group_by(_TALLY.target_id)
    )
    return {
        row.target_id: TargetTally(row.target_id, int(row.n), int(row.digest), int(row.ids_digest), None)
        for row in rows
    }


def pronounce(connection: sa.Connection, verdicts: Sequence[tuple[int, CheckState, Mapping[str, Any]]]) -> None:
    """Record a verdict for each target, in one statement: (target, state, evidence)."""
    if not verdicts:
        return
    ids, states, evidence = zip(*verdicts, strict=True)
    listed = (
        sa.cast(list(ids), ARRAY(sa.BigInteger)),
        sa.cast(list(states), ARRAY(sa.Text)),
        sa.cast([json.dumps(each) for each in evidence], ARRAY(sa.Text)),
    )
    of = sa.func.unnest(*listed).table_valued("id", "state", "evidence").render_derived()
    verdict = sa.cast(of.c.evidence, JSONB)
    connection.execute(transitions.target_to(of.c.state, verdict=verdict, verdict_at=NOW).where(_T.id == of.c.id))


def settle_moves(connection: sa.Connection, job_id: int) -> None:
    """Mark each copied move as verified if all its targets are, and as mismatched if one of them differs.

    A move that wrote nothing (an empty source, or all records parked) is verified too: there is nothing to prove.
    """
    states = (
        sa.select(t.move_target.c.move_id)
        .join(t.target, _T.id == t.move_target.c.target_id)
        .where(t.move_target.c.move_id == t.move.c.id)
        .correlate(t.move)
    )
    differing = states.where(_T.check_state == CheckState.MISMATCHED).exists()
    unverified = states.where(_T.check_state.not_in(CHECK_PASSED)).exists()
    M = t.move.c
    copied = sa.and_(M.job_id == job_id, M.state == MoveState.COPIED)
    connection.execute(transitions.move_to(MoveState.MISMATCHED, reason="its target differs").where(copied, differing))
    connection.execute(transitions.move_to(MoveState.VERIFIED).where(copied, ~unverified))


def release_moves(connection: sa.Connection, target_ids: Sequence[int]) -> None:
    """Return the moves that differed at these targets alone to *copied*; `settle_moves` then decides about them."""
    touched = sa.select(t.move_target.c.move_id).where(among(t.move_target.c.target_id, target_ids))
    differing = (
        sa.select(t.move_target.c.move_id)
        .join(t.target, _T.id == t.move_target.c.target_id)
        .where(t.move_target.c.move_id == t.move.c.id, _T.check_state == CheckState.MISMATCHED)
        .correlate(t.move)
    )
    connection.execute(
        transitions.move_to(MoveState.COPIED, reason=None).where(
            t.move.c.id.in_(touched), t.move.c.state == MoveState.MISMATCHED, ~differing.exists()
        )
    )


def void_targets(connection: sa.Connection, job_id: int) -> list[int]:
    """Return targets written to after their verdict, or on which an unanswered upsert may have taken effect since."""
    judged = _T.check_state.not_in((CheckState.WAITING, CheckState.CHECKING))
    landed = sa.and_(_T.lands_by <= sa.func.clock_timestamp(), _T.verdict_at < _T.lands_by)
    void = sa.or_(_T.sequence != _T.check_sequence, landed)
    rows = connection.execute(sa.select(_T.id).where(_T.job_id == job_id, judged, void))
    return [row.id for row in rows]


def counts_by_state(connection: sa.Connection, job_id: int) -> dict[str, int]:
    rows = connection.execute(
        sa.select(_T.check_state, sa.func.count().label("n")).where(_T.job_id == job_id).group_by(_T.check_state)
    )
    return {row.check_state: row.n for row in rows}


def manifest_stream(
    connection: sa.Connection,
    move_id: int,
    target_id: int,
    listed_in: int,
    after: str | None,
    limit: int,
    *,
    inclusive: bool = False,
) -> list[tuple[int, str, bytes, bytes | None]]:
    """Return the next copy batches of a move's pass that wrote to a target: (batch, first id, manifest, members).

    They begin behind `after` and are in the order of their ids, because a pass makes batches of ids as it lists them.
    `inclusive`: start with the batch that may hold `after`.
    """
    query = (
        sa.select(_B.id, _B.first_id, _B.manifest, _TALLY.members)
        .join(t.batch_tally, _TALLY.batch_id == _B.id)
        .where(_B.move_id == move_id, _B.kind == BatchKind.COPY, _TALLY.target_id == target_id)
        .where(_B.listed_in == listed_in)
        .order_by(_B.first_id)
        .limit(limit)
    )
    if after is not None and inclusive:
        copy = t.batch.alias("copy")
        holder = sa.select(sa.func.max(copy.c.first_id)).where(
            copy.c.move_id == move_id,
            copy.c.kind == BatchKind.COPY,
            copy.c.listed_in == listed_in,
            copy.c.first_id <= after,
        )
        query = query.where(_B.first_id >= sa.func.coalesce(holder.scalar_subquery(), ""))
    elif after is not None:
        query = query.where(_B.first_id > after)
    return [(row.id, row.first_id, row.manifest, row.members) for row in connection.execute(query)]


def moves_into(connection: sa.Connection, target_id: int) -> list[tuple[int, str]]:
    """Return the moves that write to a target, each with the prefix of its ids there."""
    rows = connection.execute(
        sa.select(t.move.c.id, t.move.c.prefix)
        .join(t.move_target, t.move_target.c.move_id == t.move.c.id)
        .where(t.move_target.c.target_id == target_id)
    )
    return [(row.id, row.prefix) for row in rows]


def expected_ids_of(connection: sa.Connection, target_id: int) -> Tally:
    """Return the tally of the ids written to a target."""
    tally = expected_of(connection, [target_id]).get(target_id)
    return Tally(tally.count, tally.ids_digest) if tally else Tally()
