"""Rows into a table by binary COPY, each id once: what is there under an id of theirs goes, in the same transaction."""

from collections.abc import Iterable, Sequence

from psycopg import sql

from vecfleet.pgvector.rows import Rows
from vecfleet.pgvector.tables import CHUNK_ID, Connection, Table
from vecfleet.records import Record


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
