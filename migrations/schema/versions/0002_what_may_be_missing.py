"""What may be missing where readers have moved to"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job", sa.Column("missing_allowed", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("job", "missing_allowed")
