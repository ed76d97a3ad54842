"""Targets: until when an upsert that was not answered may still take effect"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("target", sa.Column("lands_by", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("target", "lands_by")
