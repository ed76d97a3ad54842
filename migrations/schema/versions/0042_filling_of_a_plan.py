"""A filling belongs to a plan: no other plan's takes it over, or ends with it."""

from alembic import op

revision = "0042"
down_revision = "0041"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE index_act ADD COLUMN IF NOT EXISTS plan_digest text")


def downgrade() -> None:
    op.execute("ALTER TABLE index_act DROP COLUMN plan_digest")
