"""Hooks that may hold a job, and what they are asked."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import UUID

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def _now(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp())


def upgrade() -> None:
    op.create_table(
        "hook",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("timeout_s", sa.Double(), nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "hook_call",
        sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column("delivery_id", UUID(), nullable=False, server_default=sa.func.gen_random_uuid()),
        sa.Column("job_id", sa.BigInteger(), sa.ForeignKey("job.id"), nullable=False),
        sa.Column("hook", sa.Text(), nullable=False),
        sa.Column("percent", sa.SmallInteger(), nullable=True),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False, server_default=sa.text("'asked'")),
        sa.Column("words", sa.Text(), nullable=True),
        _now("asked_at"),
        _now("due_at"),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("answer IN ('allowed', 'asked', 'refused', 'used')", name="answer"),
        if_not_exists=True,
    )
    op.create_index("ix_hook_call_job_id", "hook_call", ["job_id"], if_not_exists=True)
    op.create_index(
        "ix_hook_call_asked",
        "hook_call",
        ["id"],
        postgresql_where=sa.text("answer = 'asked'"),
        if_not_exists=True,
    )


def downgrade() -> None:
    op.drop_table("hook_call")
    op.drop_table("hook")
