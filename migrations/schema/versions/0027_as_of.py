"""The lag of a copy in step: when its passes began"""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("pass_began_at", "as_of"):
        op.add_column("job", sa.Column(name, sa.DateTime(timezone=True), nullable=True), if_not_exists=True)


def downgrade() -> None:
    for name in ("as_of", "pass_began_at"):
        op.drop_column("job", name)
