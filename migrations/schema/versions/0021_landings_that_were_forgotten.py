"""Jobs: until when what was sent before commits were lost may still take effect"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job", sa.Column("lands_by", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("job", "lands_by")
