"""The lease queue: batches become ready, are dispatched, leased by one worker at a time, and settled behind a fence.

The fence is state and generation: a batch's generation rises each time it returns to ready, and it is leased at most
once per generation. A worker that lost its lease (frozen, cut off) finds the fence shut and records nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from orchestrator.core.model import Deletion, Lease, Wakeup
from orchestrator.core.states import BATCH_IN_FLIGHT, BATCH_OPEN, KINDS_OF, BatchKind, BatchState
from orchestrator.ledger import erasures, transitions
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import NOW, among, among_pairs
from vecfleet.stores.base import Usage

_B = t.batch.c
DUE = sa.func.coalesce(sa.func.greatest(_B.run_after, _B.lands_by) <= NOW, sa.true())
"""A condition: the batch's wait is over, and no deletion of the batch can still be under way."""

_TARGET_LAG = sa.select(t.job.c.target_lag_s).where(t.job.c.id == t.target.c.job_id).scalar_subquery()
_SHOWN = (t.move.c.source, t.move.c.batches, t.move.c.listed_all)
_COSTS = ("requests", "read_units", "write_units", "egress_bytes", "busy_ms")


class LeaseLost(Exception):
    """The lease is not ours any more: another worker records the result."""


def interval(column_or_value: Any) -> Any:
    return sa.func.make_interval(0, 0, 0, 0, 0, 0, column_or_value)


def dispatch(connection: sa.Connection, job_id: int) -> tuple[list[Wakeup], int]:
    """Mark due batches as dispatched, as many as the job's window has room for, the lowest ordinal first.

    Return their wake-ups and the number of batches in flight now.

    This order is fair: the fiftieth batch of a big namespace waits for the forty-ninth batch of every other one. A
    recheck has its namespace's ordinal, but its wake-up shows the ordinal of the batch that it reads again. No batch is
    due while calls from lost commits may still take effect.

    The job's row is locked in share mode until the transaction ends: a pause or a cancel comes before, and nothing is
    sent, or after, and recalls what was sent.
    """
    J = t.job.c
    count = sa.select(sa.func.count()).where(_B.job_id == job_id, _B.state.in_(sorted(BATCH_IN_FLIGHT)))
    in_flight = count.scalar_subquery().label("in_flight")
    columns = J.state, J.batch_window, J.traceparent, (J.lands_by > NOW).label("waits"), in_flight
    job = connection.execute(sa.select(*columns).where(J.id == job_id).with_for_update(read=True)).one()
    kinds = KINDS_OF.get(job.state, frozenset())
    room = job.batch_window - job.in_flight
    if room <= 0 or not kinds or job.waits:
        return [], job.in_flight
    due = (
        sa.select(_B.id)
        .where(_B.job_id == job_id, _B.state == BatchState.READY, _B.kind.in_(sorted(kinds)))
        .where(DUE)
        .order_by(_B.seq, _B.id)
        .limit(room)
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    picked = (
        transitions.batch_to(BatchState.DISPATCHED, dispatched_at=NOW)
        .where(_B.id == due.c.id)
        .returning(_B.id, _B.generation, _B.kind, _B.job_id, _B.move_id, _B.target_id, _B.copy_id, _B.seq)
        .cte("picked")
    )
    copied = t.batch.alias("copied")
    rows = connection.execute(
        sa.select(picked, copied.c.seq.label("of_copy"), *_SHOWN, t.target.c.namespace)
        .select_from(
            picked.outerjoin(t.move, t.move.c.id == picked.c.move_id)
            .outerjoin(t.target, t.target.c.id == picked.c.target_id)
            .outerjoin(copied, copied.c.id == picked.c.copy_id)
        )
        .order_by(picked.c.seq, picked.c.id)
    ).all()
    wakeups = [
        Wakeup(
            batch_id=row.id,
            generation=row.generation,
            kind=BatchKind(row.kind),
            job_id=row.job_id,
            namespace=row.namespace or row.source,
            seq=row.seq if row.of_copy is None else row.of_copy,
            of=row.batches if row.target_id is None else 0,
            listed_all=row.target_id is not None or row.listed_all,
            traceparent=job.traceparent,
        )
        for row in rows
    ]
    return wakeups, job.in_flight + len(wakeups)


def renew(
    connection: sa.Connection, held: Sequence[tuple[int, int]], owner: str, seconds: float
) -> set[tuple[int, int]]:
    """Extend the leases that this process holds, each a batch and its generation. Return the leases it still owns."""
    rows = connection.execute(
        sa.update(t.batch)
        .where(among_pairs(_B.id, _B.generation, held), _B.lease_owner == owner, _B.state == BatchState.LEASED)
        .values(lease_until=NOW + interval(seconds))
        .returning(_B.id, _B.generation)
    )
    return {(row.id, row.generation) for row in rows}


_LEASE_IS_OURS = sa.and_(
    _B.id == sa.bindparam("batch"), _B.generation == sa.bindparam("of"), _B.state == BatchState.LEASED.value
)


def fence_of(lease: Lease) -> dict[str, Any]:
    """Return the parameters of `LOCKED`: the batch and the generation of the lease."""
    return {"batch": lease.id, "of": lease.generation}


_COST = {
    "requests": _B.requests + sa.bindparam("cost_requests", type_=sa.Integer),
    "read_units": _B.read_units + sa.bindparam("cost_read_units", type_=sa.Double),
    "write_units": _B.write_units + sa.bindparam("cost_write_units", type_=sa.Double),
    "egress_bytes": _B.egress_bytes + sa.bindparam("cost_egress_bytes", type_=sa.BigInteger),
    "busy_ms": _B.busy_ms + sa.bindparam("cost_busy_ms", type_=sa.BigInteger),
}
_LET_GO = {"lease_owner": None, "lease_until": None, **_COST}
DONE = (
    transitions.batch_to(
        BatchState.DONE,
        **_LET_GO,
        done_at=NOW,
        found=sa.bindparam("its_found", type_=t.batch.c.found.type),
        error_class=None,
        error_text=None,
        lands_by=None,
        looked_at=sa.bindparam("its_look", type_=sa.DateTime(timezone=True)),
    )
    .where(_LEASE_IS_OURS)
    .returning(_B.id)
)
_LOCK = sa.select(_B.id).where(_LEASE_IS_OURS).with_for_update(key_share=True)
LOCKED = _LOCK.cte("held")
"""The locked row of a batch whose lease is ours, for statements that depend on it. `fence_of` gives its parameters."""


def _raising() -> sa.Select[bool, bool, bool]:
    erased = erasures.FENCED.cte("erased")
    held, erasing = sa.select(LOCKED.c.id), sa.select(erased.c.subject)
    raised = (
        sa.update(t.target)
        .where(t.target.c.id == sa.bindparam("target"), t.target.c.authority == "source")
        .where(held.exists(), ~erasing.exists())
        .values(sequence=t.target.c.sequence + 1, last_write_at=NOW)
        .returning(t.target.c.id)
        .cte("raised")
    )
    return sa.select(
        held.exists().label("held"), erasing.exists().label("erased"), sa.select(raised.c.id).exists().label("raised")
    )


_RAISE = _raising()


def _cost(usage: Usage, busy_ms: int) -> dict[str, Any]:
    return {
        "cost_requests": usage.requests,
        "cost_read_units": usage.read_units,
        "cost_write_units": usage.write_units,
        "cost_egress_bytes": usage.egress_bytes,
        "cost_busy_ms": busy_ms,
    }


def ending(lease: Lease, found: Mapping[str, Any], usage: Usage, busy_ms: int) -> dict[str, Any]:
    """Return the parameters of `DONE`."""
    return {**fence_of(lease), **_cost(usage, busy_ms), "its_found": found, "its_look": lease.leased_at}


def done(connection: sa.Connection, lease: Lease, found: Mapping[str, Any], usage: Usage, busy_ms: int) -> None:
    """Record that the batch's work is done: leave the leased state through the fence. Raises LeaseLost."""
    if connection.execute(DONE, ending(lease, found, usage, busy_ms)).one_or_none() is None:
        raise LeaseLost


def settle(
    connection: sa.Connection, lease: Lease, state: BatchState, usage: Usage, busy_ms: int, **values: Any
) -> None:
    """Leave the leased state through the fence and add the attempt's cost. Raises LeaseLost."""
    done_at = NOW if state is BatchState.DONE else None
    left = transitions.batch_to(state, **_LET_GO, done_at=done_at, **values).where(_LEASE_IS_OURS).returning(_B.id)
    if connection.execute(left, {**fence_of(lease), **_cost(usage, busy_ms)}).one_or_none() is None:
        raise LeaseLost


def require(connection: sa.Connection, lease: Lease) -> None:
    """Raise LeaseLost unless the lease is still ours. Lock the row: nobody takes the batch before this commits."""
    if connection.execute(_LOCK, fence_of(lease)).one_or_none() is None:
        raise LeaseLost


def exists(connection: sa.Connection, batch_id: int) -> bool:
    return bool(connection.execute(sa.select(sa.select(_B.id).where(_B.id == batch_id).exists())).scalar_one())


def size_of(connection: sa.Connection, batch_id: int) -> int:
    """Return how many ids the manifest names now. An erasure may have removed some."""
    size: int = connection.execute(sa.select(_B.size).where(_B.id == batch_id)).scalar_one()
    return size


def begin_write(connection: sa.Connection, lease: Lease, target_id: int, subjects: Collection[str]) -> bool:
    """Raise the target's write sequence before an upsert if the lease is ours and no subject was erased.

    Return whether the sequence was raised: False means that a subject was erased.

    An erasure that commits after this one statement began is missed here. That is safe: the erasure then looks for
    leases, finds this one and waits for its end.
    Raises LeaseLost, also if readers were moved to the target since the batch was leased.
    """
    row = connection.execute(_RAISE, {**fence_of(lease), "target": target_id, "wanted": sorted(subjects)}).one()
    if not row.raised and not (row.held and row.erased):
        raise LeaseLost
    return bool(row.raised)


def requeue(
    connection: sa.Connection,
    lease: Lease,
    *,
    after_seconds: float,
    error_class: str,
    error_text: str,
    usage: Usage,
    busy_ms: int,
    spend_attempt: bool,
    deletion: Deletion = Deletion.UNSENT,
    lands_within_s: float = 0.0,
) -> None:
    """Return the batch to ready after a wait. A wait for pace, freshness or an outage spends no attempt.

    A moment until which it was held back meanwhile stands, as it does once a lease expires.
    After an unanswered `deletion` the batch is not due until the deletion can no longer take effect: `lands_within_s`
    from now, because the call began after its intent was recorded.
    """
    called: dict[Deletion, dict[str, Any]] = {
        Deletion.UNSENT: {"lands_by": None},
        Deletion.ANSWERED: {"lands_by": None, "answered_at": NOW},
        Deletion.UNANSWERED: {"lands_by": sa.func.greatest(_B.lands_by, NOW + interval(lands_within_s))},
    }
    settle(
        connection,
        lease,
        BatchState.READY,
        usage,
        busy_ms,
        attempts=_B.attempts if spend_attempt else _B.attempts - 1,
        run_after=sa.func.greatest(_B.run_after, NOW + interval(after_seconds)),
        error_class=error_class,
        error_text=error_text,
        **called[deletion],
    )


def requeue_expired(connection: sa.Connection, job_ids: Sequence[int], limit: int) -> tuple[int, list[int]]:
    """Requeue batches whose lease expired. Return how many, and the ids of those that used up `limit` attempts."""
    expired = sa.and_(among(_B.job_id, job_ids), _B.state == BatchState.LEASED, _B.lease_until < NOW)
    columns = (_B.id, _B.kind, _B.attempts, _B.targets, _B.lease_until)
    # Lock batches before targets, as a worker does before it writes.
    rows = connection.execute(sa.select(*columns).where(expired).order_by(_B.id).with_for_update()).all()
    why = {"error_class": "LeaseExpired", "error_text": "its worker stopped answering"}
    again = transitions.batch_to(BatchState.READY, **why)
    connection.execute(again.where(among(_B.id, [row.id for row in rows])))
    note_last_landings(connection, rows)
    return len(rows), [row.id for row in rows if row.attempts >= limit]


def note_last_landings(connection: sa.Connection, leased: Sequence[Any]) -> None:
    """Record until when an upsert may still take effect if its copy batch lost its worker: until the lease ends.

    Reads show that upsert at most one lag of the target later. Call this in the transaction that requeues the batch.
    """
    written = [(id, row.lease_until) for row in leased if row.kind == BatchKind.COPY for id in row.targets or ()]
    for target, until in sorted(written):
        lands_by = sa.func.greatest(t.target.c.lands_by, sa.literal(until) + interval(_TARGET_LAG))
        connection.execute(sa.update(t.target).where(t.target.c.id == target).values(lands_by=lands_by))


def any_copy_leased(connection: sa.Connection, job_id: int) -> bool:
    """Say whether a worker may still copy for this job: a lease may be committed just as its job is cancelled."""
    held = sa.and_(_B.job_id == job_id, _B.kind == BatchKind.COPY, _B.state == BatchState.LEASED)
    lag = sa.select(t.job.c.target_lag_s).where(t.job.c.id == job_id).scalar_subquery()
    living = sa.select(_B.id).where(held, _B.lease_until + interval(lag) > NOW).exists()
    return bool(connection.execute(sa.select(living)).scalar_one())


def shows_by(batch: Any) -> Any:
    """Return the time by which a deletion of this batch has taken effect and, if it was answered, shows in reads."""
    lag = sa.select(t.job.c.source_lag_s).where(t.job.c.id == batch.c.job_id).scalar_subquery()
    return sa.func.greatest(batch.c.lands_by, batch.c.answered_at + interval(lag))


def any_landing(connection: sa.Connection, job_id: int) -> bool:
    """Say whether an unanswered deletion or upsert may still take effect."""
    deletion = sa.select(_B.id).where(_B.job_id == job_id, _B.lands_by > NOW)
    upsert = sa.select(t.target.c.id).where(t.target.c.job_id == job_id, t.target.c.lands_by > NOW)
    forgotten = sa.select(t.job.c.id).where(t.job.c.id == job_id, t.job.c.lands_by > NOW)
    any_of = sa.or_(deletion.exists(), upsert.exists(), forgotten.exists())
    return bool(connection.execute(sa.select(any_of)).scalar_one())


def overdue(connection: sa.Connection, job_ids: Sequence[int], after_seconds: float) -> bool:
    """Say whether a wake-up is older than `after_seconds` and no worker took its batch."""
    late = sa.and_(
        among(_B.job_id, job_ids),
        _B.state == BatchState.DISPATCHED,
        _B.dispatched_at < NOW - interval(after_seconds),
    )
    return bool(connection.execute(sa.select(sa.select(_B.id).where(late).exists())).scalar_one())


def sent(connection: sa.Connection, job_ids: Sequence[int], kinds: Collection[BatchKind]) -> int:
    """Return how many batches of these kinds wait for a worker to answer their wake-up."""
    waits = sa.and_(among(_B.job_id, job_ids), _B.state == BatchState.DISPATCHED, among(_B.kind, sorted(kinds)))
    return int(connection.execute(sa.select(sa.func.count()).where(waits)).scalar_one())


def resend(
    connection: sa.Connection, job_ids: Sequence[int], kinds: Collection[BatchKind], after_seconds: float
) -> int:
    """Return batches to ready that were dispatched over `after_seconds` ago: their wake-ups may be lost."""
    return connection.execute(
        transitions.batch_to(BatchState.READY)
        .where(among(_B.job_id, job_ids), _B.state == BatchState.DISPATCHED, among(_B.kind, sorted(kinds)))
        .where(_B.dispatched_at < NOW - interval(after_seconds))
    ).rowcount


def undispatch(connection: sa.Connection, wakeups: Sequence[Wakeup]) -> None:
    """Return batches to ready whose wake-ups could not be sent."""
    connection.execute(
        transitions.batch_to(BatchState.READY)
        .where(among_pairs(_B.id, _B.generation, [(wakeup.batch_id, wakeup.generation) for wakeup in wakeups]))
        .where(_B.state == BatchState.DISPATCHED)
    )


def open_by_kind(connection: sa.Connection, job_id: int) -> dict[tuple[BatchKind, BatchState], int]:
    """Count the unsettled and the parked batches by kind and state.

    Two queries, because each has its own index; one query would read all batches.
    """
    counted = sa.select(_B.kind, _B.state, sa.func.count().label("n")).group_by(_B.kind, _B.state)
    unsettled = counted.where(_B.job_id == job_id, _B.state.in_(sorted(BATCH_OPEN)))
    parked = counted.where(_B.job_id == job_id, _B.state == BatchState.PARKED)
    rows = connection.execute(sa.union_all(unsettled, parked))
    return {(BatchKind(row.kind), BatchState(row.state)): row.n for row in rows}


def is_copied(connection: sa.Connection, batch_id: int) -> bool:
    """Say whether the tallies cover all that the batch wrote: not those of a parked batch, accepted or not."""
    row = connection.execute(sa.select(_B.state, _B.found).where(_B.id == batch_id)).one()
    return row.state == BatchState.DONE and "accepted" not in (row.found or {})


def note_found(connection: sa.Connection, lease: Lease, found: dict[str, Any]) -> None:
    """Note the progress of a long step, for a next attempt to go on from. Raises LeaseLost."""
    require(connection, lease)
    connection.execute(sa.update(t.batch).where(_B.id == lease.id).values(found=found))


def discard(connection: sa.Connection, *where: Any) -> None:
    """Delete batches that will be added again. Their cost stays with the job."""
    gone = sa.delete(t.batch).where(*where).returning(t.batch).cte("gone")
    sums = {name: sa.func.sum(gone.c[name]) for name in _COSTS}
    columns = {
        "job_id": gone.c.job_id,
        "kind": gone.c.kind,
        **sums,
        "began": sa.func.min(gone.c.first_leased_at),
        "ended": sa.func.max(gone.c.done_at),
    }
    kept = insert(t.spent).from_select(list(columns), sa.select(*columns.values()).group_by(gone.c.job_id, gone.c.kind))
    new, old = kept.excluded, t.spent.c
    connection.execute(
        kept.on_conflict_do_update(
            index_elements=[old.job_id, old.kind],
            set_={name: old[name] + new[name] for name in _COSTS}
            | {"began": sa.func.least(old.began, new.began), "ended": sa.func.greatest(old.ended, new.ended)},
        )
    )
