"""Make one namespace from another inside one database: a single transaction, proven before it is committed.

The target has the source's columns, whatever they are, a sequence of its own, and all its indexes, built after the rows
are there. Count and digest are compared in SQL; the digest covers every column, vectors bit by bit. A move renames the
source and says in its comment that it is a backup. Any failure, even of the connection, leaves nothing behind.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from psycopg import sql

from vecfleet.errors import Refused
from vecfleet.pgvector import naming, tables
from vecfleet.pgvector.copied import copy_indexes, copy_vector_indexes, own_sequences, rename_belongings
from vecfleet.pgvector.indexes import Method
from vecfleet.pgvector.privileges import copy_privileges
from vecfleet.pgvector.tables import Connection, Table

Mode = Literal["copy", "move"]
Telling = Callable[[str], object]

# These types are hashed as they are; every other type by its binary form or its text: a digest must see every bit.
_HASHED = frozenset(
    {"int2", "int4", "int8", "text", "varchar", "bool", "jsonb", "timestamp", "timestamptz", "uuid", "_text", "_int8"}
)
_AGAIN = "run it again; if it stays so, somebody writes past our locks: see who in pg_stat_activity"
_SENT = {"vector": "vector_send", "halfvec": "halfvec_send", "sparsevec": "sparsevec_send"}
_SENT |= {"float4": "float4send", "float8": "float8send"}

_READERS = """
    WITH t AS (SELECT to_regclass(format('%%I.%%I', %s::text, %s::text)) AS oid)
    SELECT CASE v.relkind WHEN 'm' THEN 'the materialized view ' WHEN 'v' THEN 'the view ' ELSE 'a rule of ' END
           || v.oid::regclass AS reader
    FROM t CROSS JOIN pg_depend d JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    JOIN pg_class v ON v.oid = r.ev_class
    WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid AND v.oid <> t.oid
    UNION
    SELECT 'the function ' || d.objid::regprocedure
    FROM t CROSS JOIN pg_depend d
    WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid
    ORDER BY reader"""
_PUBLICATIONS = """
    SELECT quote_ident(p.pubname) FROM pg_publication_rel m JOIN pg_publication p ON p.oid = m.prpubid
    WHERE m.prrelid = to_regclass(format('%%I.%%I', %s::text, %s::text)) ORDER BY 1"""


@dataclass(frozen=True, slots=True)
class Contents:
    """The comparable content of a table: its rows, and the sum of their digests (None: not asked)."""

    rows: int
    digest: int | None


@dataclass(frozen=True, slots=True)
class Moved:
    """The outcome of a copy or a move."""

    source: str
    target: str
    contents: Contents
    backup: str | None
    vector_index: bool
    warnings: tuple[str, ...]

    @property
    def source_action(self) -> str:
        return "kept unchanged" if self.backup is None else f"renamed to {self.backup}"


def move(
    connection: Connection,
    source: str,
    target_namespace: str,
    *,
    mode: Mode,
    now: datetime,
    digest: bool = True,
    method: Method | None = None,
    tell: Telling = lambda _: None,
) -> Moved:
    """Copy the table `source` to a new namespace; with `move` keep the source as a backup only.

    A copy is of one moment and keeps no writer waiting. A move lets nobody write from its beginning to its end:
    otherwise it would leave behind what they wrote. `method`: of our index on the vectors (None: as the source's, or
    ivfflat). Raises Refused if the source is absent, the target exists, or something could not be carried.
    """
    target_name = naming.table_name(target_namespace)
    # Lock before the first look: nobody changes what we see after it.
    held = _locked(connection, source, target_name, mode)
    warnings = _objections(connection, held, mode)
    tell(f"creating {target_name}")
    target = _create_like(connection, held, target_name)
    tell(f"copying the rows of {source}")
    copied = _copy_rows(connection, held, target)
    tell("comparing count and content" if digest else "comparing the count")
    contents = _compare(connection, held, target, copied, digest=digest)
    tell("building the indexes")
    copy_indexes(connection, held, target)
    built, uncarried = copy_vector_indexes(connection, held, target, contents.rows, method)
    warnings += uncarried
    connection.execute(sql.SQL("ANALYZE {}").format(target.identifier))
    warnings += copy_privileges(connection, held, target)
    backup = _set_aside(connection, held, target_namespace, now) if mode == "move" else None
    return Moved(source, target_name, contents, backup, built > 0, tuple(warnings))


def contents_of(connection: Connection, table: Table, *, digest: bool) -> Contents:
    """Count the rows and, if asked, add up the digests of all their columns."""
    summed = sql.SQL("sum(hash_record_extended(ROW({}), 0)::numeric)").format(
        sql.SQL(", ").join(
            _seen(column.name, column.type) for column in sorted(table.columns, key=lambda item: item.name)
        )
    )
    statement = sql.SQL("SELECT count(*), {} FROM {}").format(summed if digest else sql.SQL("NULL"), table.identifier)
    answer = connection.execute(statement).fetchone()
    assert answer is not None, "an aggregate always answers"
    return Contents(answer[0], int(answer[1] or 0) if digest else None)


def _seen(name: str, kind: str) -> sql.Composable:
    column = sql.Identifier(name)
    if kind in _SENT:
        return sql.SQL("{}({})").format(sql.SQL(_SENT[kind]), column)
    return column if kind in _HASHED else sql.SQL("{}::text").format(column)


def _locked(connection: Connection, source: str, target: str, mode: Mode) -> Table:
    where = connection.execute(
        "SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = current_schema() AND c.relname = %s AND c.relkind = 'r'",
        [source],
    ).fetchone()
    if where is None:
        raise Refused(
            f"there is no table {source!r}",
            code="table-missing",
            next_step="`vecfleet pg namespaces` lists them",
        )
    connection.rollback()  # that look took a snapshot: the lock comes first
    connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    how = "SHARE ROW EXCLUSIVE" if mode == "move" else "ACCESS SHARE"
    connection.execute(sql.SQL("LOCK TABLE {} IN {} MODE").format(sql.Identifier(where[0], source), sql.SQL(how)))
    held = tables.find(connection, source)
    if held is None:
        raise Refused(
            f"the table {source!r} was just renamed or dropped",
            code="table-missing",
            next_step="check, then run it again",
        )
    if "backup_of" in held.said and mode == "move":
        raise Refused(
            f"{source!r} is a backup, as its comment says: it can be copied, not moved",
            code="table-is-backup",
            next_step=f"vecfleet pg copy {source} {target.removeprefix(naming.PREFIX)}",
        )
    if held.column(tables.CHUNK_ID) is None:
        raise Refused(
            f"{source!r} is not a table of embeddings: it has no chunk_id",
            code="no-embeddings",
            next_step="`vecfleet pg namespaces` lists those that are",
        )
    if tables.is_taken(connection, held.schema, target):
        raise Refused(
            f"the target table {target!r} exists already: nothing in it is replaced",
            code="target-exists",
            next_step="choose another name, or drop that namespace first",
        )
    return held


def readers_of(connection: Connection, table: Table) -> list[str]:
    """Return the views and functions that mean this very table, not its name: after a rename they go on reading it."""
    return [name for (name,) in connection.execute(_READERS, [table.schema, table.name]).fetchall()]


def _objections(connection: Connection, source: Table, mode: Mode) -> list[str]:
    """Return warnings about what would not be carried.

    Raises Refused if losing it would open what is closed, or leave readers behind on the backup.
    """
    row = connection.execute(
        "SELECT relrowsecurity, (SELECT count(*) FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal),"
        " (SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND c.oid IN (conrelid, confrelid))"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s",
        [source.schema, source.name],
    ).fetchone()
    assert row is not None, "the table is locked"
    secured, triggers, references = row
    if secured:
        raise Refused(
            f"{source.name!r} has row-level security: a copy of it would be open to everybody who may read the table",
            code="row-level-security",
            next_step="create the target yourself with its policies, and move the rows with `vecfleet plan tables`",
        )
    readers = readers_of(connection, source) if mode == "move" else []
    if readers:
        raise Refused(
            f"{', '.join(readers[:5])} would go on reading the backup of {source.name!r}",
            code="readers-left",
            next_step="drop it, move, and create it anew on the target; or copy, and move the readers yourself",
        )
    warnings = [f"{triggers} triggers of {source.name} are not carried"] if triggers else []
    warnings += [f"{references} foreign keys of {source.name} are not carried"] if references else []
    if mode == "move":
        published = connection.execute(_PUBLICATIONS, [source.schema, source.name]).fetchall()
        warnings += [
            f"the publication {name} goes on with the backup of {source.name}: ALTER PUBLICATION … ADD TABLE the target"
            for (name,) in published
        ]
    return warnings


def _create_like(connection: Connection, source: Table, name: str) -> Table:
    connection.execute(
        sql.SQL(
            "CREATE TABLE {} (LIKE {} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED INCLUDING IDENTITY"
            " INCLUDING STORAGE INCLUDING COMPRESSION INCLUDING STATISTICS INCLUDING COMMENTS)"
        ).format(sql.Identifier(source.schema, name), source.identifier)
    )
    target = tables.find(connection, name, source.schema)
    assert target is not None, "it was just created"
    fields = source.said.get("schema")
    if fields is not None:
        tables.comment_on(connection, "TABLE", target.identifier, {"schema": fields})
    own_sequences(connection, source, target)
    return target


def _copy_rows(connection: Connection, source: Table, target: Table) -> int:
    columns = sql.SQL(", ").join(sql.Identifier(column.name) for column in source.columns if not column.computed)
    identity = sql.SQL("OVERRIDING SYSTEM VALUE") if any(column.identity for column in source.columns) else sql.SQL("")
    return connection.execute(
        sql.SQL("INSERT INTO {} ({}) {} SELECT {} FROM {}").format(
            target.identifier, columns, identity, columns, source.identifier
        )
    ).rowcount


def _compare(connection: Connection, source: Table, target: Table, copied: int, *, digest: bool) -> Contents:
    if digest:  # Postgres thinks hashing 6 KB as cheap as adding two numbers: every core is worth it
        connection.execute("SET LOCAL parallel_setup_cost = 0")
        connection.execute("SET LOCAL parallel_tuple_cost = 0")
    before = contents_of(connection, source, digest=digest)
    after = contents_of(connection, target, digest=digest)
    if not before.rows == after.rows == copied:
        raise Refused(
            f"row count mismatch: source={before.rows}, target={after.rows}; nothing was changed",
            code="rows-differ",
            next_step=_AGAIN,
        )
    if before.digest != after.digest:
        raise Refused(
            f"the rows of {target.name!r} are not those of {source.name!r}; nothing was changed",
            code="rows-differ",
            next_step=_AGAIN,
        )
    return after


def _set_aside(connection: Connection, source: Table, moved_to: str, now: datetime) -> str:
    names = naming.backup_names(source.name, now)
    backup = next(name for name in names if not tables.is_taken(connection, source.schema, name))
    connection.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(source.identifier, sql.Identifier(backup)))
    rename_belongings(connection, source, backup)
    said: dict[str, Any] = {"backup_of": source.name, "moved_to": moved_to, "moved_at": now.isoformat()}
    tables.comment_on(connection, "TABLE", sql.Identifier(source.schema, backup), dict(source.said) | said)
    return backup
