"""Acts that two persons have to ask for, and who asked first."""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table("two_persons", sa.Column("act", sa.Text(), primary_key=True), if_not_exists=True)
    op.create_table(
        "consent",
        sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column("act", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
        sa.Column("used_by", sa.Text(), nullable=True),
        if_not_exists=True,
    )
    op.create_index("ix_consent_act_subject", "consent", ["act", "subject"], if_not_exists=True)


def downgrade() -> None:
    op.drop_table("consent")
    op.drop_table("two_persons")
