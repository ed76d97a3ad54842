"""What a person says may be missing at one target"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("target", sa.Column("missing_allowed", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("target", "missing_allowed")
