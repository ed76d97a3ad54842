"""Notices of changes of state, queued by triggers for those who wait for them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, UUID

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

_STATES = {"job": "state", "move": "state", "batch": "state", "target": "check_state"}


def upgrade() -> None:
    op.create_table(
        "receiver",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("events", ARRAY(sa.Text()), nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "notice",
        sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column("delivery_id", UUID(), nullable=False, server_default=sa.func.gen_random_uuid()),
        sa.Column("receiver", sa.Text(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("machine", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.BigInteger(), nullable=False),
        sa.Column("was", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True, server_default=sa.func.clock_timestamp()),
        sa.Column("answer", sa.Text(), nullable=True),
        if_not_exists=True,
    )
    op.create_index("ix_notice_receiver_id", "notice", ["receiver", "id"], if_not_exists=True)
    for table, column in _STATES.items():
        job_id = "id" if table == "job" else "job_id"
        op.execute(
            f"CREATE OR REPLACE FUNCTION notice_of_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "  # noqa: S608
            "INSERT INTO notice (receiver, job_id, machine, subject_id, was, state) "
            f"SELECT name, NEW.{job_id}, '{table}', NEW.id, OLD.{column}, NEW.{column} "
            f"FROM receiver WHERE events && ARRAY['{table}', '{table}.' || NEW.{column}]; RETURN NULL; END $$"
        )
        op.execute(
            f"CREATE OR REPLACE TRIGGER notices AFTER UPDATE OF {column} ON {table} FOR EACH ROW "
            f"WHEN (OLD.{column} <> NEW.{column}) EXECUTE FUNCTION notice_of_{table}()"
        )
    op.execute(
        "CREATE OR REPLACE TRIGGER notices_at_first AFTER INSERT ON job FOR EACH ROW EXECUTE FUNCTION notice_of_job()"
    )


def downgrade() -> None:
    op.execute("DROP TRIGGER notices_at_first ON job")
    for table in _STATES:
        op.execute(f"DROP TRIGGER notices ON {table}")
        op.execute(f"DROP FUNCTION notice_of_{table}")
    op.drop_table("notice")
    op.drop_table("receiver")
