"""Leases: take one in one statement, which also reads all that the work needs; shorten those of a dead process.

A wake-up names its batch. A worker that has quickly finished a batch also takes the next due one without a wake-up.

Every batch begins with this statement. It reads the move, the manifest and the target, so none of them is read again.
The job is read only if its row has changed.
"""

import socket
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from orchestrator.core.model import Lease
from orchestrator.core.states import BATCH_IN_FLIGHT, KINDS_OF, BatchKind, BatchState
from orchestrator.ledger import batches, moves, transitions
from orchestrator.ledger import tables as t
from orchestrator.ledger.continuity import ON_A_KNOWN_SERVER
from orchestrator.ledger.database import NOW
from vecfleet import clock

_B, _M, _T = t.batch.c, t.move.c, t.target.c
_READ = (
    *(_B.id, _B.job_id, _B.move_id, _B.target_id, _B.copy_id, _B.kind, _B.seq, _B.generation, _B.attempts, _B.size),
    *(_B.listed_in, _B.copies, _B.rewrite, _B.manifest, _B.targets, _B.found, _B.intent_at, _B.answered_at),
)


def _named(part: str, columns: Any) -> list[Any]:
    return [column.label(f"{part}.{column.name}") for column in columns]


def _is(column: Any, value: str) -> Any:
    """Return the condition that the column equals one of our constants, which needs no parameter."""
    return column == sa.literal_column(f"'{value}'")


def _woken() -> list[Any]:
    """Return the conditions for the batch that a wake-up names, unless the wake-up is stale.

    A wake-up may be late: the dispatcher gave it up and sent another, while a worker held it back for Celery's rate
    limit. Refused, it would have been waited for in vain, and where each is late, no batch would ever begin. A wake-up
    of an earlier generation is therefore as good as the present one. It grants nothing, it is only the moment to ask:

    - The lease is of the row's own generation, which `RETURNING` gives to the fence. No older lease passes that.
    - Only a dispatched batch can be leased. It is due, and its job's window has room for it. The lease ends that state
      under the row's lock, and the way back to it raises the generation. So of all wake-ups of a batch, early, late or
      delivered twice, one is answered in a generation, and none while another worker holds the batch.

    A wake-up of a later generation is of commits that the job table has lost, and is refused.
    """
    return [_B.id == sa.bindparam("batch"), _B.generation >= sa.bindparam("of"), _is(_B.state, BatchState.DISPATCHED)]


def _next_due() -> list[Any]:
    """Return the conditions for the batch that the dispatcher would send first, if it is of these kinds and unlocked.

    The job's row is locked in share mode until the statement ends: a pause, a cancel or a decision comes before or
    after. A locked row is skipped, not waited for.
    """
    J = t.job.c
    live = (
        sa.select(J.id, J.state, J.batch_window)
        .where(J.id == sa.bindparam("job"), sa.func.coalesce(J.lands_by <= NOW, sa.true()))
        .with_for_update(read=True, skip_locked=True)
        .cte("live")
    )
    at_work = (
        sa.select(sa.func.count())
        .where(_B.job_id == sa.bindparam("job"), sa.or_(*(_is(_B.state, state) for state in sorted(BATCH_IN_FLIGHT))))
        .scalar_subquery()
    )
    # Find the batch by the job's number, not by a join: the index of ready batches then gives the first one alone.
    state, window = (sa.select(column).scalar_subquery() for column in (live.c.state, live.c.batch_window))
    due = (
        sa.select(_B.id)
        .where(_B.job_id == sa.bindparam("job"), _is(_B.state, BatchState.READY), _workable(state), at_work < window)
        .where(batches.DUE)
        .order_by(_B.seq, _B.id)
        .limit(1)
        .with_for_update(of=t.batch, skip_locked=True)
        .scalar_subquery()
    )
    return [_B.id == due, _B.kind == sa.any_(sa.bindparam("kinds", type_=ARRAY(sa.Text)))]


def _workable(state: Any) -> Any:
    """Return the condition that a job in this state allows work on a batch of this kind."""
    return sa.or_(
        *(
            sa.and_(_is(state, of), sa.or_(*(_is(_B.kind, kind) for kind in sorted(kinds))))
            for of, kinds in KINDS_OF.items()
        )
    )


_IN_ITS_HOURS = sa.func.coalesce(t.job.c.begins_until > NOW, sa.true())
"""A condition: the job has no maintenance window, or batches may begin now."""


def _taking(which: Sequence[Any]) -> sa.Select[Any]:
    """Return the statement that leases the batch for which the conditions hold, and reads all that its work needs."""
    # A batch of a move to one place writes only there: note the place here if it is on record. Any other target is
    # noted before its first upsert.
    place = (
        sa.select(sa.func.array_agg(t.move_target.c.target_id))
        .join(t.move, _M.id == t.move_target.c.move_id)
        .where(_M.id == _B.move_id, _M.to.is_not(None))
        .correlate(t.batch)
        .scalar_subquery()
    )
    taken = (
        transitions.batch_to(
            BatchState.LEASED,
            attempts=_B.attempts + 1,
            lease_owner=sa.bindparam("owner"),
            lease_until=NOW + sa.func.make_interval(0, 0, 0, 0, 0, 0, sa.bindparam("seconds")),
            first_leased_at=sa.func.coalesce(_B.first_leased_at, NOW),
            targets=sa.case((_is(_B.kind, BatchKind.COPY), sa.func.coalesce(_B.targets, place)), else_=_B.targets),
        )
        .where(*which, t.job.c.id == _B.job_id, _workable(t.job.c.state), _IN_ITS_HOURS, ON_A_KNOWN_SERVER)
        .returning(
            *_READ,
            sa.func.extract("epoch", NOW - _B.first_leased_at).label("age"),
            NOW.label("leased_at"),
            # After lost commits, transaction numbers are used again.
            sa.literal_column("job.xmin::text || coalesce(job.doubted_at::text, '')", sa.Text).label("job_version"),
        )
        .cte("taken")
    )
    copied = t.batch.alias("copied")
    own_place = sa.case((sa.and_(_is(taken.c.kind, BatchKind.COPY), _M.to.is_not(None)), taken.c.targets[1]))
    return sa.select(
        taken,
        copied.c.manifest.label("copied_manifest"),
        copied.c.seq.label("copied_seq"),
        *_named("move", t.move.c),
        *_named("target", t.target.c),
    ).select_from(
        taken.outerjoin(t.move, _M.id == taken.c.move_id)
        .outerjoin(copied, copied.c.id == taken.c.copy_id)
        .outerjoin(t.target, _T.id == sa.func.coalesce(taken.c.target_id, own_place))
    )


_TAKE, _TAKE_NEXT = _taking(_woken()), _taking(_next_due())
# Positions in a row: where the columns of the move begin, and after them the columns of the target.
_MOVES, _TARGETS = _M.keys(), _T.keys()
_MOVE_AT = len(_TAKE.selected_columns) - len(_MOVES) - len(_TARGETS)
_TARGET_AT = _MOVE_AT + len(_MOVES)


def lease(connection: sa.Connection, batch_id: int, generation: int, owner: str, seconds: float) -> Lease | None:
    """Lease the batch. None: the wake-up is stale, or the job allows no such work now."""
    return _take(connection, _TAKE, {"batch": batch_id, "of": generation}, owner, seconds)


def lease_next(
    connection: sa.Connection, job_id: int, kinds: Collection[BatchKind], owner: str, seconds: float
) -> Lease | None:
    """Lease the next due batch of a job if it is of these kinds; else None, and the dispatcher sends it."""
    return _take(connection, _TAKE_NEXT, {"job": job_id, "kinds": sorted(kinds)}, owner, seconds)


def _take(
    connection: sa.Connection, query: sa.Select[Any], which: dict[str, Any], owner: str, seconds: float
) -> Lease | None:
    asked = clock.now()
    row = connection.execute(query, {**which, "owner": owner, "seconds": seconds}).one_or_none()
    if row is None:
        return None
    move, target = (
        dict(zip(_MOVES, row[_MOVE_AT:_TARGET_AT], strict=True)),
        dict(zip(_TARGETS, row[_TARGET_AT:], strict=True)),
    )
    return Lease(
        id=row.id,
        job_id=row.job_id,
        move_id=row.move_id,
        target_id=row.target_id,
        copy_id=row.copy_id,
        kind=BatchKind(row.kind),
        seq=row.seq if row.copy_id is None else row.copied_seq,
        generation=row.generation,
        attempts=row.attempts,
        size=row.size,
        listed_in=row.listed_in,
        copies=tuple(row.copies or ()),
        rewrite=row.rewrite,
        manifest=row.manifest if row.copy_id is None else row.copied_manifest,
        targets=tuple(row.targets or ()),
        intended=row.intent_at is not None,
        answered_at=row.answered_at,
        age_seconds=float(row.age),
        until_monotonic=asked + seconds,
        leased_at=row.leased_at,
        job_version=row.job_version,
        move=None if move["id"] is None else moves.from_columns(move),
        target=None if target["id"] is None else moves.target_from_columns(target),
        found=row.found,
    )


def owner_of(pid: int) -> str:
    """Return the prefix of every lease owner's name in this process: the machine and the process."""
    return f"{socket.gethostname()}:{pid}:{_where_pids_count()}"


@cache
def _where_pids_count() -> str:
    """Return the kernel's boot id and its pid namespace, because two machines or containers may share a name and a pid.

    Empty if this is not Linux.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
        return f"{boot}.{Path('/proc/self/ns/pid').stat().st_ino}:"
    except OSError:
        return ""


def shorten(connection: sa.Connection, pid: int, deadline_seconds: float) -> int:
    """Shorten the leases of a dead process of this machine. Return how many now end sooner.

    They do not end at once: the service may work on the last request until its deadline. Safe to repeat.
    """
    soon = NOW + sa.func.make_interval(0, 0, 0, 0, 0, 0, deadline_seconds)
    its_own = _B.lease_owner.startswith(owner_of(pid), autoescape=True)
    return connection.execute(
        sa.update(t.batch).where(_B.state == BatchState.LEASED, its_own, _B.lease_until > soon).values(lease_until=soon)
    ).rowcount
