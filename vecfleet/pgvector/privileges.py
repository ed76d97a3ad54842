"""Copy a table's owner and grants to its copy: otherwise users who are moved are locked out."""

import psycopg
from psycopg import sql

from vecfleet.pgvector.tables import Connection, Table

_OWNER = """
    SELECT r.rolname, r.rolname = current_user, current_user::text FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles r ON r.oid = c.relowner
    WHERE n.nspname = %s AND c.relname = %s"""
# One row for each privilege of somebody other than the owner: on the table, one of its columns, or the sequence that a
# column's default draws from (`column` tells which, on the target too).
_GRANTS = """
    WITH source AS (
        SELECT c.* FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = %s AND c.relname = %s
    ), drawn AS (
        SELECT a.attname, s.relacl, s.relowner FROM source c JOIN pg_attribute a ON a.attrelid = c.oid
        LEFT JOIN pg_attrdef f ON f.adrelid = c.oid AND f.adnum = a.attnum
        JOIN pg_depend p ON (p.classid = 'pg_attrdef'::regclass AND p.objid = f.oid
                             AND p.refclassid = 'pg_class'::regclass)
        JOIN pg_class s ON s.oid = p.refobjid AND s.relkind = 'S'
        UNION
        SELECT a.attname, s.relacl, s.relowner FROM source c JOIN pg_attribute a ON a.attrelid = c.oid
        JOIN pg_depend p ON p.refclassid = 'pg_class'::regclass AND p.refobjid = c.oid AND p.refobjsubid = a.attnum
                            AND p.classid = 'pg_class'::regclass AND p.deptype IN ('a', 'i')
        JOIN pg_class s ON s.oid = p.objid AND s.relkind = 'S'
    ), every AS (
        SELECT 'table' AS what, NULL::name AS "column", relacl AS acl, relowner FROM source
        UNION ALL
        SELECT 'column', a.attname, a.attacl, c.relowner FROM source c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE NOT a.attisdropped
        UNION ALL
        SELECT 'sequence', attname, relacl, relowner FROM drawn
    )
    SELECT what, "column", privilege_type, coalesce(quote_ident(r.rolname), 'PUBLIC'), is_grantable
    FROM every CROSS JOIN aclexplode(acl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
    WHERE a.grantee <> relowner"""


def copy_privileges(connection: Connection, source: Table, target: Table) -> list[str]:
    """Give the target the source's owner and its grants: on the table, its columns and its sequences.

    If this role may not give the table away, the source's owner is granted everything on it. Returns warnings about
    that for the operator.
    """
    row = connection.execute(_OWNER, [source.schema, source.name]).fetchone()
    assert row is not None, "the table is locked"
    owner, ours, role = row
    warnings = []
    if not ours:
        try:
            with connection.transaction():
                connection.execute(
                    sql.SQL("ALTER TABLE {} OWNER TO {}").format(target.identifier, sql.Identifier(owner))
                )
        except psycopg.errors.InsufficientPrivilege:
            _grant_everything(connection, target, owner)
            warnings.append(
                f"{target.name} belongs to {role}, which may not give it to {owner}, the owner of {source.name}: "
                f"{owner} was granted all privileges on it instead"
            )
    for what, column, privilege, grantee, grantable in connection.execute(
        _GRANTS, [source.schema, source.name]
    ).fetchall():
        on: sql.Composable = target.identifier
        if what == "sequence":
            sequence = _sequence_of(connection, target, column)
            if sequence is None:
                continue  # the target's column draws from none
            on = sql.SQL("SEQUENCE {}").format(sql.SQL(sequence))
        connection.execute(
            sql.SQL("GRANT {}{} ON {} TO {}{}").format(
                sql.SQL(privilege),
                sql.SQL(" ({})").format(sql.Identifier(column)) if what == "column" else sql.SQL(""),
                on,
                sql.SQL(grantee),
                sql.SQL(" WITH GRANT OPTION" if grantable else ""),
            )
        )
    return warnings


def _grant_everything(connection: Connection, target: Table, role: str) -> None:
    to = sql.Identifier(role)
    connection.execute(sql.SQL("GRANT ALL ON {} TO {} WITH GRANT OPTION").format(target.identifier, to))
    for column in target.columns:
        sequence = _sequence_of(connection, target, column.name)
        if sequence is not None:
            connection.execute(
                sql.SQL("GRANT ALL ON SEQUENCE {} TO {} WITH GRANT OPTION").format(sql.SQL(sequence), to)
            )


def _sequence_of(connection: Connection, table: Table, column: str) -> str | None:
    """Return the sequence that a column owns, quoted as SQL needs it."""
    row = connection.execute(
        "SELECT pg_get_serial_sequence(format('%%I.%%I', %s::text, %s::text), %s)", [table.schema, table.name, column]
    ).fetchone()
    return row[0] if row else None
