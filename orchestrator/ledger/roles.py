"""What the role of DATABASE_URL may do with the job table: use it, and change neither its shape nor its audit."""

import sqlalchemy as sa
from psycopg import sql

from orchestrator.tables import metadata
from vecfleet.errors import Refused

ADDED_TO = ("audit",)
"""Rows are added and read; `audit_seal` and `audit_empty` change them, and say what they refuse."""
READ = ("audit_head", "alembic_version")
_FUNCTIONS = ("audit_seal", "audit_empty")


def allow(connection: sa.Connection, fleet_url: str) -> None:
    """Let the role that `fleet_url` names use the job table; make it, with its password, where it is not there.

    The connected role owns the tables. Safe to repeat: what an earlier grant gave beyond this is taken back. Raises
    Refused where the role is missing and may not be made, or where it could change everything anyway.
    """
    fleet = sa.make_url(fleet_url)
    role = fleet.username or ""
    owner, schema = connection.execute(sa.text("SELECT current_user, current_schema()")).one()
    if role == owner:
        raise Refused(
            f"DATABASE_URL and OWNER_DATABASE_URL both name the role {role}",
            next_step="name another role in DATABASE_URL: it is made where it is not there",
        )
    _require_plain(connection, role, fleet.password)
    every = [*metadata.tables, "alembic_version"]
    written = [name for name in metadata.tables if name not in (*ADDED_TO, *READ)]
    for statement, names in (
        ("REVOKE ALL ON {names} FROM {role}", every),
        ("REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC", []),  # which Postgres 14 grants to everybody
        ("GRANT USAGE ON SCHEMA {schema} TO {role}", []),
        ("GRANT SELECT, INSERT, UPDATE, DELETE ON {names} TO {role}", written),
        ("GRANT SELECT, INSERT ON {names} TO {role}", ADDED_TO),
        ("GRANT SELECT ON {names} TO {role}", READ),
        ("GRANT EXECUTE ON FUNCTION {names} TO {role}", _FUNCTIONS),
    ):
        _run(
            connection,
            sql.SQL(statement).format(
                names=sql.SQL(", ").join(sql.Identifier(schema, name) for name in names),
                schema=sql.Identifier(schema),
                role=sql.Identifier(role),
            ),
        )


def _require_plain(connection: sa.Connection, role: str, password: str | None) -> None:
    """Make the role where it is not there. Raises Refused where it is one that no grant binds."""
    found = connection.execute(sa.text("SELECT rolsuper FROM pg_roles WHERE rolname = :role"), {"role": role})
    superuser = found.scalar_one_or_none()
    if superuser:
        raise Refused(
            f"{role}, the role of DATABASE_URL, is a superuser, whom no grant binds",
            next_step="name another role in DATABASE_URL: it is made where it is not there",
        )
    if superuser is not None:
        return
    may = connection.execute(
        sa.text("SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user")
    ).scalar_one()
    if not may or not password:
        raise Refused(
            f"the role {role} of DATABASE_URL is not there, and OWNER_DATABASE_URL's may not make it"
            if password
            else f"the role {role} of DATABASE_URL is not there, and the address names no password to make it with",
            next_step=f"as an administrator: CREATE ROLE {role} LOGIN PASSWORD '…'; then `vecfleet migrate` again",
        )
    statement = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), password)
    _run(connection, statement)


def _run(connection: sa.Connection, statement: sql.Composed) -> None:
    """Names are quoted by the driver; SQLAlchemy has no words for grants."""
    connection.exec_driver_sql(statement.as_string().replace("%", "%%"))
