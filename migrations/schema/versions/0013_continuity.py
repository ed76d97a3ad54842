"""Continuity: the job table counts the looks of its dispatchers and names its server, so that lost commits are noticed"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# A managed Postgres may refuse either function, or lack it: what it does not tell counts as unchanged.
SERVER = """
CREATE FUNCTION vecfleet_server() RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    system text := '?';
    timeline text := '?';
BEGIN
    BEGIN
        SELECT system_identifier INTO system FROM pg_control_system();
    EXCEPTION WHEN insufficient_privilege OR undefined_function OR feature_not_supported THEN NULL;
    END;
    BEGIN
        timeline := left(pg_walfile_name(pg_current_wal_lsn()), 8);
    EXCEPTION WHEN insufficient_privilege OR undefined_function OR feature_not_supported
        OR object_not_in_prerequisite_state THEN NULL;
    END;
    RETURN system || ':' || timeline || ':' || extract(epoch FROM pg_postmaster_start_time());
END $$
"""


def upgrade() -> None:
    op.create_table(
        "continuity",
        sa.Column("lineage", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("looked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("server", sa.Text(), nullable=False),
        sa.Column("synchronous", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.PrimaryKeyConstraint("lineage", name=op.f("pk_continuity")),
    )
    op.add_column("job", sa.Column("doubted_at", sa.DateTime(timezone=True), nullable=True))
    op.execute(SERVER)


def downgrade() -> None:
    op.execute("DROP FUNCTION vecfleet_server()")
    op.drop_column("job", "doubted_at")
    op.drop_table("continuity")
