"""The moment until which batches of a job with a maintenance window may begin."""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job", sa.Column("begins_until", sa.DateTime(timezone=True)))


def downgrade() -> None:
    op.drop_column("job", "begins_until")
