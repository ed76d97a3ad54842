"""Differences: what a check saw where a record differs, so that a repair writes over nothing else"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("difference", sa.Column("digests", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    op.drop_column("difference", "digests")
