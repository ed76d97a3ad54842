"""Parts of a table that must be made anew for its copy: sequences, indexes, constraints."""

import re
from itertools import count
from typing import NamedTuple

from psycopg import sql

from vecfleet.pgvector import indexes, naming
from vecfleet.pgvector.indexes import Method
from vecfleet.pgvector.tables import Connection, Table, is_taken

_INDEXES = """
    SELECT i.relname, x.indisprimary, k.contype, pg_get_indexdef(x.indexrelid),
           format('CREATE %%sINDEX %%I ON %%I.%%I ', CASE WHEN x.indisunique THEN 'UNIQUE ' END, i.relname, n.nspname,
                  c.relname),
           m.amname, x.indisvalid
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
# A name that was shortened: its digest, and one of the ends that the seed gives.
_SHORTENED = re.compile(
    r"_[0-9a-f]{16}_(chunk_id_key|collection_idx|document_idx|strategy_idx|vector_idx|id_seq|pkey)$"
)


class _Index(NamedTuple):
    name: str
    primary: bool
    constraint: str | None
    definition: str
    head: str
    method: str
    valid: bool

    @property
    def body(self) -> str:
        """The definition after name and table: method, columns, operator classes, parameters, condition."""
        body = self.definition.removeprefix(self.head)
        assert body != self.definition, "Postgres begins the definition of an index with its name and table"
        return body


def own_sequences(connection: Connection, source: Table, target: Table) -> None:
    """Give the target its own sequences: a copied default would draw from the source's sequence, and die with it.

    The numbers go on behind those of the source.
    """
    for column, kind, _ in connection.execute(_SEQUENCES, [target.schema, target.name]).fetchall():
        at = sql.Identifier(column)
        row = connection.execute(
            "SELECT pg_get_serial_sequence(format('%%I.%%I', %s::text, %s::text), %s)",
            [target.schema, target.name, column],
        ).fetchone()
        if row is None or row[0] is None:  # an identity column brings its own
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
    """Build the source's indexes and unique constraints on the target, except those on vectors; none of them twice."""
    made: set[str] = set()
    for source_index in _indexes_of(connection, source):
        if source_index.method in _VECTOR_METHODS:
            continue
        kind = "UNIQUE" if "UNIQUE" in source_index.head.split(" INDEX ")[0] else ""
        if (kind + source_index.body) in made:  # the seed's tables have chunk_id unique twice
            continue
        made.add(kind + source_index.body)
        name = _free_name(connection, target.schema, renamed(source_index.name, source.name, target.name))
        _build(connection, target, name, source_index.body, kind)
        if source_index.constraint is not None:
            index = sql.Identifier(name)
            connection.execute(
                sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {} USING INDEX {}").format(
                    target.identifier, index, sql.SQL("PRIMARY KEY" if source_index.primary else "UNIQUE"), index
                )
            )


def copy_vector_indexes(
    connection: Connection, source: Table, target: Table, rows: int, method: Method | None
) -> tuple[int, list[str]]:
    """Build the source's vector indexes on the target as they are; our own ivfflat is built for these rows.

    `method`: of our index (None: as the source's). A source without any gets ours. Returns how many were built, and
    warnings for the operator.
    """
    own = indexes.own_index(connection, source)
    vector_indexes = [
        index for index in _indexes_of(connection, source) if index.method in _VECTOR_METHODS and index.valid
    ]
    theirs = [index for index in vector_indexes if own is None or index.name != own.name]
    built = 0
    if own is not None or method is not None or not theirs:
        chosen = method or (own.method if own is not None else indexes.DEFAULT_METHOD)
        same = next((index for index in vector_indexes if own is not None and index.name == own.name), None)
        if rows and same is not None and same.method == chosen == "hnsw":
            _build(connection, target, indexes.own_name(target), same.body)
            built += 1
        else:
            built += indexes.build_vector_index(connection, target, indexes.own_name(target), rows, chosen)
    warnings = []
    for index in theirs:
        if index.method == "ivfflat" and not rows:
            warnings.append(f"the index {index.name} is not carried: an ivfflat of no rows finds nothing later")
            continue
        name = _free_name(connection, target.schema, renamed(index.name, source.name, target.name))
        _build(connection, target, name, index.body)
        built += 1
    return built, warnings


def _build(connection: Connection, table: Table, name: str, body: str, kind: str = "") -> None:
    connection.execute(
        sql.SQL("CREATE {} INDEX {} ON {} {}").format(
            sql.SQL(kind), sql.Identifier(name), table.identifier, sql.SQL(body)
        )
    )


def rename_belongings(connection: Connection, source: Table, to: str) -> None:
    """Rename a renamed table's indexes, constraints and sequences too, so that their old names are free again."""
    for index in _indexes_of(connection, source, to):
        free = _free_name(connection, source.schema, renamed(index.name, source.name, to))
        connection.execute(
            sql.SQL("ALTER INDEX {} RENAME TO {}").format(
                sql.Identifier(source.schema, index.name), sql.Identifier(free)
            )
        )
    for _, _, sequence in connection.execute(_SEQUENCES, [source.schema, to]).fetchall():
        if sequence is not None:
            free = _free_name(connection, source.schema, renamed(sequence, source.name, to))
            connection.execute(
                sql.SQL("ALTER SEQUENCE {} RENAME TO {}").format(
                    sql.Identifier(source.schema, sequence), sql.Identifier(free)
                )
            )


def renamed(name: str, table: str, to: str) -> str:
    """Return the name that an index of `table` has on the table `to`: `embeddings_a_pkey` → `embeddings_b_pkey`.

    A name that was shortened or chosen freely does not tell its table: it is put behind the new table's name.
    """
    whole = re.compile(rf"(^|_){re.escape(table)}(?=_|$)")
    if whole.search(name):
        suffix = whole.split(name)[-1].lstrip("_")
        return naming.fitted(whole.sub(lambda match: f"{match[1]}{to}", name, count=1), keep=suffix)
    shortened = _SHORTENED.search(name)
    return naming.derived(to, shortened[1] if shortened else name)


def _free_name(connection: Connection, schema: str, name: str) -> str:
    """Return the name or, if it is taken, the name and a number."""
    if not is_taken(connection, schema, name):
        return name
    numbered = (naming.derived(name, str(number)) for number in count(2))
    return next(candidate for candidate in numbered if not is_taken(connection, schema, candidate))


def _indexes_of(connection: Connection, table: Table, name: str | None = None) -> list[_Index]:
    return [_Index(*row) for row in connection.execute(_INDEXES, [table.schema, name or table.name]).fetchall()]
