"""Jobs: how long their stores' reads lag, how long old routes are used, and when clean-up was asked for"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_SECONDS = ("source_lag_s", "target_lag_s", "routes_stale_s")
_WHEN = ("cleaning_at", "pass_ended_at")


def upgrade() -> None:
    for name in _SECONDS:
        op.add_column("job", sa.Column(name, sa.Double(), nullable=False, server_default=sa.text("60")))
    for name in _WHEN:
        op.add_column("job", sa.Column(name, sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    for name in (*_WHEN, *_SECONDS):
        op.drop_column("job", name)
