"""Tables of namespaces: finding and creating them. Statements are composed by the driver, names quoted.

Every function works inside the caller's transaction. Our notes on a table or schema of our own stand in its comment, as
JSON under `vecfleet`. They hold the namespace's name if the table's does not tell it, its filterable fields, or that it
is a backup. A table is never taken for a backup by its name.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
import psycopg
from psycopg import sql

from vecfleet.errors import Refused
from vecfleet.pgvector import naming, values
from vecfleet.pgvector.layouts import EMBEDDING, LAYOUTS, SPARSE_COLUMNS, IndexSpec, LayoutName

Connection = psycopg.Connection[tuple[Any, ...]]

CHUNK_ID = "chunk_id"
OUR_KEY = "vecfleet"


@dataclass(frozen=True, slots=True)
class Column:
    """A column as it is. `type`: Postgres's own short name, such as int4 or _text; `size`: of varchar and vectors."""

    name: str
    type: str
    size: int | None
    not_null: bool
    computed: bool  # from other columns: nobody writes it
    identity: bool  # numbered by the database


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it is. `rows` is Postgres's own guess, or -1 if it has none."""

    schema: str
    name: str
    columns: tuple[Column, ...]
    rows: int = -1
    said: Mapping[str, Any] = field(default_factory=dict)  # what our comment says

    @property
    def vector(self) -> Column | None:
        """Its column of vectors."""
        column = self.column(EMBEDDING)
        return column if column is not None and column.type in (values.VECTOR, values.HALFVEC) else None

    @property
    def has_sparse(self) -> bool:
        return all(self.column(spec.name) is not None for spec in SPARSE_COLUMNS)

    @property
    def namespace(self) -> str | None:
        """The namespace whose table this is; None for a backup, or for no table of records at all."""
        if "backup_of" in self.said or self.column(CHUNK_ID) is None or not (self.vector or self.has_sparse):
            return None
        named = self.said.get("namespace")
        return named if isinstance(named, str) else naming.namespace_of(self.name)

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)


_LOOK = """
    SELECT n.nspname, c.relname, c.reltuples, obj_description(c.oid, 'pg_class'),
           a.attname, t.typname, a.atttypmod, a.attnotnull, a.attgenerated <> '', a.attidentity <> ''
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_type t ON t.oid = a.atttypid
    WHERE c.relkind IN ('r', 'p') AND n.nspname = coalesce(%(schema)s, current_schema()) AND {which}
    ORDER BY c.relname, a.attnum"""
_ONE = sql.SQL(_LOOK).format(which=sql.SQL("c.relname = %(name)s"))
# Not LIKE, in which the underscore stands for any character.
_EVERY = sql.SQL(_LOOK).format(which=sql.SQL("starts_with(c.relname, %(name)s)"))


def find(connection: Connection, name: str, schema: str | None = None) -> Table | None:
    """Return the table of this name, or None."""
    return next(_tables(connection.execute(_ONE, {"schema": schema, "name": name})), None)


def find_namespace(connection: Connection, namespace: str, schema: str | None = None) -> Table | None:
    """Return the table of a namespace, or None."""
    table = find(connection, naming.table_name_of_any(namespace), schema)
    return table if table is not None and table.namespace == namespace else None


def objection(connection: Connection, namespace: str, schema: str | None = None) -> Refused | None:
    """Return why the holder of a namespace's table name is none; None if it is one, or nothing has the name."""
    name = naming.table_name_of_any(namespace)
    taken = is_taken(connection, schema, name)  # before the look: anything created in between is then a table
    table = find(connection, name, schema)
    if table is None:
        if not taken:
            return None
        return Refused(
            f"{name!r} is there and is no table",
            code="no-table",
            next_step="choose another name, or rename what is there",
        )
    if table.namespace is not None:
        return None
    if "backup_of" in table.said:
        return Refused(
            f"{name!r} is the backup of {table.said['backup_of']!r}, as its comment says, and no namespace",
            code="table-is-backup",
            next_step=f"`vecfleet pg copy {name} NAMESPACE` copies it to one; to make it one where it is: "
            f'COMMENT ON TABLE "{name}" IS NULL',
        )
    lacks = "chunk_id" if table.column(CHUNK_ID) is None else f"column {EMBEDDING} of vectors"
    return Refused(
        f"the table {name!r} is there and is not a table of embeddings: it has no {lacks}",
        code="no-embeddings",
        next_step="choose another name, or rename that table",
    )


def namespaces(connection: Connection, schema: str | None = None) -> list[Table]:
    """Return the tables of all namespaces, by name: neither backups nor tables that only look like them."""
    candidates = _tables(connection.execute(_EVERY, {"schema": schema, "name": naming.PREFIX}))
    return sorted(
        (table for table in candidates if table.namespace is not None), key=lambda table: table.namespace or ""
    )


def backups(connection: Connection, schema: str | None = None) -> list[Table]:
    """Return the tables that moves of namespaces left, whose comment says what was moved."""
    candidates = _tables(connection.execute(_EVERY, {"schema": schema, "name": naming.LEGACY_TABLE}))
    return [table for table in candidates if "backup_of" in table.said]


def _tables(rows: Iterable[tuple[Any, ...]]) -> Iterator[Table]:
    """Yield the tables. Rows come table by table, one for each column."""
    held: tuple[Any, ...] | None = None
    columns: list[Column] = []
    for schema, name, guess, comment, *column in rows:
        if held is not None and held[:2] != (schema, name):
            yield _table(held, columns)
            columns = []
        held = (schema, name, guess, comment)
        columns.append(_column(*column))
    if held is not None:
        yield _table(held, columns)


def _table(row: tuple[Any, ...], columns: list[Column]) -> Table:
    schema, name, guess, comment = row
    return Table(schema, name, tuple(columns), int(guess), ours(comment))


def _column(name: str, kind: str, modifier: int, not_null: bool, computed: bool, identity: bool) -> Column:
    size = None
    if modifier >= 0:
        size = modifier - 4 if kind in ("varchar", "bpchar") else modifier
    return Column(name, kind, size, not_null, computed, identity)


def ours(comment: str | None) -> Mapping[str, Any]:
    """Return our part of a comment; nothing if somebody else wrote it."""
    try:
        body = orjson.loads(comment) if comment and comment.startswith("{") else None
    except orjson.JSONDecodeError:
        return {}
    said = body.get(OUR_KEY) if isinstance(body, dict) else None
    return said if isinstance(said, dict) else {}


def comment_on(connection: Connection, what: Literal["TABLE", "SCHEMA"], name: sql.Identifier, said: Any) -> None:
    text = orjson.dumps({OUR_KEY: said}).decode()
    connection.execute(sql.SQL("COMMENT ON {} {} IS {}").format(sql.SQL(what), name, sql.Literal(text)))


def create(
    connection: Connection,
    namespace: str,
    *,
    schema: str,
    vector: str | None,
    sparse: bool = False,
    layout: LayoutName = "seed",
    fields: Mapping[str, Any] | None = None,
) -> None:
    """Create the table of a namespace and its indexes, except that of the vectors: an empty one would serve nobody.

    `vector` is the type with its dimension, or None for a table of sparse values alone. Raises psycopg's DuplicateTable
    if it exists.
    """
    name = naming.table_name_of_any(namespace)
    table = sql.Identifier(schema, name)
    chosen = LAYOUTS[layout]
    columns = [spec for spec in chosen.columns if vector is not None or spec.name != EMBEDDING]
    columns += SPARSE_COLUMNS if sparse else ()
    parts: list[sql.Composable] = [
        sql.SQL("{} {} {}").format(
            sql.Identifier(spec.name), sql.SQL(spec.type.format(vector=vector)), sql.SQL(spec.rest)
        )
        for spec in columns
    ]
    parts += [_constraint(index, name) for index in chosen.unique_indexes()]
    connection.execute(sql.SQL("CREATE TABLE {} ({})").format(table, sql.SQL(", ").join(parts)))
    for index in chosen.plain_indexes():
        connection.execute(
            sql.SQL("CREATE INDEX {} ON {} ({})").format(
                sql.Identifier(index.named(name)), table, sql.SQL(", ").join(map(sql.Identifier, index.columns))
            )
        )
    said = {"namespace": namespace} if not naming.is_valid(namespace) else {}
    if fields is not None:
        said["schema"] = dict(fields)  # type: ignore[assignment]
    if said:
        comment_on(connection, "TABLE", table, said)


def _constraint(index: IndexSpec, table: str) -> sql.Composable:
    kind = "PRIMARY KEY" if index.columns == ("id",) else "UNIQUE"
    return sql.SQL("CONSTRAINT {} {} ({})").format(
        sql.Identifier(index.named(table)), sql.SQL(kind), sql.SQL(", ").join(map(sql.Identifier, index.columns))
    )


def is_taken(connection: Connection, schema: str | None, name: str) -> bool:
    """Say whether any table, index, view or sequence has this name."""
    statement = "SELECT to_regclass(format('%%I.%%I', coalesce(%s::text, current_schema()), %s::text)) IS NOT NULL"
    return connection.execute(statement, [schema, name]).fetchone() == (True,)


def count(connection: Connection, table: Table) -> int:
    answer = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(table.identifier)).fetchone()
    return int(answer[0]) if answer else 0
