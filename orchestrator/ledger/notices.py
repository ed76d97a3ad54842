"""Notices of changes of state: queued by triggers (`transitions`), taken by senders, gone once they are delivered.

A notice that is taken is due again after a while: its sender may die between the delivery and the record of it, and
then it is delivered twice under the same id.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from orchestrator.core.notices import HELD, MAX_ATTEMPTS, Notice, wait_s
from orchestrator.core.states import BatchState
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import NOW, among
from orchestrator.ledger.sides import index_of

_N, _R, _J, _M, _T, _B = t.notice.c, t.receiver.c, t.job.c, t.move.c, t.target.c, t.batch.c
_COUNTED = ("planned", "listed", "written", "parked", "left_behind", "deleted")


def subscribe(connection: sa.Connection, events: Mapping[str, Sequence[str]]) -> None:
    """Let these receivers, and no other, wait for their events from now on. What is queued for others goes."""
    connection.execute(sa.delete(t.receiver).where(~among(_R.name, events)))
    connection.execute(sa.delete(t.notice).where(~among(_N.receiver, events)))
    for name, wanted in events.items():
        proposal = insert(t.receiver).values(name=name, events=list(wanted))
        connection.execute(
            proposal.on_conflict_do_update(index_elements=[_R.name], set_={"events": proposal.excluded.events})
        )


@dataclass(frozen=True, slots=True)
class Queued:
    """A notice as it stands in the queue. `attempts` counts this one."""

    id: int
    delivery_id: str
    job_id: int
    machine: str
    subject_id: int
    was: str | None
    state: str
    at: datetime
    attempts: int


def take(connection: sa.Connection, receiver: str, seconds: float) -> Queued | None:
    """Take the oldest due notice for this receiver; it is due again after `seconds`. None if nothing is due.

    Notices about the same thing go in their order: one that waits for another attempt holds those behind it.
    """
    older = t.notice.alias()
    held = sa.select(older.c.id).where(
        older.c.receiver == _N.receiver,
        older.c.machine == _N.machine,
        older.c.subject_id == _N.subject_id,
        older.c.id < _N.id,
        older.c.due_at.is_not(None),
    )
    due = (
        sa.select(_N.id)
        .where(_N.receiver == receiver, _N.due_at <= NOW, ~held.exists())
        .order_by(_N.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = connection.execute(
        sa.update(t.notice)
        .where(_N.id == due.scalar_subquery())
        .values(attempts=_N.attempts + 1, due_at=_in(seconds))
        .returning(*(_N[name] for name in Queued.__dataclass_fields__))
    ).one_or_none()
    return None if row is None else Queued(**row._mapping)


def delivered(connection: sa.Connection, queued: Queued) -> None:
    """Remove a delivered notice. Safe to repeat."""
    connection.execute(sa.delete(t.notice).where(_N.id == queued.id))


def failed(connection: sa.Connection, queued: Queued, answer: str) -> bool:
    """Put a notice off, or give it up after its last attempt. Say whether it is given up.

    Does nothing if another sender took it meanwhile.
    """
    given_up = queued.attempts >= MAX_ATTEMPTS
    connection.execute(
        sa.update(t.notice)
        .where(_N.id == queued.id, _N.attempts == queued.attempts)
        .values(answer=answer, due_at=None if given_up else _in(wait_s(queued.attempts)))
    )
    return given_up


def again(connection: sa.Connection) -> int:
    """Make every waiting or given-up notice due now, with all its attempts. Return their number."""
    return connection.execute(sa.update(t.notice).values(due_at=NOW, attempts=0)).rowcount


@dataclass(frozen=True, slots=True)
class Waiting:
    """The queue of one receiver. `answer`: a last failure among what is queued."""

    receiver: str
    events: Sequence[str]
    waiting: int
    given_up: int
    oldest: datetime | None
    answer: str | None


def waiting(connection: sa.Connection) -> list[Waiting]:
    """Return every receiver with what is queued for it."""
    rows = connection.execute(
        sa.select(
            _R.name,
            _R.events,
            sa.func.count(_N.id).filter(_N.due_at.is_not(None)),
            sa.func.count(_N.id).filter(_N.due_at.is_(None), _N.id.is_not(None)),
            sa.func.min(_N.at),
            sa.func.min(_N.answer),
        )
        .outerjoin(t.notice, _N.receiver == _R.name)
        .group_by(_R.name)
        .order_by(_R.name)
    )
    return [Waiting(*row) for row in rows]


def read(connection: sa.Connection, queued: Queued) -> Notice:
    """Return what a notice says, with the names and counts of this moment: an erasure may have renamed a tenant."""
    job = connection.execute(
        sa.select(_J.state, _J.reason, index_of("source"), index_of("target")).where(_J.id == queued.job_id)
    ).one()
    namespace, counts, error = _subject(connection, queued)
    return Notice(
        delivery_id=queued.delivery_id,
        at=queued.at,
        machine=queued.machine,
        number=queued.subject_id,
        was=queued.was,
        state=queued.state,
        job=queued.job_id,
        job_state=job[0],
        reason=job[1] if queued.machine != "job" or queued.state in (job[0], HELD) else None,
        source=job[2],
        target=job[3],
        namespace=namespace,
        counts=counts,
        error=error if queued.state == BatchState.PARKED else None,
    )


def _subject(connection: sa.Connection, queued: Queued) -> tuple[str | None, dict[str, int], str | None]:
    """Return the namespace that a notice is about, its counts, and the last error of a batch."""
    query: sa.Select[Any]
    columns: tuple[sa.ColumnElement[Any], ...]
    match queued.machine:
        case "job":
            sums = [sa.func.coalesce(sa.func.sum(_M[name]), 0).label(name) for name in _COUNTED]
            columns = (sa.null().label("name"), sa.func.count().label("namespaces"), *sums)
            query = sa.select(*columns).where(_M.job_id == queued.job_id)
        case "move":
            columns = (_M.source.label("name"), *(_M[name] for name in _COUNTED))
            query = sa.select(*columns).where(_M.id == queued.subject_id)
        case "target":
            query = sa.select(_T.namespace.label("name")).where(_T.id == queued.subject_id)
        case _:
            places = t.batch.outerjoin(t.move, _M.id == _B.move_id).outerjoin(t.target, _T.id == _B.target_id)
            query = (
                sa.select(
                    sa.func.coalesce(_M.source, _T.namespace).label("name"),
                    _B.error_class.label("error"),
                    _B.size.label("records"),
                )
                .select_from(places)
                .where(_B.id == queued.subject_id)
            )
    row = connection.execute(query).one_or_none()
    if row is None:
        return None, {}, None  # `purge` took the batch
    counts = {str(name): int(value) for name, value in row._mapping.items() if name not in ("name", "error")}
    return row.name, counts, row._mapping.get("error")


def _in(seconds: float) -> Any:
    return NOW + sa.func.make_interval(0, 0, 0, 0, 0, 0, seconds)
