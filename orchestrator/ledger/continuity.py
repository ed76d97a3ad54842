"""The identity of the job table: its server, and the number of looks that dispatchers took.

A Postgres that was failed over or restored from a copy answers as before but lacks commits. Two things show it: a
server that no dispatcher approved, and a count of looks below the number remembered elsewhere
(`services.lost_commits`). Until a dispatcher has approved the server, no batch is leased and nothing is deleted.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from orchestrator.ledger import tables as t
from orchestrator.ledger.database import NOW
from vecfleet.errors import Busy

_C = t.continuity.c
_SERVER = sa.func.vecfleet_server()
_SYNCHRONOUS = sa.text(
    "(current_setting('synchronous_standby_names') <> ''"
    " AND current_setting('synchronous_commit') NOT IN ('off', 'local'))"
)
_ON_AN_UNKNOWN_SERVER = sa.select(_C.lineage).where(_C.server != _SERVER).exists()
ON_A_KNOWN_SERVER: Any = ~_ON_AN_UNKNOWN_SERVER
"""A condition: a dispatcher has looked since this Postgres started, and approved it."""


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """One run of a Postgres: its cluster, the timeline of its log, its start. An unknown part is `?`."""

    system: str
    timeline: str
    started: str

    @classmethod
    def parse(cls, text: str) -> "ServerIdentity":
        return cls(*text.split(":"))

    def is_other_system_than(self, before: "ServerIdentity") -> bool:
        return "?" not in (self.system, before.system) and self.system != before.system

    def is_other_timeline_than(self, before: "ServerIdentity") -> bool:
        return "?" not in (self.timeline, before.timeline) and self.timeline != before.timeline


@dataclass(frozen=True, slots=True)
class Look:
    """One look of a dispatcher: its number, the present server, and the server and time of the look before.

    `synchronous`: commits waited for a standby at the look before.
    """

    lineage: str
    sequence: int
    server: ServerIdentity
    server_before: ServerIdentity
    looked_before: datetime
    synchronous: bool


def look(connection: sa.Connection) -> Look:
    """Raise the count of looks by one. This does not approve the server; `approve` does.

    Safe to repeat: it counts one more look. Other looks wait for the end of this transaction.
    """
    row = connection.execute(sa.select(t.continuity, _SERVER.label("now")).with_for_update()).one_or_none()
    if row is None:  # the first look at this job table
        first = sa.insert(t.continuity).values(
            lineage=secrets.token_hex(16), looked_at=NOW, server=_SERVER, synchronous=_SYNCHRONOUS
        )
        connection.execute(first)
        row = connection.execute(sa.select(t.continuity, _SERVER.label("now"))).one()
    sequence: int = connection.execute(
        sa.update(t.continuity)
        .values(sequence=_C.sequence + 1, looked_at=NOW, synchronous=_SYNCHRONOUS)
        .returning(_C.sequence)
    ).scalar_one()
    return Look(
        lineage=row.lineage,
        sequence=sequence,
        server=ServerIdentity.parse(row.now),
        server_before=ServerIdentity.parse(row.server),
        looked_before=row.looked_at,
        synchronous=row.synchronous,
    )


def approve(connection: sa.Connection, above: int) -> int:
    """Approve the present server, so that work goes on. Return the number of the look, which exceeds `above`."""
    sequence: int = connection.execute(
        sa.update(t.continuity)
        .values(server=_SERVER, sequence=sa.func.greatest(_C.sequence, above + 1))
        .returning(_C.sequence)
    ).scalar_one()
    return sequence


def require_known_server(connection: sa.Connection) -> None:
    """Raise Busy until a dispatcher has looked at a Postgres that was started or failed over.

    Call it in the transaction that records an intent to delete: an older copy of the job table then records none. Call
    it before you ask what the operator declared, too: an older copy may know of less.
    """
    if connection.execute(sa.select(_ON_AN_UNKNOWN_SERVER)).scalar_one():
        raise Busy(
            "the job table's Postgres was started or failed over, and no dispatcher has looked yet whether it lost "
            "commits: until then nothing is deleted, and no reader moves",
            code="server-unknown",
            next_step="start a dispatcher: `vecfleet dispatcher`",
        )
