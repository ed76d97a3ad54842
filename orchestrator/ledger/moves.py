"""Moves and targets: the state of each source namespace, and the namespaces that its records go to."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert

from migrations.routing import Owner
from orchestrator.core.model import Job, Lease, Move, Target
from orchestrator.core.states import COPYING, MOVE_EDGES, BatchKind, BatchState, MoveState
from orchestrator.ledger import batches, erasures, jobs, transitions
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import NOW, among
from vecfleet.digests import Tally
from vecfleet.errors import BadInput

_M = t.move.c
_NOTHING = Tally()


def get(connection: sa.Connection, move_id: int) -> Move:
    return from_row(connection.execute(sa.select(t.move).where(_M.id == move_id)).one())


def of_job(connection: sa.Connection, job_id: int, states: Sequence[MoveState] | None = None) -> list[Move]:
    query = sa.select(t.move).where(_M.job_id == job_id).order_by(_M.seq)
    if states is not None:
        query = query.where(_M.state.in_(states))
    return [from_row(row) for row in connection.execute(query)]


def from_row(row: sa.Row[Any]) -> Move:
    return from_columns(dict(row._mapping))


def from_columns(columns: Mapping[str, Any]) -> Move:
    body = dict(columns)
    body["state"] = MoveState(body["state"])
    return Move(**body)


def counts_by_state(connection: sa.Connection, job_id: int) -> dict[MoveState, int]:
    rows = connection.execute(
        sa.select(_M.state, sa.func.count().label("n")).where(_M.job_id == job_id).group_by(_M.state)
    )
    return {MoveState(row.state): row.n for row in rows}


def advance(
    connection: sa.Connection,
    job_id: int,
    from_: MoveState,
    to: MoveState,
    *,
    where: Any = None,
    reason: str | None = None,
) -> int:
    """Take all moves of a job (if given, those for which `where` holds) along one edge. Return their number."""
    assert to in MOVE_EDGES[from_], f"no edge from {from_} to {to}"
    query = transitions.move_to(to, reason=reason).where(_M.job_id == job_id, _M.state == from_)
    return connection.execute(query if where is None else query.where(where)).rowcount


def start_listing(connection: sa.Connection, job_id: int) -> None:
    """Add the listing batch of every pending move."""
    connection.execute(
        sa.insert(t.batch).from_select(
            ["job_id", "move_id", "kind", "seq"],
            sa.select(_M.job_id, _M.id, sa.literal(str(BatchKind.LIST)), sa.literal(0)).where(
                _M.job_id == job_id, _M.state == MoveState.PENDING
            ),
        )
    )
    advance(connection, job_id, MoveState.PENDING, MoveState.LISTING)


_PARKED = (
    sa.select(t.batch.c.id)
    .where(t.batch.c.move_id == _M.id, t.batch.c.state == BatchState.PARKED, t.batch.c.kind.in_(COPYING))
    .correlate(t.move)
    .exists()
)
MAY_SETTLE = (_M.listed_all, _M.state.in_((MoveState.LISTING, MoveState.COPYING, MoveState.REPAIRING)))
"""Conditions: once its last batch is settled, the move has the state `SETTLED` with the reason `SETTLED_FOR`."""
SETTLED = sa.case((_PARKED, MoveState.PARKED), else_=MoveState.COPIED)
SETTLED_FOR = sa.case((_PARKED, "a batch is parked"), else_=None)


def settle_if_done(connection: sa.Connection, move_id: int) -> None:
    """Mark a move as copied once it is listed and its last batch is settled; as parked if a batch is parked."""
    settled = transitions.move_to(SETTLED, reason=SETTLED_FOR)
    connection.execute(settled.where(_M.id == move_id, _M.open_batches == 0, *MAY_SETTLE))


_ITS = {name: sa.bindparam(f"its_{name}", type_=t.target.c[name].type) for name in ("job_id", "namespace", "creator")}
_ITS |= {name: sa.bindparam(f"its_{name}", type_=t.target.c[name].type) for name in ("twin", "checks_ids")}


def _ensuring(if_there: Any = None) -> sa.Select[Any]:
    """Insert a target and its tie to a move unless the target exists, and only if `if_there` has a row."""
    its = sa.select(*_ITS.values())
    new = insert(t.target).from_select(list(_ITS), its if if_there is None else its.select_from(if_there))
    made = new.on_conflict_do_nothing().returning(t.target).cte("made")
    tied = (
        insert(t.move_target)
        .from_select(["move_id", "target_id"], sa.select(sa.bindparam("by_move", type_=sa.BigInteger), made.c.id))
        .on_conflict_do_nothing()
        .cte("tied")
    )
    return sa.select(made).add_cte(tied)


_ENSURE = _ensuring()


def _taking_planned() -> sa.Select[Any]:
    ensured = _ensuring(batches.LOCKED)
    made = ensured.selected_columns.id.table
    new = sa.select(made.c.id)
    noted = (
        sa.update(t.batch)
        .where(t.batch.c.id == sa.bindparam("batch"), new.exists())  # `new` has a row only if the lease is ours
        .values(
            targets=sa.func.array_append(
                sa.func.coalesce(t.batch.c.targets, sa.text("'{}'::bigint[]")), new.scalar_subquery()
            )
        )
        .cte("noted")
    )
    return ensured.add_cte(noted)


_TAKE_PLANNED = _taking_planned()


def take_planned_target(
    connection: sa.Connection, job: Job, move: Move, lease: Lease, owner: Owner | None
) -> Target | None:
    """Record the target of a move to one place, also in the row of the move's first batch, in one statement.

    None: the target is on record already, or the lease is not ours any more; nothing changed. `apply` claimed the
    namespace. Every later batch gets the target with its lease.
    """
    assert move.to is not None, "a move to anywhere has no planned target"
    values = _target_values(job, move, move.to, owner) | batches.fence_of(lease)
    row = connection.execute(_TAKE_PLANNED, values).one_or_none()
    return None if row is None else _target(row)


def _target_values(job: Job, move: Move, namespace: str, owner: Owner | None) -> dict[str, Any]:
    return {
        "its_job_id": job.id,
        "its_namespace": namespace,
        "its_creator": owner.creator if owner else None,
        "its_twin": owner.twin if owner else None,
        "its_checks_ids": job.plan.may_share(namespace),
        "by_move": move.id,
    }


def ensure_target(connection: sa.Connection, job: Job, move: Move, namespace: str, owner: Owner | None) -> Target:
    """Return the target row for a namespace, claimed for this job and tied to the move. Safe to repeat and to race.

    Raises Refused if another live job holds the namespace.
    """
    if namespace != move.to:  # a planned target is claimed by `apply`
        jobs.claim(connection, job.id, job.target.host, [namespace], "target")
    row = connection.execute(_ENSURE, _target_values(job, move, namespace, owner)).one_or_none()
    if row is None:  # another move, or another batch of this move, was first
        row = connection.execute(
            sa.select(t.target).where(t.target.c.job_id == job.id, t.target.c.namespace == namespace)
        ).one()
        connection.execute(insert(t.move_target).values(move_id=move.id, target_id=row.id).on_conflict_do_nothing())
    return _target(row)


def allow_missing(connection: sa.Connection, job_id: int, namespace: str, count: int) -> None:
    """Allow `count` records written to this target to be missing. Raises BadInput if the job wrote nothing there."""
    its = sa.and_(t.target.c.job_id == job_id, t.target.c.namespace == namespace)
    if not connection.execute(sa.update(t.target).where(its).values(missing_allowed=count)).rowcount:
        raise BadInput(
            f"{namespace!r} is no target of job {job_id}", next_step=f"`vecfleet status {job_id} --limit 50` names them"
        )


def tied_targets(connection: sa.Connection, move_id: int, namespaces: Sequence[str]) -> dict[str, Target]:
    """Return those targets of the move among these namespaces that are on record."""
    rows = connection.execute(
        sa.select(t.target)
        .join(t.move_target, t.move_target.c.target_id == t.target.c.id)
        .where(t.move_target.c.move_id == move_id, among(t.target.c.namespace, namespaces))
    )
    return {row.namespace: _target(row) for row in rows}


def _target(row: sa.Row[Any]) -> Target:
    return target_from_columns(dict(row._mapping))


def target_from_columns(columns: Mapping[str, Any]) -> Target:
    return Target(**{**columns, "held_before_digest": int(columns["held_before_digest"])})


def target(connection: sa.Connection, target_id: int) -> Target:
    return _target(connection.execute(sa.select(t.target).where(t.target.c.id == target_id)).one())


def targets_of_job(connection: sa.Connection, job_id: int, *where: Any) -> list[Target]:
    """Return the job's targets (those for which `where` holds), by name."""
    query = sa.select(t.target).where(t.target.c.job_id == job_id, *where)
    rows = connection.execute(query.order_by(t.target.c.namespace))
    return [_target(row) for row in rows]


def targets_of_batch(connection: sa.Connection, copy_id: int) -> list[Target]:
    """Return the targets that a copy batch may have written to."""
    noted = sa.select(sa.func.unnest(t.batch.c.targets)).where(t.batch.c.id == copy_id)
    rows = connection.execute(sa.select(t.target).where(t.target.c.id.in_(noted)).order_by(t.target.c.id))
    return [_target(row) for row in rows]


def taken(connection: sa.Connection, target_id: int, record_ids: Sequence[str], move_id: int | None = None) -> set[str]:
    """Return the ids of a target that some move (or this one) claimed."""
    query = sa.select(t.target_id.c.record_id).where(
        t.target_id.c.target_id == target_id, among(t.target_id.c.record_id, record_ids)
    )
    mine = t.target_id.c.move_id.is_not(None) if move_id is None else t.target_id.c.move_id == move_id
    return set(connection.execute(query.where(mine)).scalars())


_PREPARE = (
    sa.update(t.target)
    .where(t.target.c.id == sa.bindparam("of_target"))
    .values(prepared=True, created_by_us=sa.or_(t.target.c.created_by_us, sa.bindparam("created", type_=sa.Boolean)))
    .returning(t.target)
)


_ERASED = sa.select(erasures.FENCED.cte("erased").c.subject).exists()
_MAY_PREPARE = sa.select(sa.select(batches.LOCKED.c.id).exists(), _ERASED)
_PREPARE_UNLESS_ERASED = _PREPARE.where(~_ERASED)


def may_prepare(connection: sa.Connection, lease: Lease, subjects: Collection[str]) -> bool:
    """Say in one statement whether none of them was erased. Misses what `begin_write` misses. Raises LeaseLost."""
    values = batches.fence_of(lease) | {"wanted": sorted(subjects)}
    held, erased = connection.execute(_MAY_PREPARE, values).one()
    if not held:
        raise batches.LeaseLost
    return not erased


def prepared_unless_erased(connection: sa.Connection, target_id: int, subjects: Collection[str]) -> Target | None:
    """Record that we created the target's namespace; None, and nothing recorded, if a subject was erased meanwhile."""
    values = {"of_target": target_id, "created": True, "wanted": sorted(subjects)}
    row = connection.execute(_PREPARE_UNLESS_ERASED, values).one_or_none()
    return None if row is None else _target(row)


def prepared(connection: sa.Connection, target_id: int, *, created_by_us: bool, held: Tally = _NOTHING) -> Target:
    """Record that the target's namespace exists, and what it held before the job. The first call counts.

    A second caller may have listed records that the first has written since. If ids are claimed before they are
    written, the second caller can tell these apart. If the first caller found the namespace empty, the second one's
    notes are deleted.
    """
    if not held.count:
        return _target(connection.execute(_PREPARE, {"of_target": target_id, "created": created_by_us}).one())
    first = connection.execute(sa.select(t.target).where(t.target.c.id == target_id).with_for_update()).one()
    values: dict[str, Any] = {"prepared": True, "created_by_us": first.created_by_us or created_by_us}
    if not first.prepared and held.count:
        values |= {"checks_ids": True, "held_before": held.count, "held_before_digest": held.digest}
    elif first.prepared and held.count and not first.held_before:
        connection.execute(
            sa.delete(t.target_id).where(t.target_id.c.target_id == target_id, t.target_id.c.move_id.is_(None))
        )
    connection.execute(sa.update(t.target).where(t.target.c.id == target_id).values(**values))
    return target(connection, target_id)


def raise_sequence(connection: sa.Connection, target_ids: Sequence[int]) -> None:
    """Raise the write sequence, before every upsert and removal. This voids verdicts on an older sequence."""
    connection.execute(
        sa.update(t.target)
        .where(among(t.target.c.id, sorted(target_ids)))
        .values(sequence=t.target.c.sequence + 1, last_write_at=NOW)
    )


def note_landing(connection: sa.Connection, target_id: int, within_s: float) -> None:
    """Note an unanswered upsert to this target: it may still take effect, and show, within `within_s`.

    Safe to repeat.
    """
    lands_by = NOW + sa.func.make_interval(0, 0, 0, 0, 0, 0, within_s)
    connection.execute(
        sa.update(t.target)
        .where(t.target.c.id == target_id)
        .values(lands_by=sa.func.greatest(t.target.c.lands_by, lands_by))
    )


def hand_authority(connection: sa.Connection, job_id: int, namespaces: Sequence[str]) -> None:
    """Make these targets authoritative for good: an application may write records there that are nowhere else.

    Runs in the transaction that moves the readers; its guard saw a valid verdict on every target.
    """
    connection.execute(
        sa.update(t.target)
        .where(t.target.c.job_id == job_id, among(t.target.c.namespace, namespaces))
        .values(authority="target")
    )


def note_targets(connection: sa.Connection, lease: Lease, target_ids: Sequence[int]) -> None:
    """Note in the batch's row the targets that the batch may write to. Call this before its first upsert."""
    connection.execute(
        sa.update(t.batch).where(t.batch.c.id == lease.id).values(targets=sorted({*lease.targets, *target_ids}))
    )


def claim_ids(
    connection: sa.Connection, target_id: int, move_id: int, digests: Sequence[tuple[str, int]]
) -> dict[str, int | None]:
    """Claim ids of a target that several moves write to. Return the ids that are not ours: id → digest.

    Commit this before the upsert, so that a repeated batch knows its own ids after a crash. The primary key decides a
    race of two batches for one id. The digest of an own id is updated, because writers may have changed the record
    since the last pass, and other moves compare with the digest. The rows are sorted so that two transactions cannot
    wait for each other.
    """
    ordered = sorted(digests)
    claim = insert(t.target_id).values(
        [
            {"target_id": target_id, "record_id": record_id, "move_id": move_id, "digest": digest}
            for record_id, digest in ordered
        ]
    )
    connection.execute(
        claim.on_conflict_do_update(
            index_elements=[t.target_id.c.target_id, t.target_id.c.record_id],
            set_={"digest": claim.excluded.digest},
            where=sa.and_(
                t.target_id.c.move_id == move_id, t.target_id.c.digest.is_distinct_from(claim.excluded.digest)
            ),
        )
    )
    held = connection.execute(
        sa.select(t.target_id.c.record_id, t.target_id.c.digest)
        .where(t.target_id.c.target_id == target_id)
        .where(among(t.target_id.c.record_id, [record_id for record_id, _ in ordered]))
        .where(t.target_id.c.move_id.is_distinct_from(move_id))
    )
    return {row.record_id: None if row.digest is None else int(row.digest) for row in held}


def release_ids(connection: sa.Connection, target_id: int, move_id: int, record_ids: Sequence[str]) -> None:
    """Release a move's ids in a target whose records are gone: another move may claim them. Safe to repeat."""
    connection.execute(
        sa.delete(t.target_id).where(
            t.target_id.c.target_id == target_id,
            t.target_id.c.move_id == move_id,
            among(t.target_id.c.record_id, record_ids),
        )
    )


def note_held_before(connection: sa.Connection, target_id: int, record_ids: Sequence[str]) -> int:
    """Note ids that the target held before. An id that a move has claimed meanwhile stays that move's. Safe to repeat.

    Return how many ids were not on record yet.
    """
    ids = sa.func.unnest(sa.cast(list(record_ids), ARRAY(sa.Text))).column_valued("record_id")
    rows = insert(t.target_id).from_select(["target_id", "record_id"], sa.select(sa.literal(target_id), ids))
    return len(connection.execute(rows.on_conflict_do_nothing().returning(t.target_id.c.record_id)).all())


def held_before(connection: sa.Connection, target_id: int, after: str | None, limit: int) -> list[str]:
    """Return the next ids, in byte order, that the target held before the job."""
    column = t.target_id.c.record_id
    query = (
        sa.select(column)
        .where(t.target_id.c.target_id == target_id, t.target_id.c.move_id.is_(None))
        .order_by(column)
        .limit(limit)
    )
    return list(connection.execute(query if after is None else query.where(column > after)).scalars())
