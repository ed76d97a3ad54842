"""Parked records and batches, set aside with their reason until a person retries them or lets them stay behind."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from orchestrator.core import confirming, manifests
from orchestrator.core.reading import ParkedGroup
from orchestrator.core.states import CLEANING, COPYING, BatchKind, BatchState, MoveState
from orchestrator.ledger import copies, transitions
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import NOW, among
from vecfleet.enriching import HELD_ALREADY

_P, _B, _M, _T = t.parked_record.c, t.batch.c, t.move.c, t.target.c
_DIFFERING = "'[^']*'|[0-9]+([.,][0-9]+)*"  # in a reason: a quoted word, a number
LOOKED_AT = 10_000  # parked records, and batches, whose reasons are grouped: a look takes milliseconds, not seconds
_ANEW = transitions.batch_anew(answered_at=None).where(_B.state == BatchState.PARKED)


@dataclass(frozen=True, slots=True)
class Parked:
    record_id: str
    source: str
    reason: str
    accepted_by: str | None
    accepted_at: datetime | None

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.record_id,
            "source": self.source,
            "reason": self.reason,
            "accepted_by": self.accepted_by,
        }


@dataclass(frozen=True, slots=True)
class ParkedBatch:
    id: int
    kind: BatchKind
    source: str | None
    seq: int
    size: int
    error_class: str | None
    error_text: str | None
    attempts: int

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "kind": self.kind,
            "source": self.source,
            "batch": self.seq,
            "records": self.size,
            "error": self.error_class,
            "reason": self.error_text,
            "attempts": self.attempts,
        }


def records(connection: sa.Connection, job_id: int, limit: int | None = None) -> list[Parked]:
    """Return the job's parked records, also those left behind, in the order of its moves."""
    rows = connection.execute(
        sa.select(_P.record_id, _M.source, _P.reason, _P.accepted_by, _P.accepted_at)
        .join(t.move, _M.id == _P.move_id)
        .where(_P.job_id == job_id)
        .order_by(_M.seq, _P.record_id)
        .limit(limit)
    )
    return [Parked(*row) for row in rows]


def count(connection: sa.Connection, job_id: int) -> int:
    """Count the job's parked records, also those left behind."""
    number: int = connection.execute(sa.select(sa.func.count()).where(_P.job_id == job_id)).scalar_one()
    return number


def groups(connection: sa.Connection, job_id: int) -> list[ParkedGroup]:
    """Return the parked and the left records and batches by reason, the most records first.

    Reasons that differ only in numbers and quoted words count as one. It looks at the first `LOOKED_AT` of each; if
    there may be more, the groups say `at_least`.
    """
    first_records = sa.select(
        sa.literal("record").label("kind"),
        _P.reason,
        _P.accepted_at.is_(None).label("undecided"),
        sa.literal(1).label("records"),
        _P.move_id,
    ).where(_P.job_id.between(job_id, job_id))
    first_batches = sa.select(
        _B.kind, sa.func.coalesce(_B.error_text, "").label("reason"), sa.true(), _B.size, _B.move_id
    ).where(_B.job_id.between(job_id, job_id), _B.state == BatchState.PARKED)
    # `between`, because for one job Postgres would sort by `id` alone, and read all jobs' rows in that order.
    looked_at = sa.union_all(
        first_records.order_by(_P.job_id, _P.id).limit(LOOKED_AT).subquery().select(),
        first_batches.order_by(_B.job_id, _B.id).limit(LOOKED_AT).subquery().select(),
    ).subquery()
    alike = sa.func.regexp_replace(looked_at.c.reason, _DIFFERING, "…", "g")
    first = sa.func.min(looked_at.c.reason)
    rows = connection.execute(
        sa.select(
            looked_at.c.kind,
            sa.case((first == sa.func.max(looked_at.c.reason), first), else_=sa.func.min(alike)),
            sa.func.count(),
            sa.func.count().filter(looked_at.c.undecided),
            sa.func.sum(looked_at.c.records),
            sa.func.count(looked_at.c.move_id.distinct()),
            sa.func.min(_M.source),
        )
        .outerjoin(t.move, _M.id == looked_at.c.move_id)
        .group_by(looked_at.c.kind, alike)
        .order_by(sa.func.sum(looked_at.c.records).desc(), sa.func.count().desc(), sa.func.min(looked_at.c.reason))
    )
    by_reason = [ParkedGroup(*row) for row in rows]
    counts = Counter[bool]()
    for group in by_reason:
        counts[group.of_records] += group.count
    return [replace(group, at_least=counts[group.of_records] >= LOOKED_AT) for group in by_reason]


def left_empty(connection: sa.Connection, job_id: int) -> dict[str, int]:
    """Return the targets that hold nothing although records meant for them were left behind, with their number."""
    left = sa.func.sum(_M.left_behind)
    rows = connection.execute(
        sa.select(_T.namespace, left)
        .join(t.move_target, t.move_target.c.target_id == _T.id)
        .join(t.move, _M.id == t.move_target.c.move_id)
        .where(_T.job_id == job_id, _T.check_state == "empty", _T.held_before == 0)
        .group_by(_T.namespace)
        .having(left > 0)
        .order_by(_T.namespace)
    )
    return {namespace: int(count) for namespace, count in rows}


def batches(connection: sa.Connection, job_id: int) -> list[ParkedBatch]:
    copied = t.batch.alias("copied")
    seq = sa.func.coalesce(copied.c.seq, _B.seq)
    rows = connection.execute(
        sa.select(_B.id, _B.kind, _M.source, seq, _B.size, _B.error_class, _B.error_text, _B.attempts)
        .outerjoin(t.move, _M.id == _B.move_id)
        .outerjoin(copied, copied.c.id == _B.copy_id)
        .where(_B.job_id == job_id, _B.state == BatchState.PARKED)
        .order_by(_B.id)
    )
    return [ParkedBatch(row[0], BatchKind(row[1]), *row[2:]) for row in rows]


def confirmations(connection: sa.Connection, job_id: int, reason: str | None) -> tuple[str, ...]:
    """Return the commands, not typed yet, that confirm what is missing by this reason and those of parked batches."""
    named = _B.error_text.like("%`vecfleet set % missing %`%")
    texts = connection.execute(
        sa.select(_B.error_text).distinct().where(_B.job_id == job_id, _B.state == BatchState.PARKED, named)
    ).scalars()
    wanted = confirming.numbers_in([*texts, *([reason] if reason else [])])
    if not wanted:
        return ()
    return confirming.confirmations(job_id, wanted, _said(connection, job_id))


def _said(connection: sa.Connection, job_id: int) -> dict[str | None, int]:
    """Return how many records a person allowed to be missing: by target, and for the job under None."""
    of_job = connection.execute(sa.select(t.job.c.missing_allowed).where(t.job.c.id == job_id)).scalar_one()
    of_targets = connection.execute(
        sa.select(_T.namespace, _T.missing_allowed).where(_T.job_id == job_id, _T.missing_allowed.is_not(None))
    )
    return {row.namespace: row.missing_allowed for row in of_targets} | ({} if of_job is None else {None: of_job})


def undecided(connection: sa.Connection, job_id: int) -> int:
    count: int = connection.execute(
        sa.select(sa.func.count()).where(_P.job_id == job_id, _P.accepted_at.is_(None))
    ).scalar_one()
    return count


def conflicting(connection: sa.Connection, job_id: int) -> int:
    """Count the undecided records that hold another value in a key that the plan adds: a retry parks them again."""
    count: int = connection.execute(
        sa.select(sa.func.count()).where(
            _P.job_id == job_id, _P.accepted_at.is_(None), _P.reason.endswith(HELD_ALREADY)
        )
    ).scalar_one()
    return count


def accept(connection: sa.Connection, job_id: int, who: str, record_ids: list[str] | None) -> Counter[int]:
    """Let these parked records (None: all) stay behind, and change the moves' counters. Return their number by move."""
    return _decide(connection, job_id, record_ids, stay=True, accepted_by=who, accepted_at=NOW)


def undo(connection: sa.Connection, job_id: int, record_ids: list[str] | None) -> Counter[int]:
    """Make left records (None: all of them) undecided again. Return their number by move."""
    return _decide(connection, job_id, record_ids, stay=False, accepted_by=None, accepted_at=None)


def _decide(
    connection: sa.Connection, job_id: int, record_ids: list[str] | None, *, stay: bool, **decision: Any
) -> Counter[int]:
    decided = _P.accepted_at.is_(None) if stay else _P.accepted_at.is_not(None)
    changing = sa.and_(_P.job_id == job_id, decided)
    if record_ids is not None:
        changing = sa.and_(changing, among(_P.record_id, record_ids))
    # Lock batches before their parked records and moves, as workers do.
    held = sa.select(_B.id).where(_B.id.in_(sa.select(_P.batch_id).where(changing))).order_by(_B.id)
    connection.execute(held.with_for_update(key_share=True)).all()
    rows = connection.execute(
        sa.update(t.parked_record).where(changing).values(**decision).returning(_P.move_id, _P.batch_id)
    ).all()
    for (move_id, batch_id), number in sorted(Counter((row.move_id, row.batch_id) for row in rows).items()):
        _shift(connection, move_id, batch_id, number if stay else -number)
    return Counter(row.move_id for row in rows)


def _shift(connection: sa.Connection, move_id: int, batch_id: int, count: int) -> None:
    results = connection.execute(sa.select(_B.found).where(_B.id == batch_id)).scalar_one()
    for counts in (results, results.get("before")):  # `before`: counts of a batch that was parked later
        if counts and "parked" in counts:
            counts |= {"parked": counts["parked"] - count, "left_behind": counts["left_behind"] + count}
    connection.execute(sa.update(t.batch).where(_B.id == batch_id).values(found=results))
    connection.execute(
        sa.update(t.move).where(_M.id == move_id).values(parked=_M.parked - count, left_behind=_M.left_behind + count)
    )


def retry_batches(connection: sa.Connection, job_id: int, parked: Sequence[ParkedBatch]) -> int:
    """Return exactly these parked batches to ready. Return their number."""
    count = copies.reopen(connection, job_id, [batch.id for batch in parked if batch.kind is BatchKind.COPY])
    others = [batch.id for batch in parked if batch.kind is not BatchKind.COPY]
    if others:
        count += connection.execute(_ANEW.where(among(_B.id, others))).rowcount
        moves = sa.select(_B.move_id).where(among(_B.id, others))
        for kinds, state in (
            ((BatchKind.LIST,), MoveState.LISTING),
            (CLEANING, MoveState.CLEANING),
        ):
            connection.execute(
                transitions.move_to(state, reason=None).where(
                    _M.id.in_(moves.where(_B.kind.in_(kinds))), _M.state == MoveState.PARKED
                )
            )
    return count


def ready_deletions(connection: sa.Connection, job_id: int) -> None:
    """Return parked batches of a clean-up to ready, so that they look first when the clean-up goes on.

    The states of their moves stay.
    """
    connection.execute(_ANEW.where(_B.job_id == job_id, _B.kind.in_(CLEANING)))


def retry_records(connection: sa.Connection, job_id: int) -> int:
    """Copy the batches of undecided parked records again. Return the number of batches."""
    rows = connection.execute(sa.select(_P.batch_id).where(_P.job_id == job_id, _P.accepted_at.is_(None)).distinct())
    return copies.reopen(connection, job_id, [row.batch_id for row in rows], rewrite="parked")


def of_batch(connection: sa.Connection, batch_id: int) -> list[Parked]:
    """Return the parked records of a copy batch."""
    rows = connection.execute(
        sa.select(_P.record_id, _M.source, _P.reason, _P.accepted_by, _P.accepted_at)
        .join(t.move, _M.id == _P.move_id)
        .where(_P.batch_id == batch_id)
    )
    return [Parked(*row) for row in rows]


def set_aside(connection: sa.Connection, move_id: int, record_ids: Sequence[str]) -> set[str]:
    """Return those of the source ids whose records are parked or left behind."""
    rows = connection.execute(sa.select(_P.record_id).where(_P.move_id == move_id, among(_P.record_id, record_ids)))
    return set(rows.scalars())


def accept_batches(connection: sa.Connection, job_id: int, who: str, batch_ids: list[int] | None) -> Counter[int]:
    """Let the records of these parked copy batches (None: all) stay behind. Return the number of records by move.

    Each becomes a parked record that was decided, so that a clean-up leaves exactly these records. The batch may have
    written some of them before it was parked. Nobody knows which, so a rollback looks for each at the target.
    """
    parked = sa.and_(_B.job_id == job_id, _B.kind == BatchKind.COPY, _B.state == BatchState.PARKED)
    if batch_ids is not None:
        parked = sa.and_(parked, among(_B.id, batch_ids))
    columns = (_B.id, _B.move_id, _B.size, _B.manifest, _B.error_text, _B.found)
    left_behind: Counter[int] = Counter()
    for batch in connection.execute(sa.select(*columns).where(parked).order_by(_B.id).with_for_update()).all():
        rows = [
            {
                "job_id": job_id,
                "move_id": batch.move_id,
                "batch_id": batch.id,
                "record_id": record_id,
                "reason": f"its batch: {batch.error_text}",
                "accepted_by": who,
                "accepted_at": NOW,
            }
            for record_id in manifests.unpack(batch.manifest)
        ]
        copies.take_back(connection, batch.id)  # the records of an earlier copy
        connection.execute(insert(t.parked_record).values(rows))
        results = {"parked": 0, "left_behind": batch.size, "accepted": True}
        connection.execute(transitions.batch_to(BatchState.DONE, found=results).where(_B.id == batch.id))
        connection.execute(
            sa.update(t.move)
            .where(_M.id == batch.move_id)
            .values(parked=_M.parked - batch.found["parked"], left_behind=_M.left_behind + batch.found["parked"])
        )
        _settle_accepted(connection, batch.move_id)
        left_behind[batch.move_id] += batch.size
    return left_behind


def _settle_accepted(connection: sa.Connection, move_id: int) -> None:
    """Mark a move as copied once its last parked batch is decided."""
    undecided = sa.select(_B.id).where(_B.move_id == move_id, _B.state == BatchState.PARKED, _B.kind.in_(COPYING))
    connection.execute(
        transitions.move_to(MoveState.COPIED, reason=None)
        .where(_M.id == move_id, _M.state == MoveState.PARKED, _M.listed_all, _M.open_batches == 0)
        .where(~undecided.exists())
    )
