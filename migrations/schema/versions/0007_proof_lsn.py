"""The last write to a source when its re-reading began"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("move", sa.Column("proof_lsn", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("move", "proof_lsn")
