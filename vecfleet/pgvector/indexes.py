"""The indexes of a namespace's table: those of its layout, and ours on its vectors, which searches by cosine use.

Ours is known by its name, `{table}_vector_idx`, and by its definition: on the column of vectors, for cosine. Any other
belongs to its owner: it is neither rebuilt nor dropped. Every function works inside the caller's transaction.
"""

import math
from dataclasses import dataclass
from typing import Literal

from psycopg import sql

from vecfleet.errors import Refused
from vecfleet.pgvector import naming, values
from vecfleet.pgvector.layouts import LAYOUTS
from vecfleet.pgvector.tables import Column, Connection, Table, count, is_taken

Method = Literal["ivfflat", "hnsw"]

DEFAULT_METHOD: Method = "ivfflat"
DEFAULT_EF, _MAX_EF = 40, 1_000  # pgvector's, of `hnsw.ef_search`
# pgvector's advice: a thousand rows a list, and from a million on the square root of the rows.
_ROWS_PER_LIST, _MANY_ROWS = 1_000, 1_000_000
_COSINE = """
    SELECT i.relname, m.amname, x.indisvalid
    FROM pg_index x
    JOIN pg_class c ON c.oid = x.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am m ON m.oid = i.relam
    JOIN pg_opclass o ON o.oid = x.indclass[0]
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = x.indkey[0]
    WHERE n.nspname = %s AND c.relname = %s AND m.amname IN ('ivfflat', 'hnsw') AND x.indpred IS NULL
      AND a.attname = %s AND o.opcname = %s
    ORDER BY i.relname"""


@dataclass(frozen=True, slots=True)
class VectorIndex:
    """An index for cosine on the column of vectors. `valid`: searches may use it."""

    name: str
    method: Method
    valid: bool


def searched_index(connection: Connection, table: Table) -> VectorIndex | None:
    """Return the index that a search by cosine uses, whoever built it; None if none is usable."""
    return next((index for index in _cosine_indexes(connection, table) if index.valid), None)


def own_index(connection: Connection, table: Table) -> VectorIndex | None:
    """Return our index on its vectors, usable or not."""
    name = own_name(table)
    return next((index for index in _cosine_indexes(connection, table) if index.name == name), None)


def own_name(table: Table) -> str:
    return naming.derived(table.name, "vector_idx")


def _cosine_indexes(connection: Connection, table: Table) -> list[VectorIndex]:
    vector = table.vector
    if vector is None:
        return []
    rows = connection.execute(_COSINE, [table.schema, table.name, vector.name, _operators(vector)]).fetchall()
    return [VectorIndex(*row) for row in rows]


def _operators(vector: Column) -> str:
    return f"{vector.type}_cosine_ops"


def build_vector_index(connection: Connection, table: Table, name: str, rows: int, method: Method) -> bool:
    """Build an index for cosine on the vectors, with parameters for the number of rows.

    Return False if there is nothing to index: no rows (an ivfflat of none finds nothing later), or more dimensions than
    pgvector indexes.
    """
    vector = table.vector
    if vector is None or not rows or not is_indexable(vector):
        return False
    options = (
        f"lists = {lists_for(rows)}" if method == "ivfflat" else "m = {}, ef_construction = {}".format(*m_for(rows))
    )
    connection.execute(
        sql.SQL("CREATE INDEX {} ON {} USING {} ({} {}) WITH ({})").format(
            sql.Identifier(name),
            table.identifier,
            sql.SQL(method),
            sql.Identifier(vector.name),
            sql.SQL(_operators(vector)),
            sql.SQL(options),
        )
    )
    return True


def is_indexable(vector: Column) -> bool:
    most = values.MAX_INDEXED_HALFVEC if vector.type == values.HALFVEC else values.MAX_INDEXED_VECTOR
    return vector.size is not None and vector.size <= most


def lists_for(rows: int) -> int:
    """Return how many lists an ivfflat index of so many rows gets."""
    return max(1, rows // _ROWS_PER_LIST if rows <= _MANY_ROWS else round(math.sqrt(rows)))


def probes_for(rows: int) -> int:
    """Return how many of its lists a search looks at: the square root of their number, as pgvector advises."""
    return max(1, math.ceil(math.sqrt(lists_for(rows))))


def ef_for(limit: int) -> int:
    """Return how many candidates a search of an hnsw index keeps: it never gives more rows than these.

    Twice the limit, because deleted rows are among them; at least pgvector's default, at most its maximum.
    """
    return min(_MAX_EF, max(DEFAULT_EF, 2 * limit))


def scans_go_on(connection: Connection) -> bool:
    """Say whether pgvector can go on with a scan that has found too few rows: from 0.8 on."""
    row = connection.execute(
        "SELECT string_to_array(extversion, '.')::int[] >= ARRAY[0, 8] FROM pg_extension WHERE extname = 'vector'"
    ).fetchone()
    return row == (True,)


def m_for(rows: int) -> tuple[int, int]:
    """Return the connections of an hnsw index and its `ef_construction`: pgvector's defaults, more for many rows."""
    return (16, 64) if rows <= _MANY_ROWS else (24, 128)


def renew(connection: Connection, table: Table, method: Method | None) -> bool:
    """Build the layout's missing indexes, and our vector index anew for the rows there are now.

    Readers go on with the old one until the new one is there; writers wait. `method` None: as it was built. Return
    False if there is nothing to index; the old one then stays. Raises Refused if somebody else's index has its name.
    """
    # Excludes another renewal at the same time, before anything else is locked: neither readers nor writers wait.
    connection.execute(sql.SQL("LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE").format(table.identifier))
    _create_missing(connection, table)
    own, name = own_index(connection, table), own_name(table)
    if own is None and is_taken(connection, table.schema, name):
        raise Refused(
            f"{name!r} is not our index on the vectors of {table.name!r}, but has its name: it is left as it is",
            code="foreign-index",
            next_step=f'rename it, then run this again: ALTER INDEX "{name}" RENAME TO …',
        )
    chosen = method or (own.method if own else DEFAULT_METHOD)
    anew = naming.derived(table.name, "vector_idx_new")
    if not build_vector_index(connection, table, anew, count(connection, table), chosen):
        return False
    if own is not None:
        connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(table.schema, name)))
    connection.execute(
        sql.SQL("ALTER INDEX {} RENAME TO {}").format(sql.Identifier(table.schema, anew), sql.Identifier(name))
    )
    return True


def _create_missing(connection: Connection, table: Table) -> None:
    """Create the layout's indexes that a table lacks, by their names; a table of another layout keeps its own."""
    layout = next(
        (
            candidate
            for candidate in LAYOUTS.values()
            if {c.name for c in candidate.columns} <= {c.name for c in table.columns}
        ),
        None,
    )
    for index in layout.plain_indexes() if layout is not None else ():
        connection.execute(
            sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} ({})").format(
                sql.Identifier(index.named(table.name)),
                table.identifier,
                sql.SQL(", ").join(map(sql.Identifier, index.columns)),
            )
        )
