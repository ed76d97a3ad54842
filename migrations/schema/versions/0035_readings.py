"""Keep what a source's store told of its writes, since when it is known, and when the source was last read."""

from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE move ADD COLUMN IF NOT EXISTS source_version text")
    for name in ("source_version_at", "source_read_at"):
        op.execute(f"ALTER TABLE move ADD COLUMN IF NOT EXISTS {name} timestamptz")


def downgrade() -> None:
    for name in ("source_version", "source_version_at", "source_read_at"):
        op.execute(f"ALTER TABLE move DROP COLUMN {name}")
