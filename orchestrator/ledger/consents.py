"""Consents: acts that the operator leaves to two persons, and who asked for one."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from orchestrator.core.two_persons import TwoPersons
from orchestrator.ledger import audit
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import NOW, among

_C = t.consent.c
_HOLDS_FOR = sa.text("interval '1 day'")


def declare(connection: sa.Connection, acts: Collection[TwoPersons]) -> None:
    """Leave these acts, and no other, to two persons from now on."""
    connection.execute(sa.delete(t.two_persons).where(~among(t.two_persons.c.act, acts)))
    for act in acts:
        connection.execute(insert(t.two_persons).values(act=act).on_conflict_do_nothing())


def needed(connection: sa.Connection, act: TwoPersons) -> bool:
    return bool(
        connection.execute(sa.select(sa.select(t.two_persons).where(t.two_persons.c.act == act).exists())).scalar()
    )


def asked(connection: sa.Connection, act: TwoPersons, subject: str) -> Sequence[str]:
    """Return who asked for this act within a day, the last first, if it was not done since."""
    query = sa.select(_C.who).where(_C.act == act, _C.subject == subject, _C.used_by.is_(None))
    return list(connection.execute(query.where(_C.at > NOW - _HOLDS_FOR).order_by(_C.id.desc())).scalars())


def ask(connection: sa.Connection, act: TwoPersons, subject: str, who: str, job_id: int | None) -> None:
    connection.execute(sa.insert(t.consent).values(act=act, subject=subject, who=who))
    audit.note_of_leave(connection, who, "ask for a second person", job_id, act=act, subject=subject)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two persons that ask for one act."""

    act: TwoPersons
    subject: str
    first: str
    second: str


def use(connection: sa.Connection, agreement: Agreement, job_id: int | None) -> None:
    """Use up an agreement, in the transaction of its act: the next act needs another."""
    act, subject, second = agreement.act, agreement.subject, agreement.second
    waiting = sa.update(t.consent).where(_C.act == act, _C.subject == subject, _C.used_by.is_(None))
    connection.execute(waiting.values(used_by=second))
    facts = {"act": act, "subject": subject, "asked_by": agreement.first}
    audit.note_of_leave(connection, second, "agree as the second person", job_id, **facts)
