"""Routes: the names of old places that readers use, to be led along when they are moved and moved back"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("route", sa.Column("aliases", postgresql.JSONB(), nullable=True))


def downgrade() -> None:
    op.drop_column("route", "aliases")
