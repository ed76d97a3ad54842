"""Rows out of a table and into it by binary COPY, by their ids.

Each id is written once: older rows under these ids are deleted in the same transaction.
"""

from collections.abc import Iterable, Sequence

from psycopg import sql

from vecfleet.pgvector.rows import Rows
from vecfleet.pgvector.tables import CHUNK_ID, Connection, Table
from vecfleet.records import Record

_ROW = sql.SQL("tableoid::text || ctid::text")
"""The place of a row. A row that is locked stays there until the transaction ends."""


def read(
    connection: Connection, table: Table, rows: Rows, ids: Sequence[str], *, lock: bool = False
) -> list[tuple[str, Record]]:
    """Return the records with these ids, each with its row's place. With `lock` nobody else changes them from here on.

    The ids are locked in one order, so that two of us wait and never deadlock.
    """
    locked = sql.SQL("ORDER BY {} FOR UPDATE").format(sql.Identifier(CHUNK_ID)) if lock else sql.SQL("")
    statement = sql.SQL("COPY (SELECT {}, {} FROM {} WHERE {} = ANY(%s) {}) TO STDOUT (FORMAT BINARY)").format(
        _ROW, rows.read, table.identifier, sql.Identifier(CHUNK_ID), locked
    )
    with connection.cursor().copy(statement, [[id for id in ids if "\0" not in id]]) as copy:
        copy.set_types(["text", *rows.read_types])
        return [(row[0], rows.record(row[1:])) for row in copy.rows()]


def replace(connection: Connection, table: Table, rows: Rows, records: Iterable[Record]) -> int:
    """Write these records; of several with one id the last. Returns how many rows there are of them."""
    by_id = {record.id: record for record in records}
    packed = [rows.row(by_id[id]) for id in sorted(by_id)]  # in one order, so that two writers wait and never deadlock
    delete(connection, table, list(by_id))
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(table.identifier, rows.written)
    with connection.cursor().copy(statement) as copy:
        copy.set_types(rows.written_types)
        for row in packed:
            copy.write_row(row)
    return len(packed)


def delete(connection: Connection, table: Table, ids: Sequence[str]) -> int:
    """Delete the rows with these ids. Returns how many there were."""
    statement = sql.SQL("DELETE FROM {} WHERE {} = ANY(%s)").format(table.identifier, sql.Identifier(CHUNK_ID))
    return connection.execute(statement, [list(ids)]).rowcount


def delete_rows(connection: Connection, table: Table, rows: Sequence[tuple[str, str]]) -> None:
    """Delete the rows at these places, each with its id, by whose index it is found."""
    statement = sql.SQL("DELETE FROM {} WHERE {} = ANY(%s) AND {} = ANY(%s)").format(
        table.identifier, sql.Identifier(CHUNK_ID), _ROW
    )
    connection.execute(statement, [[id for _, id in rows], [row for row, _ in rows]])
