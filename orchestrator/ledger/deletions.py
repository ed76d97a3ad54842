"""Evidence for the deletion of a source: when the source was read and listed, and which wait applied.

The evidence is committed together with the intent to delete.

`UNTOUCHED` marks the copy batches that may be copied again: no deletion of their source records was sent. We deleted
the source records of other batches ourselves. A pass would take that for a deletion by the application, and would
remove the last copies from the targets.
"""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from orchestrator.core.freshness import last_permitted_write
from orchestrator.core.model import Job, Lease
from orchestrator.core.states import BatchKind, MoveState
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import NOW

_B, _D, _M = t.batch.c, t.deletion.c, t.move.c


@dataclass(frozen=True, slots=True)
class DeletionEvidence:
    """Times of the looks that the deletion of one source rests on. `None`: no such look, or not yet."""

    source: str
    clean_mode: str | None
    deleted: int
    last_write_at: datetime | None
    lag_s: float
    read_from: datetime | None
    read_to: datetime | None
    listed_at: datetime | None
    listed: int | None
    counted: int | None
    asked_from: datetime | None
    asked_to: datetime | None

    @property
    def fresh_from(self) -> datetime | None:
        """Return the moment before which a look may have missed a permitted write."""
        return None if self.last_write_at is None else self.last_write_at + timedelta(seconds=self.lag_s)

    @property
    def is_fresh(self) -> bool:
        """Say whether every look was late enough to show the last permitted write."""
        return self.fresh_from is not None and self.oldest_look is not None and self.oldest_look >= self.fresh_from

    @property
    def oldest_look(self) -> datetime | None:
        looks = [look for look in (self.read_from, self.listed_at) if look is not None]
        return min(looks, default=None)

    def to_json(self) -> dict[str, Any]:
        """Return the times in UTC, and the seconds from the last permitted write to the oldest look."""
        after = None
        if self.oldest_look is not None and self.last_write_at is not None:
            after = round((self.oldest_look - self.last_write_at).total_seconds(), 3)
        return asdict(self) | {"fresh_from": self.fresh_from, "is_fresh": self.is_fresh, "oldest_look_after_s": after}


def note_reading(connection: sa.Connection, lease: Lease, job: Job) -> None:
    """Note that this attempt read the records that it will delete by their ids. Safe to repeat."""
    _note(connection, lease, job, read_from=lease.leased_at, read_to=lease.leased_at, asked_from=NOW, asked_to=NOW)


def note_whole(connection: sa.Connection, lease: Lease, job: Job, *, listed: int, counted: int | None) -> None:
    """Note the looks before a namespace is deleted whole: the rechecks' readings, and this attempt's listing."""
    looks = sa.select(sa.func.min(_B.looked_at), sa.func.max(_B.looked_at)).where(
        _B.move_id == lease.move_id, _B.kind == BatchKind.RECHECK
    )
    read_from, read_to = connection.execute(looks).one()
    seen = {"listed_at": lease.leased_at, "listed": listed, "counted": counted}
    _note(connection, lease, job, read_from=read_from, read_to=read_to, asked_from=NOW, asked_to=NOW, **seen)


def note_listing(connection: sa.Connection, lease: Lease, job: Job, *, listed: int) -> None:
    """Note that this attempt listed the ids left in a namespace after its deletion by ids."""
    _note(connection, lease, job, listed_at=lease.leased_at, listed=listed)


def _note(connection: sa.Connection, lease: Lease, job: Job, **looks: Any) -> None:
    new = insert(t.deletion).values(
        move_id=lease.move_id,
        last_write_at=last_permitted_write(job, job.plan.policies),
        lag_s=job.source_lag_s,
        **looks,
    )
    kept = {name: new.excluded[name] for name in ("last_write_at", "lag_s", *looks)}
    first = {name: sa.func.least(_D[name], new.excluded[name]) for name in ("read_from", "asked_from") if name in looks}
    last = {name: sa.func.greatest(_D[name], new.excluded[name]) for name in ("read_to", "asked_to") if name in looks}
    connection.execute(new.on_conflict_do_update(index_elements=[_D.move_id], set_=kept | first | last))


def oldest_proof(connection: sa.Connection, move_id: int) -> tuple[float, datetime | None]:
    """Return how many seconds ago the first recheck of a source began to read, and when that was."""
    first = sa.case((sa.func.bool_and(_B.looked_at.is_not(None)), sa.func.min(_B.looked_at)))
    query = sa.select(sa.func.extract("epoch", NOW - first), first)
    age, at = connection.execute(query.where(_B.move_id == move_id, _B.kind == BatchKind.RECHECK)).one()
    return float(age or 0.0), at


def of_job(connection: sa.Connection, job_id: int, source: str | None = None) -> list[DeletionEvidence]:
    """Return the evidence for every source of a job whose deletion was sent, or for one `source`."""
    names = [name for name in DeletionEvidence.__dataclass_fields__ if name in _D]
    query = (
        sa.select(_M.source, _M.clean_mode, _M.deleted, *(_D[name] for name in names))
        .join(t.deletion, _D.move_id == _M.id)
        .where(_M.job_id == job_id)
        .order_by(_M.seq)
    )
    rows = connection.execute(query if source is None else query.where(_M.source == source))
    return [DeletionEvidence(**row._mapping) for row in rows]


_remove = t.batch.alias("asked_for")

_REMOVED = (
    sa.select(_remove.c.id)
    .where(_remove.c.copy_id == _B.id, _remove.c.kind == BatchKind.REMOVE, _remove.c.intent_at.is_not(None))
    .correlate(t.batch)
    .exists()
)
_BEING_DELETED = (
    sa.select(_M.id)
    .where(_M.id == _B.move_id, _M.state.in_((MoveState.CLEANING, MoveState.CLEANED)))
    .correlate(t.batch)
    .exists()
)
UNTOUCHED = sa.and_(~_REMOVED, ~_BEING_DELETED)
"""A condition on `batch`: no deletion of the copy batch's source records was intended, by ids or with its namespace."""
