"""Ids in byte order, page by page.

If an index has that order, as in a database whose locale is C, each page is looked up by it. Elsewhere the server sorts
once, and a cursor over the result stays open from page to page: sorting anew for each would take for ever. A token
names the last id that was given, so a caller that lost the cursor goes on without it.

A listing begins by asking whether every row has an id of its own: one without would be on no page.
"""

import base64
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import psycopg
from psycopg import sql

from vecfleet.errors import BadRequest, StoreError, WrongKind
from vecfleet.pgvector.database import DatabaseConnection
from vecfleet.pgvector.errors import translated
from vecfleet.pgvector.tables import CHUNK_ID, Connection, Table

# Each holds a connection and a snapshot, which keeps the server from cleaning up: few, and not for long.
_MOST_OPEN, _KEPT_S = 4, 60.0
_IDLE_TIMEOUT_MS = 120_000
# Looking at every row of a hundred million, or sorting their ids, takes minutes: far more than a page of them.
WHOLE_TABLE = "SET LOCAL statement_timeout = 900000"

_IN_ORDER = """
    SELECT l.collname FROM pg_index x
    JOIN pg_class c ON c.oid = x.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = x.indkey[0]
    JOIN pg_collation l ON l.oid = x.indcollation[0]
    JOIN pg_database d ON d.datname = current_database()
    WHERE n.nspname = %s AND c.relname = %s AND a.attname = %s AND x.indisvalid AND x.indpred IS NULL
      AND (l.collname IN ('C', 'POSIX', 'ucs_basic')
           OR (l.collname = 'default' AND d.datlocprovider = 'c' AND d.datcollate IN ('C', 'POSIX'))
           OR (l.collname = 'default' AND d.datlocprovider = 'b'))
    ORDER BY l.collname = 'default' DESC"""
_IS_UNIQUE = """
    SELECT EXISTS (
        SELECT FROM pg_index x
        JOIN pg_class c ON c.oid = x.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = x.indkey[0]
        WHERE n.nspname = %s AND c.relname = %s AND a.attname = %s AND x.indnkeyatts = 1
          AND x.indisunique AND x.indisvalid AND x.indpred IS NULL)"""


@dataclass(slots=True)
class _Open:
    """A cursor that stands behind the last id of a page."""

    cursor: "psycopg.ServerCursor[tuple[str]]"
    closing: ExitStack
    since: float

    def discard(self) -> None:
        """Close it. It only read, so nothing is lost if the server has ended it already."""
        with suppress(StoreError, psycopg.Error):
            self.closing.close()


class Listings:
    """The listings of one index that are under way. Safe between threads."""

    def __init__(self, database: DatabaseConnection) -> None:
        self._database = database
        self._open: OrderedDict[tuple[str, str, str], _Open] = OrderedDict()
        self._lock = threading.Lock()

    @staticmethod
    def order(connection: Connection, table: Table) -> str | None:
        """Return the collation of an index that has the ids in byte order; None if there is no such index."""
        row = connection.execute(_IN_ORDER, [table.schema, table.name, CHUNK_ID]).fetchone()
        return str(row[0]) if row else None

    @staticmethod
    def require_ids(connection: Connection, table: Table) -> None:
        """Raise WrongKind if a row has no id, or two have the same: a record is known by its id."""
        connection.execute(WHOLE_TABLE)
        column = table.column(CHUNK_ID)
        names = {"table": table.identifier, "id": sql.Identifier(CHUNK_ID)}
        if column is not None and not column.not_null:
            without = sql.SQL("SELECT EXISTS (SELECT FROM {table} WHERE {id} IS NULL)").format(**names)
            if connection.execute(without).fetchone() == (True,):
                raise WrongKind(
                    f"rows of {table.name!r} have no {CHUNK_ID}, so they can be neither copied nor proven",
                    next_step=f"give each of them a {CHUNK_ID} of its own",
                )
        if connection.execute(_IS_UNIQUE, [table.schema, table.name, CHUNK_ID]).fetchone() == (True,):
            return
        twice = sql.SQL("SELECT EXISTS (SELECT FROM {table} GROUP BY {id} HAVING count(*) > 1)").format(**names)
        if connection.execute(twice).fetchone() == (True,):
            raise WrongKind(
                f"several rows of {table.name!r} have the same {CHUNK_ID}, so they cannot be told apart",
                next_step=f"ALTER TABLE {table.name} ADD UNIQUE ({CHUNK_ID}), once each row has its own",
            )

    @staticmethod
    def check(token: str | None) -> None:
        """Raise BadRequest for a token that is none of ours."""
        _last_id(token)

    def page(
        self, table: Table, token: str | None, limit: int, prefix: str, doing: str, *, order: str | None
    ) -> tuple[list[str], str | None]:
        """Return the ids after `token` that begin with `prefix`, and the token for those after them."""
        after = _last_id(token)
        if order is not None:
            with self._database.transaction(doing) as connection:
                rows = connection.execute(statement(table, after, prefix, limit + 1, order=order)).fetchall()
            ids = [id for (id,) in rows]
            return ids[:limit], _token(ids[limit - 1]) if len(ids) > limit else None
        with translated(doing):
            return self._page_of_cursor(table, after, limit, prefix, doing)

    def _page_of_cursor(
        self, table: Table, after: str, limit: int, prefix: str, doing: str
    ) -> tuple[list[str], str | None]:
        held = self._taken(table, prefix, after) or self._opened(table, prefix, after, doing)
        try:
            ids = [id for (id,) in held.cursor.fetchmany(limit)]
        except psycopg.Error:  # the server ended it meanwhile
            held.discard()
            held = self._opened(table, prefix, after, doing)
            ids = [id for (id,) in held.cursor.fetchmany(limit)]
        if len(ids) < limit:
            held.discard()
            return ids, None
        self._keep(table, prefix, ids[-1], held)
        return ids, _token(ids[-1])

    def _opened(self, table: Table, prefix: str, after: str, doing: str) -> _Open:
        with ExitStack() as opening:
            connection = opening.enter_context(self._database.transaction(doing))
            connection.execute(WHOLE_TABLE)
            connection.execute(f"SET LOCAL idle_in_transaction_session_timeout = {_IDLE_TIMEOUT_MS}")
            cursor = opening.enter_context(connection.cursor(f"ids_{id(table):x}"))
            cursor.execute(statement(table, after, prefix))
            return _Open(cursor, opening.pop_all(), time.monotonic())

    def _taken(self, table: Table, prefix: str, after: str) -> _Open | None:
        with self._lock:
            return self._open.pop((table.name, prefix, after), None) if after else None

    def _keep(self, table: Table, prefix: str, last: str, held: _Open) -> None:
        held.since = time.monotonic()
        with self._lock:
            self._open[table.name, prefix, last] = held
            for old in list(self._stale()):
                self._open.pop(old).discard()

    def _stale(self) -> Iterator[tuple[str, str, str]]:
        surplus = len(self._open) - _MOST_OPEN
        now = time.monotonic()
        for number, (key, held) in enumerate(self._open.items()):
            if number < surplus or now - held.since > _KEPT_S:
                yield key


def statement(
    table: Table, after: str, prefix: str, limit: int | None = None, *, order: str | None = None
) -> sql.Composed:
    """Return the query for ids after this one. `order`: the collation of the index to go by; it serves no other one."""
    id: sql.Composable = sql.Identifier(CHUNK_ID)
    if order != "default":
        id = sql.SQL("{} COLLATE {}").format(id, sql.Identifier(order or "C"))
    after = max(after, prefix)
    return sql.SQL(
        "SELECT {id} FROM {table} WHERE {id} {than} {after} AND starts_with({name}, {prefix}) {order}"
    ).format(
        id=id,
        name=sql.Identifier(CHUNK_ID),
        table=table.identifier,
        than=sql.SQL(">=" if after == prefix else ">"),
        after=sql.Literal(after),
        prefix=sql.Literal(prefix),
        order=sql.SQL("ORDER BY {id}").format(id=id)
        + (sql.SQL(" LIMIT {}").format(sql.Literal(limit)) if limit is not None else sql.SQL("")),
    )


def _token(last_id: str) -> str:
    return base64.urlsafe_b64encode(last_id.encode()).decode()


def _last_id(token: str | None) -> str:
    if token is None:
        return ""
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except ValueError as error:
        raise BadRequest("the listing token is not one of ours") from error
