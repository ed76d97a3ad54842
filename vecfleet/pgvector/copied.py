"""What belongs to a table and must be made anew for its copy: sequences, indexes, constraints."""

import re

from psycopg import sql

from vecfleet.pgvector import naming
from vecfleet.pgvector.tables import Connection, Table

_INDEXES = """
    SELECT i.relname, x.indisprimary, k.contype, pg_get_indexdef(x.indexrelid),
           format('CREATE %%sINDEX %%I ON %%I.%%I ', CASE WHEN x.indisunique THEN 'UNIQUE ' END, i.relname, n.nspname,
                  c.relname),
           m.amname
    FROM pg_index x
    JOIN pg_class c ON c.oid = x.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am m ON m.oid = i.relam
    LEFT JOIN pg_constraint k ON k.conindid = x.indexrelid AND k.contype IN ('p', 'u')
    WHERE n.nspname = %s AND c.relname = %s
    ORDER BY x.indisprimary DESC, k.contype IS NULL, i.relname"""
_SEQUENCES = """
    SELECT a.attname, format_type(a.atttypid, NULL),
           (SELECT s.relname FROM pg_depend p JOIN pg_class s ON s.oid = p.objid AND s.relkind = 'S'
            WHERE p.refobjid = c.oid AND p.refobjsubid = a.attnum AND p.deptype IN ('a', 'i') LIMIT 1)
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped
      AND (pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%%' OR a.attidentity <> '')"""
_VECTOR_METHODS = ("ivfflat", "hnsw")
# The ends of the names that the seed gives, by which a shortened one is known.
_SUFFIXES = ("chunk_id_key", "collection_idx", "document_idx", "strategy_idx", "vector_idx", "id_seq", "pkey")


def own_sequences(connection: Connection, source: Table, target: Table) -> None:
    """Let the target number its own rows: a copied default would draw from the source's sequence, and die with it.

    The numbers go on behind those of the source.
    """
    for column, kind, _ in connection.execute(_SEQUENCES, [target.schema, target.name]).fetchall():
        at = sql.Identifier(column)
        found = connection.execute(
            "SELECT pg_get_serial_sequence(format('%%I.%%I', %s::text, %s::text), %s)",
            [target.schema, target.name, column],
        ).fetchone()
        if found is None or found[0] is None:  # no identity column, which brings its own
            sequence = sql.Identifier(target.schema, naming.derived(target.name, f"{column}_seq"))
            connection.execute(
                sql.SQL("CREATE SEQUENCE {} AS {} OWNED BY {}.{}").format(
                    sequence, sql.SQL(kind), target.identifier, at
                )
            )
            connection.execute(
                sql.SQL("ALTER TABLE {} ALTER COLUMN {} SET DEFAULT nextval({})").format(
                    target.identifier, at, sql.Literal(sequence.as_string(connection))
                )
            )
        connection.execute(
            sql.SQL(
                "SELECT setval(pg_get_serial_sequence({table}, {column}), greatest(max({at}), 1),"
                " max({at}) IS NOT NULL)"
                " FROM {source}"
            ).format(
                table=sql.Literal(target.identifier.as_string(connection)),
                column=sql.Literal(column),
                at=at,
                source=source.identifier,
            )
        )


def copy_indexes(connection: Connection, source: Table, target: Table) -> None:
    """Build the source's indexes and unique constraints on the target, but for those on vectors; none of them twice."""
    made: set[str] = set()
    for name, primary, constraint, definition, head, method in _indexes_of(connection, source):
        if method in _VECTOR_METHODS:
            continue
        body = definition.removeprefix(head)
        assert body != definition, "Postgres begins the definition of an index with its name and table"
        kind = "UNIQUE" if "UNIQUE" in head.split(" INDEX ")[0] else ""
        if (kind + body) in made:  # the seed's tables have chunk_id unique twice
            continue
        made.add(kind + body)
        index = sql.Identifier(renamed(name, source.name, target.name))
        connection.execute(
            sql.SQL("CREATE {} INDEX {} ON {} {}").format(sql.SQL(kind), index, target.identifier, sql.SQL(body))
        )
        if constraint is not None:
            connection.execute(
                sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {} USING INDEX {}").format(
                    target.identifier, index, sql.SQL("PRIMARY KEY" if primary else "UNIQUE"), index
                )
            )


def rename_belongings(connection: Connection, source: Table, to: str) -> None:
    """After its table was renamed: indexes, constraints and sequences too, so that their old names are free again."""
    for name, *_ in _indexes_of(connection, source, to):
        connection.execute(
            sql.SQL("ALTER INDEX {} RENAME TO {}").format(
                sql.Identifier(source.schema, name), sql.Identifier(renamed(name, source.name, to))
            )
        )
    for _, _, sequence in connection.execute(_SEQUENCES, [source.schema, to]).fetchall():
        if sequence is not None:
            connection.execute(
                sql.SQL("ALTER SEQUENCE {} RENAME TO {}").format(
                    sql.Identifier(source.schema, sequence), sql.Identifier(renamed(sequence, source.name, to))
                )
            )


def renamed(name: str, table: str, to: str) -> str:
    """What an index of `table` is called on the table `to`: `embeddings_a_pkey` becomes `embeddings_b_pkey`.

    One whose name does not tell its table, for it was shortened or chosen freely, is put behind the new one.
    """
    whole = re.compile(rf"(^|_){re.escape(table)}(?=_|$)")
    if whole.search(name):
        suffix = whole.split(name)[-1].lstrip("_")
        return naming.fitted(whole.sub(lambda found: f"{found[1]}{to}", name, count=1), keep=suffix)
    return naming.derived(to, next((suffix for suffix in _SUFFIXES if name.endswith(f"_{suffix}")), name))


def _indexes_of(
    connection: Connection, table: Table, name: str | None = None
) -> list[tuple[str, bool, str | None, str, str, str]]:
    return connection.execute(_INDEXES, [table.schema, name or table.name]).fetchall()
