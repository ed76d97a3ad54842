"""Which dispatcher leads: a row with an expiry by the database clock. Nothing is wrong if two think they lead."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from orchestrator.ledger import tables as t

_NOW = sa.func.clock_timestamp()
_NAME = "dispatcher"


def lead(connection: sa.Connection, owner: str, seconds: float) -> bool:
    """Take or keep the lead for so many seconds."""
    until = _NOW + sa.func.make_interval(0, 0, 0, 0, 0, 0, seconds)
    proposal = insert(t.leader).values(name=_NAME, owner=owner, until=until)
    row = connection.execute(
        proposal.on_conflict_do_update(
            index_elements=[t.leader.c.name],
            set_={"owner": owner, "until": until},
            where=sa.or_(t.leader.c.owner == owner, t.leader.c.until < _NOW),
        ).returning(t.leader.c.owner)
    ).one_or_none()
    return row is not None


def resign(connection: sa.Connection, owner: str) -> None:
    connection.execute(sa.delete(t.leader).where(t.leader.c.name == _NAME, t.leader.c.owner == owner))


def seconds_left(connection: sa.Connection) -> float | None:
    """How long the present leader still leads; None where there is none."""
    left = connection.execute(sa.select(sa.func.extract("epoch", t.leader.c.until - _NOW))).scalar_one_or_none()
    return None if left is None else float(left)
