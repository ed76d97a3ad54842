"""Vectors of texts that a job embeds, so that none is paid for twice, and what a job paid for."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "embedding",
        sa.Column("key", sa.LargeBinary(), primary_key=True),
        sa.Column("vector", sa.LargeBinary(), nullable=True),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.Column("subjects", ARRAY(sa.Text()), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("batch_id", sa.BigInteger(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("reserved_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
        if_not_exists=True,
    )
    # Float32 values do not compress: Postgres need not try.
    op.execute("ALTER TABLE embedding ALTER COLUMN vector SET STORAGE EXTERNAL")
    op.create_index("ix_embedding_used_at", "embedding", ["used_at"], if_not_exists=True)
    op.create_index(
        "ix_embedding_reserved",
        "embedding",
        ["job_id"],
        postgresql_where=sa.text("vector IS NULL"),
        if_not_exists=True,
    )
    op.create_index("ix_embedding_subjects", "embedding", ["subjects"], postgresql_using="gin", if_not_exists=True)
    op.create_table(
        "embedding_cost",
        sa.Column("job_id", sa.BigInteger(), primary_key=True, autoincrement=False),
        *(
            sa.Column(name, sa.BigInteger(), nullable=False, server_default=sa.text("0"))
            for name in ("requests", "texts", "tokens", "unanswered")
        ),
        if_not_exists=True,
    )


def downgrade() -> None:
    op.drop_table("embedding_cost")
    op.drop_table("embedding")
