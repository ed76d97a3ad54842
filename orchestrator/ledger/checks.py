"""Verification, target by target: check batches, what they found, and the verdict that names its write sequence."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from orchestrator import tables as t
from orchestrator.ledger import batches, moves
from orchestrator.model import Finding, Lease, Target, TargetTally
from orchestrator.states import BatchKind, BatchState, MoveState
from vecfleet.digests import Tally
from vecfleet.stores.base import Usage

_NOW = sa.func.clock_timestamp()
_T, _B, _TALLY = t.target.c, t.batch.c, t.batch_tally.c
_MODULUS = sa.literal(2**128, sa.Numeric(39, 0))
_CHECKS = (BatchKind.VERIFY, BatchKind.SURVEY)
# Enough to see what is wrong; the counts stay exact.
SAMPLE_IDS = 20


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a check of one target expected and found."""

    target: Target
    expected: TargetTally
    found_count: int
    found_digest: int
    listed_count: int | None
    listed_ids_digest: int | None
    surveys: int
    missing: int
    extra: int
    different: int
    samples: tuple[Finding, ...]


def begin(connection: sa.Connection, job_id: int) -> int:
    """Start checking each waiting target whose moves are all copied. Returns how many were started.

    Called under the job's row lock. Batches are locked before targets, as workers do. A move that differs at another
    target is copied too. Moves to anywhere are asked for apart, so that the rest is one join and no loop in a loop.
    """
    copied = (MoveState.COPIED, MoveState.MISMATCHED, MoveState.VERIFIED, MoveState.CLEANED)
    unfinished = sa.select(t.move.c.id).where(t.move.c.job_id == job_id, t.move.c.state.not_in(copied))
    ready = [
        row.id
        for row in connection.execute(
            sa.select(_T.id)
            .where(_T.job_id == job_id, _T.check_state == "waiting")
            .where(~unfinished.where(t.move.c.to == _T.namespace).exists())
            .where(~unfinished.where(t.move.c.to.is_(None)).exists())
        )
    ]
    if not ready:
        return 0
    _forget(connection, ready)
    kept = sa.select(
        _B.job_id,
        _B.move_id,
        _TALLY.target_id,
        _B.id,
        sa.literal(str(BatchKind.VERIFY)),
        _B.seq,
        _TALLY.records,
    ).where(_TALLY.target_id.in_(ready), _B.id == _TALLY.batch_id)
    connection.execute(
        sa.insert(t.batch).from_select(["job_id", "move_id", "target_id", "copy_id", "kind", "seq", "size"], kept)
    )
    connection.execute(
        sa.insert(t.batch),
        [{"job_id": job_id, "target_id": target_id, "kind": BatchKind.SURVEY, "seq": 0} for target_id in ready],
    )
    checks = (
        sa.select(sa.func.count())
        .where(_B.target_id == _T.id, _B.kind.in_(_CHECKS))
        .correlate(t.target)
        .scalar_subquery()
    )
    connection.execute(
        sa.update(t.target)
        .where(_T.id.in_(ready))
        .values(check_state="checking", check_sequence=_T.sequence, open_checks=checks, verdict=None, verdict_at=None)
    )
    return len(ready)


def _forget(connection: sa.Connection, target_ids: Sequence[int]) -> None:
    connection.execute(sa.delete(t.finding).where(t.finding.c.target_id.in_(target_ids)))
    connection.execute(sa.delete(t.batch).where(_B.target_id.in_(target_ids), _B.kind.in_(_CHECKS)))


def again(connection: sa.Connection, target_ids: Sequence[int]) -> None:
    """These targets must be checked anew: a repair wrote, a verdict is void or stale, or a person asks."""
    if not target_ids:
        return
    _forget(connection, target_ids)
    connection.execute(
        sa.update(t.target)
        .where(_T.id.in_(target_ids))
        .values(check_state="waiting", open_checks=0, verdict=None, verdict_at=None)
    )
    touched = sa.select(t.move_target.c.move_id).where(t.move_target.c.target_id.in_(target_ids))
    connection.execute(
        sa.update(t.move)
        .where(t.move.c.id.in_(touched), t.move.c.state.in_((MoveState.VERIFIED, MoveState.MISMATCHED)))
        .values(state=MoveState.COPIED, reason=None)
    )


def finish(
    connection: sa.Connection,
    lease: Lease,
    found: dict[str, Any],
    findings: Sequence[Finding],
    usage: Usage,
    busy_ms: int,
) -> None:
    """What a check batch found, with up to `SAMPLE_IDS` ids of each kind. Raises Fenced."""
    assert lease.target_id is not None
    batches.settle(connection, lease, BatchState.DONE, usage, busy_ms, found=found, error_class=None, error_text=None)
    add_findings(connection, lease.target_id, lease.copy_id, findings)
    connection.execute(sa.update(t.target).where(_T.id == lease.target_id).values(open_checks=_T.open_checks - 1))


def add_findings(connection: sa.Connection, target_id: int, copy_id: int | None, findings: Sequence[Finding]) -> None:
    kept: list[Finding] = []
    for kind in sorted({finding.kind for finding in findings}):
        kept += [finding for finding in findings if finding.kind == kind][:SAMPLE_IDS]
    if kept:
        connection.execute(
            sa.insert(t.finding),
            [
                {"target_id": target_id, "copy_id": copy_id, "kind": finding.kind, "record_id": finding.record_id}
                for finding in kept
            ],
        )


def tally_of(connection: sa.Connection, copy_id: int, target_id: int) -> TargetTally:
    row = connection.execute(
        sa.select(t.batch_tally).where(_TALLY.batch_id == copy_id, _TALLY.target_id == target_id)
    ).one()
    return _tally(row)


def tallies_of(connection: sa.Connection, copy_id: int) -> list[TargetTally]:
    """What one copy batch left in each of its targets."""
    rows = connection.execute(sa.select(t.batch_tally).where(_TALLY.batch_id == copy_id).order_by(_TALLY.target_id))
    return [_tally(row) for row in rows]


def _tally(row: sa.Row[Any]) -> TargetTally:
    return TargetTally(
        row.target_id, row.records, int(row.digest), int(row.ids_digest), row.members, row.record_digests
    )


def written_page(
    connection: sa.Connection, move_id: int, after: int, limit: int
) -> list[tuple[int, bytes, bytes | None, int | None]]:
    """The next copy batches of a move: (batch, manifest, members, target); target None where it wrote nothing."""
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
    """What each target should hold, added up over all batches that wrote to it."""
    rows = connection.execute(
        sa.select(
            _TALLY.target_id,
            sa.func.sum(_TALLY.records).label("n"),
            (sa.func.sum(_TALLY.digest) % _MODULUS).label("digest"),
            (sa.func.sum(_TALLY.ids_digest) % _MODULUS).label("ids_digest"),
        )
        .where(_TALLY.target_id.in_(target_ids))
        .group_by(_TALLY.target_id)
    )
    return {
        row.target_id: TargetTally(row.target_id, int(row.n), int(row.digest), int(row.ids_digest), None)
        for row in rows
    }


def judgeable(connection: sa.Connection, job_id: int) -> list[Evidence]:
    """The evidence of every target whose last check batch has landed."""
    targets = moves.targets_of_job(connection, job_id, _T.check_state == "checking", _T.open_checks == 0)
    ids = [target.id for target in targets]
    if not ids:
        return []
    expected = expected_of(connection, ids)

    def figure(name: str, kind: BatchKind) -> Any:
        value = sa.cast(_B.found[name].astext, sa.Numeric)
        return sa.func.sum(value).filter(_B.kind == kind)

    figures = {
        row.target_id: row
        for row in connection.execute(
            sa.select(
                _B.target_id,
                sa.func.count().filter(_B.kind == BatchKind.SURVEY).label("surveys"),
                figure("count", BatchKind.VERIFY).label("counted"),
                (figure("digest", BatchKind.VERIFY) % _MODULUS).label("digest"),
                figure("count", BatchKind.SURVEY).label("listed"),
                figure("ids_digest", BatchKind.SURVEY).label("ids_digest"),
                # The reading back and the listing each find the same record missing.
                sa.func.greatest(figure("missing", BatchKind.VERIFY), figure("missing", BatchKind.SURVEY)).label(
                    "missing"
                ),
                sa.func.sum(sa.cast(_B.found["extra"].astext, sa.Integer)).label("extra"),
                sa.func.sum(sa.cast(_B.found["different"].astext, sa.Integer)).label("different"),
            )
            .where(_B.target_id.in_(ids), _B.kind.in_(_CHECKS), _B.state == BatchState.DONE)
            .group_by(_B.target_id)
        )
    }
    samples: dict[int, list[Finding]] = {}
    for row in connection.execute(
        sa.select(t.finding).where(t.finding.c.target_id.in_(ids)).order_by(t.finding.c.kind, t.finding.c.record_id)
    ):
        samples.setdefault(row.target_id, []).append(Finding(row.kind, row.record_id))
    nothing = TargetTally(0, 0, 0, 0, None)
    return [
        Evidence(
            target=target,
            expected=expected.get(target.id, nothing),
            found_count=int(figures[target.id].counted or 0),
            found_digest=int(figures[target.id].digest or 0),
            listed_count=_maybe_int(figures[target.id].listed),
            listed_ids_digest=_maybe_int(figures[target.id].ids_digest),
            surveys=figures[target.id].surveys,
            missing=int(figures[target.id].missing or 0),
            extra=int(figures[target.id].extra or 0),
            different=int(figures[target.id].different or 0),
            samples=tuple(samples.get(target.id, ())[:SAMPLE_IDS]),
        )
        for target in targets
        if target.id in figures
    ]


def _maybe_int(value: Any) -> int | None:
    return None if value is None else int(value)


def pronounce(connection: sa.Connection, target_id: int, check_state: str, verdict: dict[str, Any]) -> None:
    connection.execute(
        sa.update(t.target).where(_T.id == target_id).values(check_state=check_state, verdict=verdict, verdict_at=_NOW)
    )


def settle_moves(connection: sa.Connection, job_id: int) -> None:
    """A copied move is verified once each target it wrote to is; mismatched where one of them differs.

    A move that wrote nothing (an empty source, or all of it parked) is verified too: there is nothing to prove.
    """
    states = (
        sa.select(t.move_target.c.move_id)
        .join(t.target, _T.id == t.move_target.c.target_id)
        .where(t.move_target.c.move_id == t.move.c.id)
        .correlate(t.move)
    )
    differing = states.where(_T.check_state == "mismatched").exists()
    unverified = states.where(_T.check_state.not_in(("verified", "empty"))).exists()
    M = t.move.c
    copied = sa.and_(M.job_id == job_id, M.state == MoveState.COPIED)
    connection.execute(
        sa.update(t.move).where(copied, differing).values(state=MoveState.MISMATCHED, reason="its target differs")
    )
    connection.execute(sa.update(t.move).where(copied, ~unverified).values(state=MoveState.VERIFIED))


def void_targets(connection: sa.Connection, job_id: int) -> list[int]:
    """Targets that were written to after their verdict: it names an older write sequence."""
    judged = _T.check_state.in_(("verified", "mismatched", "empty"))
    rows = connection.execute(sa.select(_T.id).where(_T.job_id == job_id, judged, _T.sequence != _T.check_sequence))
    return [row.id for row in rows]


def counts_by_state(connection: sa.Connection, job_id: int) -> dict[str, int]:
    rows = connection.execute(
        sa.select(_T.check_state, sa.func.count().label("n")).where(_T.job_id == job_id).group_by(_T.check_state)
    )
    return {row.check_state: row.n for row in rows}


def differing_copies(connection: sa.Connection, job_id: int) -> list[int]:
    """The copy batches with a missing or different record at a mismatched target: what a repair copies again.

    Not where the target tells the truth: what differs there is newer.
    """
    rows = connection.execute(
        sa.select(_B.copy_id)
        .join(t.target, _T.id == _B.target_id)
        .where(_B.job_id == job_id, _B.kind == BatchKind.VERIFY, _B.state == BatchState.DONE)
        .where(_T.check_state == "mismatched", _T.authority == "source")
        .where(
            sa.or_(
                sa.cast(_B.found["missing"].astext, sa.Integer) > 0,
                sa.cast(_B.found["different"].astext, sa.Integer) > 0,
            )
        )
        .distinct()
    )
    return [row.copy_id for row in rows]


def manifest_stream(
    connection: sa.Connection, move_id: int, target_id: int, after: str | None, limit: int
) -> list[tuple[str, bytes, bytes | None]]:
    """The next copy batches of a move that wrote to a target, in id order: (first id, manifest, members)."""
    query = (
        sa.select(_B.first_id, _B.manifest, _TALLY.members)
        .join(t.batch_tally, _TALLY.batch_id == _B.id)
        .where(_B.move_id == move_id, _B.kind == BatchKind.COPY, _TALLY.target_id == target_id)
        .order_by(_B.first_id)
        .limit(limit)
    )
    if after is not None:
        query = query.where(_B.first_id > after)
    return [(row.first_id, row.manifest, row.members) for row in connection.execute(query)]


def moves_into(connection: sa.Connection, target_id: int) -> list[tuple[int, str]]:
    """The moves that write to a target, each with the prefix its ids get there."""
    rows = connection.execute(
        sa.select(t.move.c.id, t.move.c.prefix)
        .join(t.move_target, t.move_target.c.move_id == t.move.c.id)
        .where(t.move_target.c.target_id == target_id)
    )
    return [(row.id, row.prefix) for row in rows]


def expected_ids_of(connection: sa.Connection, target_id: int) -> Tally:
    """The ids that were written to a target, as a tally."""
    tally = expected_of(connection, [target_id]).get(target_id)
    return Tally(tally.count, tally.ids_digest) if tally else Tally()
