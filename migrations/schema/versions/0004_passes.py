"""Passes: sources are read again while writers go on"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("batch", sa.Column("listed_in", sa.SmallInteger(), server_default=sa.text("1"), nullable=False))
    op.add_column("job", sa.Column("passes", sa.SmallInteger(), server_default=sa.text("1"), nullable=False))
    op.add_column("job", sa.Column("passes_ended", sa.SmallInteger(), server_default=sa.text("0"), nullable=False))
    op.add_column("job", sa.Column("passes_allowed", sa.SmallInteger(), server_default=sa.text("5"), nullable=False))
    op.add_column("job", sa.Column("quiet_passes", sa.SmallInteger(), server_default=sa.text("0"), nullable=False))


def downgrade() -> None:
    op.drop_column("job", "quiet_passes")
    op.drop_column("job", "passes_allowed")
    op.drop_column("job", "passes_ended")
    op.drop_column("job", "passes")
    op.drop_column("batch", "listed_in")
