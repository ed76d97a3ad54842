"""Keys of requests over HTTP: the same request, sent twice, acts once."""

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "request_key",
        sa.Column("key", sa.Text(), primary_key=True),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Text(), nullable=False),
        sa.Column("act", sa.BigInteger(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
        if_not_exists=True,
    )
    op.create_index("ix_request_key_at", "request_key", ["at"], if_not_exists=True)


def downgrade() -> None:
    op.drop_table("request_key")
