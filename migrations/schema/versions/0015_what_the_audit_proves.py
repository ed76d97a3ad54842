"""The audit says where it ends, and Postgres lets nobody change what is on it."""

import hashlib
import json

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

# A row is sealed once, and its payload may go, for an erasure. Nothing else of it changes, and none is deleted.
_STAYS = """
CREATE FUNCTION audit_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF (NEW.id, NEW.at, NEW.who, NEW.action, NEW.job_id, NEW.payload_digest)
                IS NOT DISTINCT FROM (OLD.id, OLD.at, OLD.who, OLD.action, OLD.job_id, OLD.payload_digest)
            AND (NEW.payload IS NULL OR NEW.payload IS NOT DISTINCT FROM OLD.payload)
            AND (OLD.hash IS NULL
                OR (NEW.hash, NEW.previous_hash) IS NOT DISTINCT FROM (OLD.hash, OLD.previous_hash))
        THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'the audit is only added to: % is refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_rows_stay BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_stays();
CREATE TRIGGER audit_stays BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_stays();
"""


def upgrade() -> None:
    op.create_table(
        "audit_head",
        sa.Column("id", sa.SmallInteger(), nullable=False, server_default=sa.text("1")),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("head", sa.Text(), nullable=False),
        sa.Column("seal", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_head")),
        sa.CheckConstraint("id = 1", name=op.f("ck_audit_head_one")),
    )
    _record_the_end(op.get_bind())
    _record_what_is_empty(op.get_bind())
    op.execute(_STAYS)


def _record_the_end(connection: sa.Connection) -> None:
    """Where the chain ends that was sealed without a key."""
    sealed = connection.execute(sa.text("SELECT previous_hash, hash FROM audit WHERE hash IS NOT NULL")).all()
    if sealed:
        head = min({row.hash for row in sealed} - {row.previous_hash for row in sealed})
        seal = hashlib.sha256(f"end\0{len(sealed)}\0{head}".encode()).hexdigest()
        statement = sa.text("INSERT INTO audit_head (rows, head, seal) VALUES (:rows, :head, :seal)")
        connection.execute(statement, {"rows": len(sealed), "head": head, "seal": seal})


def _record_what_is_empty(connection: sa.Connection) -> None:
    """Which payloads erasures emptied before they put it on record themselves."""
    empty = connection.execute(sa.text("SELECT id FROM audit WHERE payload IS NULL ORDER BY id")).scalars().all()
    if empty:
        payload = json.dumps({"rows": list(empty)}, separators=(",", ":"))
        statement = sa.text(
            "INSERT INTO audit (who, action, payload, payload_digest) "
            "VALUES ('vecfleet migrate', 'emptied', CAST(:payload AS jsonb), :digest)"
        )
        connection.execute(statement, {"payload": payload, "digest": hashlib.sha256(payload.encode()).hexdigest()})


def downgrade() -> None:
    op.execute("DROP TRIGGER audit_rows_stay ON audit; DROP TRIGGER audit_stays ON audit; DROP FUNCTION audit_stays()")
    op.drop_table("audit_head")
