"""A Postgres that comes back older than it was: as a restored backup or a standby that lagged, with all commits of
between lost.

What is kept are all rows of the job table and where its numbers stand. Put back, they come from another start of the
server, as every copy does: until a dispatcher has looked, no worker begins anything there.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import psycopg
from psycopg import sql

_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
_NUMBERS = "SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = 'public'"
_LOOKS = "SELECT coalesce(max(sequence), 0) FROM continuity"
_BY_A_START_BEFORE = "UPDATE continuity SET server = regexp_replace(server, '[^:]*$', 'before')"


@dataclass(frozen=True)
class Older:
    """The job table as it was. `looks`: how often a dispatcher had looked at it."""

    rows: Mapping[str, bytes]
    numbers: Mapping[str, int | None]
    looks: int


def keep(connection: psycopg.Connection) -> Older:
    rows = {}
    for (table,) in connection.execute(_TABLES).fetchall():
        with connection.cursor().copy(sql.SQL("COPY public.{} TO STDOUT").format(sql.Identifier(table))) as copy:
            rows[table] = b"".join(bytes(some) for some in copy)
    return Older(rows, dict(connection.execute(_NUMBERS).fetchall()), looks(connection))


def put_back(connection: psycopg.Connection, older: Older) -> None:
    """In one transaction, without triggers: nobody sees a part of it."""
    tables = sql.SQL(", ").join(sql.Identifier("public", table) for table in older.rows)
    with connection.transaction():
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute(sql.SQL("TRUNCATE {}").format(tables))
        for table, rows in older.rows.items():
            with connection.cursor().copy(sql.SQL("COPY public.{} FROM STDIN").format(sql.Identifier(table))) as copy:
                copy.write(rows)
        for name, last in older.numbers.items():
            connection.execute("SELECT setval(%s, %s, %s)", (f"public.{name}", last or 1, last is not None))
        connection.execute(_BY_A_START_BEFORE)


def looks(connection: psycopg.Connection) -> int:
    """Return how often a dispatcher has looked at the job table that is there now."""
    [(made,)] = connection.execute(_LOOKS).fetchall()
    return int(made)
