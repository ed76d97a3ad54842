"""Rights of the role of DATABASE_URL: it uses the job table but changes neither its shape nor its audit."""

import sqlalchemy as sa
from psycopg import sql

from orchestrator.ledger.tables import metadata
from vecfleet.errors import Refused

ADDED_TO = ("audit",)
"""Tables whose rows the role adds and reads; `audit_seal` and `audit_empty` change them and say what they refuse."""
READ = ("audit_head", "alembic_version")
_FUNCTIONS = ("audit_seal", "audit_empty")
_NOTED = ("who", "action", "job_id", "payload", "payload_digest")
"""Columns of an act that its caller fills; Postgres adds number and time, and `audit_seal` the seal."""
_SKIPPED = ("job", "batch")
"""Tables whose numbers get a gap after lost commits (`orchestrator.ledger.doubts`)."""
_RULES_IT = sa.text("""
    SELECT rolcreaterole OR EXISTS (
        SELECT FROM (
            SELECT relowner FROM pg_class WHERE relnamespace = CAST(quote_ident(:schema) AS regnamespace)
            UNION SELECT proowner FROM pg_proc WHERE pronamespace = CAST(quote_ident(:schema) AS regnamespace)
            UNION SELECT nspowner FROM pg_namespace WHERE oid = CAST(quote_ident(:schema) AS regnamespace)
            UNION SELECT datdba FROM pg_database WHERE datname = current_database()
        ) AS owners (id)
        WHERE pg_has_role(:role, id, 'MEMBER')
    )
    FROM pg_roles WHERE rolname = :role
""")


def allow(connection: sa.Connection, fleet_url: str) -> None:
    """Let the role that `fleet_url` names use the job table; create it with its password if it is missing.

    The connected role owns the tables. Safe to repeat: earlier grants beyond this are revoked. Raises Refused if the
    role is missing and may not be created, or if it could change everything anyway.
    """
    fleet = sa.make_url(fleet_url)
    role = fleet.username or ""
    owner, schema = connection.execute(sa.text("SELECT current_user, current_schema()")).one()
    if role == owner:
        raise Refused(
            f"DATABASE_URL and OWNER_DATABASE_URL both name the role {role}",
            code="same-role",
            next_step="name another role in DATABASE_URL: it is created if it is missing",
        )
    _require_plain(connection, role, fleet.password)
    if connection.execute(_RULES_IT, {"role": role, "schema": schema}).scalar_one():
        raise Refused(
            f"{role}, the role of DATABASE_URL, owns a part of the job table, or may act for an owner",
            code="owning-role",
            next_step="name another role in DATABASE_URL: it is created if it is missing",
        )
    every = [*metadata.tables, "alembic_version"]
    sequences = [_sequence(connection, name) for name in _SKIPPED]
    written = [name for name in metadata.tables if name not in (*ADDED_TO, *READ)]
    for statement, names in (
        ("REVOKE ALL ON {names} FROM {role}", every),
        ("REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC", []),  # which Postgres 14 grants to everybody
        ("GRANT USAGE ON SCHEMA {schema} TO {role}", []),
        ("GRANT SELECT, INSERT, UPDATE, DELETE ON {names} TO {role}", written),
        ("GRANT SELECT, INSERT ({columns}) ON {names} TO {role}", ADDED_TO),
        ("GRANT SELECT ON {names} TO {role}", READ),
        ("GRANT EXECUTE ON FUNCTION {names} TO {role}", _FUNCTIONS),
        ("GRANT USAGE, UPDATE ON SEQUENCE {names} TO {role}", sequences),
    ):
        _run(
            connection,
            sql.SQL(statement).format(
                names=sql.SQL(", ").join(sql.Identifier(schema, name) for name in names),
                columns=sql.SQL(", ").join(map(sql.Identifier, _NOTED)),
                schema=sql.Identifier(schema),
                role=sql.Identifier(role),
            ),
        )
    creates = sa.text("SELECT has_schema_privilege(:role, :schema, 'CREATE')")
    if connection.execute(creates, {"role": role, "schema": schema}).scalar_one():
        raise Refused(
            f"everybody may create tables in the schema {schema}, and {owner} may not change that",
            code="open-schema",
            next_step=f"as an administrator: REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC; then migrate again",
        )


def _sequence(connection: sa.Connection, table: str) -> str:
    name: str = connection.execute(
        sa.text("SELECT relname FROM pg_class WHERE oid = CAST(pg_get_serial_sequence(:of, 'id') AS regclass)"),
        {"of": table},
    ).scalar_one()
    return name


def _require_plain(connection: sa.Connection, role: str, password: str | None) -> None:
    """Create the role if it is missing. Raises Refused if no grant binds it."""
    result = connection.execute(sa.text("SELECT rolsuper FROM pg_roles WHERE rolname = :role"), {"role": role})
    superuser = result.scalar_one_or_none()
    if superuser:
        raise Refused(
            f"{role}, the role of DATABASE_URL, is a superuser, so no grant limits it",
            code="superuser-role",
            next_step="name another role in DATABASE_URL: it is created if it is missing",
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
            code="missing-role",
            next_step=f"as an administrator: CREATE ROLE {role} LOGIN PASSWORD '…'; then `vecfleet migrate` again",
        )
    statement = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), password)
    _run(connection, statement)


def _run(connection: sa.Connection, statement: sql.Composed) -> None:
    """Run a statement whose names the driver has quoted; SQLAlchemy has no grants."""
    connection.exec_driver_sql(statement.as_string().replace("%", "%%"))
