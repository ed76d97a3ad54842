"""Whether the job table is still the one it was: which server it is on, and how often a dispatcher has looked.

A Postgres that was failed over, or put back from a copy, answers as before and lacks commits. Two things tell: another
server than the one that a dispatcher approved, and a count of looks that is below what was remembered elsewhere
(`services.lost_commits`). Until a dispatcher has approved the server, no batch is leased and nothing is deleted.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from orchestrator.ledger import tables as t
from vecfleet.errors import Busy

_NOW = sa.func.clock_timestamp()
_C = t.continuity.c
_SERVER = sa.func.vecfleet_server()
_SYNCHRONOUS = sa.text(
    "(current_setting('synchronous_standby_names') <> ''"
    " AND current_setting('synchronous_commit') NOT IN ('off', 'local'))"
)
_ON_AN_UNKNOWN_SERVER = sa.select(_C.lineage).where(_C.server != _SERVER).exists()
ON_A_KNOWN_SERVER: Any = ~_ON_AN_UNKNOWN_SERVER
"""A condition: a dispatcher has looked since this Postgres started, and found no commit lost."""


@dataclass(frozen=True, slots=True)
class Server:
    """A run of a Postgres: its cluster, the timeline of its log, its start. A part that it does not tell is `?`."""

    system: str
    timeline: str
    started: str

    @classmethod
    def parse(cls, text: str) -> "Server":
        return cls(*text.split(":"))

    def is_other_system_than(self, before: "Server") -> bool:
        return "?" not in (self.system, before.system) and self.system != before.system

    def is_other_timeline_than(self, before: "Server") -> bool:
        return "?" not in (self.timeline, before.timeline) and self.timeline != before.timeline


@dataclass(frozen=True, slots=True)
class Look:
    """One look of a dispatcher: its number; and the server of now, beside what the look before it left.

    `synchronous`: at the look before, commits waited for a standby.
    """

    lineage: str
    sequence: int
    server: Server
    server_before: Server
    looked_before: datetime
    synchronous: bool


def look(connection: sa.Connection) -> Look:
    """Raise the count of looks by one. The server is not approved by it: `approve` does that.

    Safe to repeat: a look more is counted. Others who look wait for the end of this transaction.
    """
    row = connection.execute(sa.select(t.continuity, _SERVER.label("now")).with_for_update()).one_or_none()
    if row is None:  # the first look at this job table
        first = sa.insert(t.continuity).values(
            lineage=secrets.token_hex(16), looked_at=_NOW, server=_SERVER, synchronous=_SYNCHRONOUS
        )
        connection.execute(first)
        row = connection.execute(sa.select(t.continuity, _SERVER.label("now"))).one()
    sequence: int = connection.execute(
        sa.update(t.continuity)
        .values(sequence=_C.sequence + 1, looked_at=_NOW, synchronous=_SYNCHRONOUS)
        .returning(_C.sequence)
    ).scalar_one()
    return Look(
        lineage=row.lineage,
        sequence=sequence,
        server=Server.parse(row.now),
        server_before=Server.parse(row.server),
        looked_before=row.looked_at,
        synchronous=row.synchronous,
    )


def approve(connection: sa.Connection, above: int) -> int:
    """Let work go on where the job table is now. Returns the number of the look, above what was remembered."""
    sequence: int = connection.execute(
        sa.update(t.continuity)
        .values(server=_SERVER, sequence=sa.func.greatest(_C.sequence, above + 1))
        .returning(_C.sequence)
    ).scalar_one()
    return sequence


def require_known_server(connection: sa.Connection) -> None:
    """Raise Busy until a dispatcher has looked at a Postgres that was started or failed over.

    For the transaction that records the intent to delete: of an older copy of the job table none is made.
    """
    if connection.execute(sa.select(_ON_AN_UNKNOWN_SERVER)).scalar_one():
        raise Busy(
            "the job table's Postgres was started or failed over, and no dispatcher has looked yet whether it lost "
            "commits: nothing is deleted before",
            next_step="start a dispatcher: `vecfleet dispatcher`",
        )
