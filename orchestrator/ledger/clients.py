"""Clients that ask for the routes: when each process did last, and whether it refuses writes to frozen namespaces.

A client's look is on record before the answer with the routes leaves. So whoever may hold routes from before a job is
known when the job is about to start, up to `NOTED_EVERY_S` seconds by which the record may be behind.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from orchestrator.core.reading import ClientGroup
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import NOW

NOTED_EVERY_S = 15.0
COMMAND = "vecfleet delete"
"""The token of a command that writes by the routes: a job waits for it as for any client, but it is no application."""
_FORGOTTEN_AFTER = timedelta(days=1)
_C = t.client.c


def note(connection: sa.Connection, name: str, token: str, *, freezes: bool) -> None:
    """Note that a client asks for the routes now. Forget those that asked more than a day ago. Safe to repeat."""
    row = insert(t.client).values(name=name, token=token, freezes=freezes, seen_at=NOW)
    connection.execute(
        row.on_conflict_do_update(
            index_elements=[_C.name, _C.token], set_={"freezes": freezes, "seen_at": sa.func.greatest(_C.seen_at, NOW)}
        )
    )
    connection.execute(sa.delete(t.client).where(_C.seen_at < NOW - _FORGOTTEN_AFTER))


def any_may_write(connection: sa.Connection, since: datetime, stale_s: float) -> bool:
    """Say whether a client that follows a freeze may hold routes of before this transaction by which it wrote `since`.

    One that asked so long before `since` that its routes were too old by then wrote nothing after it.
    """
    asked_after = since - timedelta(seconds=stale_s + NOTED_EVERY_S)
    return bool(connection.execute(sa.select(sa.exists().where(_C.freezes, _C.seen_at > asked_after))).scalar_one())


def groups(connection: sa.Connection) -> Sequence[ClientGroup]:
    """Return the clients of the last day by token and machine, those that asked last first."""
    machine = sa.func.split_part(_C.name, "/", 1)
    seen_at = sa.func.max(_C.seen_at)
    rows = connection.execute(
        sa.select(_C.token, machine.label("machine"), _C.freezes, sa.func.count().label("n"), seen_at.label("seen_at"))
        .where(_C.token != COMMAND)
        .group_by(_C.token, machine, _C.freezes)
        .order_by(seen_at.desc())
    )
    return [ClientGroup(row.token, row.machine, row.n, row.freezes, row.seen_at) for row in rows]
