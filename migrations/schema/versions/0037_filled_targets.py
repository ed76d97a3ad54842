"""A job says which conversion or import of the store filled its target: no other job begins with it."""

from alembic import op

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE job ADD COLUMN IF NOT EXISTS filled_by text")


def downgrade() -> None:
    op.execute("ALTER TABLE job DROP COLUMN filled_by")
