"""What each record was when it was written"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("batch_tally", sa.Column("record_digests", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    op.drop_column("batch_tally", "record_digests")
