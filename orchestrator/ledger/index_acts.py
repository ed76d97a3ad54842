"""Acts on a whole index outside of any job: a wipe holds it, and the service fills it before a job begins there.

A wipe is no job and has no claims. Its hold keeps every job away, until its last deletion can no longer take effect.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from orchestrator.ledger import tables as t
from orchestrator.ledger.database import NOW
from vecfleet.errors import Refused

WIPE, CONVERSION, IMPORT = "wipe", "conversion", "import"
_A = t.index_act.c
# A wipe that stands still for longer, or died, lets go of its index: longer than any pace makes one deletion wait.
_HOLD_S = 120.0


@dataclass(frozen=True, slots=True)
class Filling:
    """A conversion into an index, or an import into it, whose job has not begun. `filled_from`: of a conversion."""

    id: int
    kind: str
    index: str
    filled_from: str | None
    begun_at: datetime

    @property
    def doing(self) -> str:
        """Say what the service does there."""
        return f"makes {self.index} of {self.filled_from}" if self.filled_from else f"imports files into {self.index}"


def begin_wipe(connection: sa.Connection, index: str, host: str, who: str, lands_s: float) -> int:
    """Hold an index from the commit on. Call this with all claims locked, once nobody uses the index."""
    values = {"kind": WIPE, "index": index, "host": host, "who": who, "until": _in(_HOLD_S + lands_s)}
    number: int = connection.execute(sa.insert(t.index_act).values(values).returning(_A.id)).scalar_one()
    return number


def go_on(connection: sa.Connection, number: int, lands_s: float) -> None:
    """Hold on before each deletion, which takes effect within `lands_s`. Raises Refused if the hold is too old."""
    still = sa.and_(_A.id == number, _A.ended_at.is_(None), _A.until > _in(lands_s))
    held = connection.execute(sa.update(t.index_act).where(still).values(until=_in(_HOLD_S + lands_s))).rowcount
    if not held:
        raise Refused(
            f"this stood still for more than {_HOLD_S:.0f} s: a job may use the index by now",
            code="hold-lost",
            next_step="look what is left, and wipe again",
        )


def end(connection: sa.Connection, number: int) -> None:
    """Let go of the index. Safe to repeat."""
    connection.execute(sa.update(t.index_act).where(_A.id == number, _A.ended_at.is_(None)).values(ended_at=NOW))


def require_not_wiped(connection: sa.Connection, host: str) -> None:
    """Raise Refused while an index is being emptied. Call this with all claims locked."""
    held = sa.and_(_A.kind == WIPE, _A.host == host, _A.ended_at.is_(None), _A.until > NOW)
    row = connection.execute(sa.select(_A.index, _A.who, _A.until).where(held).limit(1)).one_or_none()
    if row is not None:
        raise Refused(
            f"{row.who} empties {row.index}",
            code="index-being-wiped",
            next_step=f"try again when that has ended, or after {row.until:%H:%M:%S} UTC if it was broken off",
        )


def require_not_filled(connection: sa.Connection, index: str) -> None:
    """Raise Refused while the service fills an index, or makes another one of it. Call this with all claims locked."""
    for filling in fillings(connection):
        if index in (filling.index, filling.filled_from):
            raise Refused(
                f"the service {filling.doing}, for a plan that is being applied",
                code="index-being-filled",
                next_step="wait until its job has begun, then look with `vecfleet jobs`",
            )


def note_filling(
    connection: sa.Connection, index: str, filled_from: str | None, who: str, begun_at: datetime | None = None
) -> None:
    """Note that the service fills an index, from now on or since `begun_at`. Commit it before the request.

    Safe to repeat: an index has one open row, which the newest request takes over. A filling that `settle` took for one
    that was never asked for is not ended by it then.
    """
    connection.execute(sa.text("LOCK TABLE index_act IN SHARE ROW EXCLUSIVE MODE"))
    kind = IMPORT if filled_from is None else CONVERSION
    values = {"kind": kind, "filled_from": filled_from, "who": who, "begun_at": NOW if begun_at is None else begun_at}
    stands = sa.and_(_A.index == index, _A.kind != WIPE, _A.ended_at.is_(None))
    if not connection.execute(sa.update(t.index_act).where(stands).values(values)).rowcount:
        connection.execute(sa.insert(t.index_act).values(index=index, **values))


def settle(connection: sa.Connection, filling: Filling) -> None:
    """Note that the service no longer fills this index, unless it was asked to anew meanwhile."""
    same = sa.and_(_A.id == filling.id, _A.begun_at == filling.begun_at, _A.ended_at.is_(None))
    connection.execute(sa.update(t.index_act).where(same).values(ended_at=NOW))


def end_filling(connection: sa.Connection, index: str) -> None:
    """Note, with the job that begins there, that the index is filled."""
    filled = sa.and_(_A.index == index, _A.kind != WIPE, _A.ended_at.is_(None))
    connection.execute(sa.update(t.index_act).where(filled).values(ended_at=NOW))


def fillings(connection: sa.Connection) -> Sequence[Filling]:
    """Return the conversions and imports of which nobody knows yet that they are over."""
    columns = (_A.id, _A.kind, _A.index, _A.filled_from, _A.begun_at)
    rows = connection.execute(sa.select(*columns).where(_A.kind != WIPE, _A.ended_at.is_(None)).order_by(_A.id))
    return [Filling(*row) for row in rows]


def filled(connection: sa.Connection) -> set[str]:
    """Return the indexes that the service ever filled for a plan and no longer fills, with or without a job."""
    query = sa.select(_A.index).where(_A.kind != WIPE, _A.ended_at.is_not(None)).distinct()
    return set(connection.execute(query).scalars()) - {filling.index for filling in fillings(connection)}


def last_filled_at(connection: sa.Connection) -> datetime | None:
    """Return when the service was last known to have filled an index; None if it never was."""
    at: datetime | None = connection.execute(sa.select(sa.func.max(_A.ended_at)).where(_A.kind != WIPE)).scalar_one()
    return at


def require_no_filling_since(connection: sa.Connection, since: datetime) -> None:
    """Raise Refused if the service fills an index, or did after `since`: it may hold records of an erased tenant.

    Locks the table: a filling that is being noted is waited for.
    """
    connection.execute(sa.text("LOCK TABLE index_act IN SHARE MODE"))
    late = sa.or_(_A.ended_at.is_(None), _A.ended_at > since)
    row = connection.execute(
        sa.select(_A.index, _A.ended_at).where(_A.kind != WIPE, late).order_by(_A.id).limit(1)
    ).one_or_none()
    if row is None:
        return
    if row.ended_at is not None:
        raise Refused(
            f"{row.index} was filled by the service meanwhile, and may hold records of the tenant: what else was found "
            "is deleted, and there is no certificate",
            code="filled-meanwhile",
            next_step="erase the tenant again: that looks there too",
        )
    raise Refused(
        f"the service fills {row.index} for a plan whose job has not begun, perhaps with records of the tenant: what "
        "else was found is deleted, and there is no certificate",
        code="filling-under-way",
        next_step=f"apply that plan to its end, or delete {row.index} once that is done; then erase the tenant again",
    )


def _in(seconds: float) -> sa.ColumnElement[datetime]:
    return NOW + sa.func.make_interval(0, 0, 0, 0, 0, 0, seconds)
