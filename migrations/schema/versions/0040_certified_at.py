"""An erasure says when its certificate was given, by the database's clock: what the service copies is compared with it."""

from alembic import op

revision = "0040"
down_revision = "0039"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE erasure ADD COLUMN IF NOT EXISTS certified_at timestamptz")
    # Certificates of before tell it by the clock of the process that wrote them.
    op.execute(
        """
        UPDATE erasure SET certified_at = (certificate ->> 'ended')::timestamptz
        WHERE certified_at IS NULL AND certificate ->> 'ended' IS NOT NULL
        """
    )


def downgrade() -> None:
    op.execute("ALTER TABLE erasure DROP COLUMN certified_at")
