"""The lead among dispatchers: a row with an expiry by the database clock. Two that think they lead do no harm."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from orchestrator.ledger import tables as t
from orchestrator.ledger.database import NOW

_NAME = "dispatcher"


def lead(connection: sa.Connection, owner: str, seconds: float) -> bool:
    """Take or keep the lead for `seconds`. Say whether `owner` leads."""
    until = NOW + sa.func.make_interval(0, 0, 0, 0, 0, 0, seconds)
    proposal = insert(t.leader).values(name=_NAME, owner=owner, until=until)
    row = connection.execute(
        proposal.on_conflict_do_update(
            index_elements=[t.leader.c.name],
            set_={"owner": owner, "until": until},
            where=sa.or_(t.leader.c.owner == owner, t.leader.c.until < NOW),
        ).returning(t.leader.c.owner)
    ).one_or_none()
    return row is not None


def resign(connection: sa.Connection, owner: str) -> None:
    connection.execute(sa.delete(t.leader).where(t.leader.c.name == _NAME, t.leader.c.owner == owner))


def seconds_left(connection: sa.Connection) -> float | None:
    """Return how many seconds the present leader still leads; None if there is none."""
    left = connection.execute(sa.select(sa.func.extract("epoch", t.leader.c.until - NOW))).scalar_one_or_none()
    return None if left is None else float(left)
