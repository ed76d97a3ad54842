"""Consents: acts that the operator leaves to two persons, and who asked for one first."""

from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from orchestrator.core.hooks import TwoPersons
from orchestrator.ledger import audit
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import NOW

_C = t.consent.c
_HOLDS_FOR = sa.text("interval '1 day'")


def declare(connection: sa.Connection, acts: Collection[TwoPersons]) -> None:
    """Leave these acts, and no other, to two persons from now on."""
    connection.execute(sa.delete(t.two_persons).where(t.two_persons.c.act.not_in(acts)))
    for act in acts:
        connection.execute(insert(t.two_persons).values(act=act).on_conflict_do_nothing())


def needed(connection: sa.Connection, act: TwoPersons) -> bool:
    return bool(
        connection.execute(sa.select(sa.select(t.two_persons).where(t.two_persons.c.act == act).exists())).scalar()
    )


def first(connection: sa.Connection, act: TwoPersons, subject: str) -> str | None:
    """Return who asked for this act within a day, if it was not done since."""
    query = sa.select(_C.who).where(_C.act == act, _C.subject == subject, _C.used_by.is_(None))
    query = query.where(_C.at > NOW - _HOLDS_FOR).order_by(_C.id.desc()).limit(1)
    return connection.execute(query).scalar_one_or_none()


def ask(connection: sa.Connection, act: TwoPersons, subject: str, who: str, job_id: int | None) -> None:
    connection.execute(sa.insert(t.consent).values(act=act, subject=subject, who=who))
    audit.note_of_leave(connection, who, "ask for a second person", job_id, act=act, subject=subject)


def use(connection: sa.Connection, act: TwoPersons, subject: str, who: str, job_id: int | None, asked_by: str) -> None:
    """Note the second person, in the transaction of the act."""
    waiting = sa.update(t.consent).where(_C.act == act, _C.subject == subject, _C.used_by.is_(None))
    connection.execute(waiting.values(used_by=who))
    facts = {"act": act, "subject": subject, "asked_by": asked_by}
    audit.note_of_leave(connection, who, "agree as the second person", job_id, **facts)
