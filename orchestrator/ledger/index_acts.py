"""Acts on a whole index outside of any job: a wipe holds it, and the service fills it before a job begins there.

A wipe is no job and has no claims. Its hold keeps every job away, until its last deletion can no longer take effect.

A filling is one row for a plan, from before the request to the service until its job begins, in the same transaction,
or until somebody knows that it is over. An index may be filled for several plans at once: each has its own row, and
none ends with another's. A person may give up one of which nobody can know: then it holds up no certificate, and each
certificate names its index.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from orchestrator.ledger import audit
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import NOW
from vecfleet.errors import Refused

WIPE, CONVERSION, IMPORT = "wipe", "conversion", "import"
_A = t.index_act.c
_FILLING = (_A.id, _A.kind, _A.index, _A.filled_from, _A.plan_digest, _A.who, _A.begun_at)
# A wipe that stands still for longer, or died, lets go of its index: longer than any pace makes one deletion wait.
_HOLD_S = 120.0
# Who waits looks about once a second. After as long without a look, nobody is said to wait.
_WAITS_S = 30.0


@dataclass(frozen=True, slots=True)
class Filling:
    """A conversion into an index, or an import into it, whose job has not begun.

    `filled_from`: of a conversion. `plan_digest`: None if an older version noted it. `told`: the service's last words,
    while somebody waits (`waited`) or died waiting. `stuck`: why nobody can tell whether it is over.
    """

    id: int
    kind: str
    index: str
    filled_from: str | None
    plan_digest: str | None
    who: str
    begun_at: datetime
    told: Mapping[str, Any] | None = None
    looked_at: datetime | None = None
    waited: bool = False
    stuck: str | None = None
    given_up_at: datetime | None = None
    given_up_by: str | None = None

    @property
    def doing(self) -> str:
        """Say what the service does there."""
        if self.told is not None:
            return str(self.told["doing"])
        if self.filled_from is not None:
            return f"converts {self.filled_from} into {self.index}"
        return f"imports files into {self.index}"

    @property
    def is_given_up(self) -> bool:
        return self.given_up_at is not None

    def __str__(self) -> str:
        begun = f"the service {self.doing}"
        if self.told is not None and self.waited:
            return f"{begun}: {self.told['so_far']}; the job of {self.who} begins when it is complete"
        return f"{begun}, as {self.who} asked at {self.begun_at:%Y-%m-%d %H:%M} UTC; {self.standing}"

    @property
    def standing(self) -> str:
        """Say what becomes of it."""
        if self.given_up_at is not None:
            return f"{self.given_up_by} gave it up: each certificate of an erasure names {self.index}"
        if self.stuck is not None:
            return f"nobody can tell whether it is over: {self.stuck}; `vecfleet filling give-up {self.index}`"
        if self.waited:
            return "its job begins when it is complete"
        return "nobody waits for it: apply its plan again"

    def to_json(self) -> dict[str, Any]:
        """Return it as `vecfleet jobs --json` shows it."""
        said = dict.fromkeys(("so_far", "percent", "records", "status")) | dict(self.told or {})
        rows = {"index": self.index, "by": self.who, "begun_at": self.begun_at, "looked_at": self.looked_at}
        given_up = {"given_up_at": self.given_up_at, "given_up_by": self.given_up_by}
        of_plan = {"filling": self.id, "plan_digest": self.plan_digest}
        return {**of_plan, **said, "doing": self.doing, **rows, "stuck": self.stuck, **given_up}


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
        if index in (filling.index, filling.filled_from) and not filling.is_given_up:
            raise Refused(
                f"the service {filling.doing}, for a plan that is being applied"
                + (f"; nobody can tell whether that is over: {filling.stuck}" if filling.stuck else ""),
                code="index-being-filled",
                next_step="wait until its job has begun, then look with `vecfleet jobs`"
                if filling.stuck is None
                else _to_give_up(filling.index),
            )


def note_filling(
    connection: sa.Connection,
    index: str,
    filled_from: str | None,
    plan_digest: str,
    who: str,
    begun_at: datetime | None = None,
) -> Filling:
    """Note that the service fills an index for a plan, from now on or since `begun_at`. Commit it before the request.

    Safe to repeat: a plan has one open row for its index, which the newest request takes over. `settle` with what an
    earlier request noted does not end it then. One that a person gave up is given up no more.
    """
    connection.execute(sa.text("LOCK TABLE index_act IN SHARE ROW EXCLUSIVE MODE"))
    kind = IMPORT if filled_from is None else CONVERSION
    values = {"kind": kind, "filled_from": filled_from, "who": who, "begun_at": NOW if begun_at is None else begun_at}
    stands = _open(index, plan_digest)
    anew = values | dict.fromkeys(("told", "looked_at", "stuck", "given_up_at", "given_up_by"))
    update = sa.update(t.index_act).where(stands).values(anew).returning(*_FILLING)
    row = connection.execute(update).one_or_none()
    if row is None:
        insert = sa.insert(t.index_act).values(index=index, plan_digest=plan_digest, **values).returning(*_FILLING)
        row = connection.execute(insert).one()
    return Filling(*row)


def note_look(connection: sa.Connection, index: str, plan_digest: str, told: Mapping[str, Any] | None) -> None:
    """Note the service's last words on a filling, in a transaction of their own; None: nobody waits any longer.

    Safe to repeat. It is for people to see: nothing rests on it, and a filling that is over takes no note.
    """
    values = {"told": None} if told is None else {"told": dict(told), "looked_at": NOW}
    connection.execute(sa.update(t.index_act).where(_open(index, plan_digest)).values(values))


def settle(connection: sa.Connection, filling: Filling) -> None:
    """Note that the service no longer fills this index, unless it was asked to anew meanwhile. Safe to repeat.

    It is the transaction after the look, or that of the job that begins there: the filling that was looked at is told
    by its number and its beginning.
    """
    connection.execute(sa.update(t.index_act).where(_same(filling)).values(ended_at=NOW, told=None, stuck=None))


def note_stuck(connection: sa.Connection, filling: Filling, why: str | None) -> None:
    """Note why nobody could tell whether this filling is over; None: somebody could, and it is not. Safe to repeat."""
    connection.execute(sa.update(t.index_act).where(_same(filling)).values(stuck=why))


def give_up(connection: sa.Connection, filling: Filling, who: str, why: str) -> None:
    """Have this filling hold up no certificate any more; its act is recorded in the same transaction.

    Each certificate names its index from the commit on. A certificate that is being given waits, or is waited for: it
    locks the table. Raises Refused if the filling ended, was asked for anew, or was given up meanwhile: repeated, it
    changes nothing.
    """
    given_up = {"given_up_at": NOW, "given_up_by": who, "stuck": why}
    same = sa.and_(_same(filling), _A.given_up_at.is_(None))
    if not connection.execute(sa.update(t.index_act).where(same).values(given_up)).rowcount:
        raise Refused(
            f"the filling of {filling.index} changed meanwhile: it ended, began anew, or was given up; nothing was "
            "changed",
            code="filling-changed",
            next_step="look at it: `vecfleet filling list`",
        )
    facts = {"filling": filling.id, "index": filling.index, "filled_from": filling.filled_from, "why": why}
    audit.note(connection, who, "give up filling", None, **facts, begun_at=filling.begun_at.isoformat())


def fillings(connection: sa.Connection) -> Sequence[Filling]:
    """Return the conversions and imports of which nobody knows yet that they are over, also those given up."""
    waited = sa.and_(_A.told.is_not(None), _A.looked_at > NOW - sa.func.make_interval(0, 0, 0, 0, 0, 0, _WAITS_S))
    shown = (_A.told, _A.looked_at, sa.func.coalesce(waited, False), _A.stuck, _A.given_up_at, _A.given_up_by)
    rows = connection.execute(
        sa.select(*_FILLING, *shown).where(_A.kind != WIPE, _A.ended_at.is_(None)).order_by(_A.id)
    )
    return [Filling(*row) for row in rows]


def shown(connection: sa.Connection) -> list[Filling]:
    """Return the fillings that a job will begin after, for a list of jobs: those that nobody gave up."""
    return [filling for filling in fillings(connection) if not filling.is_given_up]


def given_up(connection: sa.Connection) -> list[Filling]:
    """Return the fillings that a person gave up, and of which nobody knows yet that they are over."""
    return [filling for filling in fillings(connection) if filling.is_given_up]


def filled(connection: sa.Connection) -> set[str]:
    """Return the indexes that the service ever filled for a plan and no longer fills, with or without a job.

    One that was given up is not among them: it may be out of reach.
    """
    query = sa.select(_A.index).where(_A.kind != WIPE, _A.ended_at.is_not(None)).distinct()
    return set(connection.execute(query).scalars()) - {filling.index for filling in fillings(connection)}


def last_filled_at(connection: sa.Connection) -> datetime | None:
    """Return when the service was last known to have filled an index; None if it never was."""
    at: datetime | None = connection.execute(sa.select(sa.func.max(_A.ended_at)).where(_A.kind != WIPE)).scalar_one()
    return at


def wait_for_changes(connection: sa.Connection) -> None:
    """Wait until each filling that is being noted, ended or given up is so for all to see; none is, until this ends.

    A filling ends before its end is committed. Who compares a moment with ends of fillings takes the moment after this:
    then each end before it shows, and each later end is after it.
    """
    connection.execute(sa.text("LOCK TABLE index_act IN SHARE MODE"))


def require_no_filling_since(connection: sa.Connection, since: datetime) -> None:
    """Raise Refused if the service fills an index, or did after `since`: it may hold records of an erased tenant.

    Waits for changes first. A filling that was given up is no objection: the certificate of this transaction names it,
    see `residual`.
    """
    wait_for_changes(connection)
    late = sa.or_(sa.and_(_A.ended_at.is_(None), _A.given_up_at.is_(None)), _A.ended_at > since)
    row = connection.execute(
        sa.select(_A.index, _A.ended_at, _A.stuck).where(_A.kind != WIPE, late).order_by(_A.id).limit(1)
    ).one_or_none()
    if row is None:
        return
    index, ended_at, stuck = row
    if ended_at is not None:
        raise Refused(
            f"{index} was filled by the service meanwhile, and may hold records of the tenant: what else was found "
            "is deleted, and there is no certificate",
            code="filled-meanwhile",
            next_step="erase the tenant again: that looks there too",
        )
    if stuck is not None:
        raise Refused(
            f"the service was asked to fill {index}, perhaps with records of the tenant, and nobody can tell "
            f"whether that is over ({stuck}): what else was found is deleted, and there is no certificate",
            code="filling-stuck",
            next_step=f"{_to_give_up(index)}; then erase the tenant again",
        )
    raise Refused(
        f"the service fills {index} for a plan whose job has not begun, perhaps with records of the tenant: what "
        "else was found is deleted, and there is no certificate",
        code="filling-under-way",
        next_step=f"apply that plan to its end, or delete {index} once that is done; then erase the tenant again",
    )


def residual(connection: sa.Connection) -> list[str]:
    """Return a certificate's sentences about the fillings given up. Call this in the transaction that certifies."""
    return [
        f"{filling.index}: the service was asked at {filling.begun_at:%Y-%m-%d %H:%M} UTC to fill it"
        f"{f' from {filling.filled_from}' if filling.filled_from else ' from files'}, nobody could tell whether that "
        f"was over, and {filling.given_up_by} gave it up at {filling.given_up_at:%Y-%m-%d %H:%M} UTC: it may hold or "
        "still get records of this tenant; once it can be reached again, ask for the erasure again"
        for filling in given_up(connection)
    ]


def _to_give_up(index: str) -> str:
    return f"make it reachable, or, if that cannot be: `vecfleet filling give-up {index}`"


def _open(index: str, plan_digest: str) -> sa.ColumnElement[bool]:
    of_plan = sa.and_(_A.index == index, _A.plan_digest == plan_digest)
    return sa.and_(of_plan, _A.kind != WIPE, _A.ended_at.is_(None))


def _same(filling: Filling) -> sa.ColumnElement[bool]:
    return sa.and_(_A.id == filling.id, _A.begun_at == filling.begun_at, _A.ended_at.is_(None))


def _in(seconds: float) -> sa.ColumnElement[datetime]:
    return NOW + sa.func.make_interval(0, 0, 0, 0, 0, 0, seconds)
