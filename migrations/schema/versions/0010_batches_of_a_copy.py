"""Batches and findings by the copy batch they work on: whoever deletes a batch looks for them"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_batch_copy", "batch", ["copy_id"], postgresql_where="copy_id IS NOT NULL")
    op.create_index("ix_finding_copy", "finding", ["copy_id"], postgresql_where="copy_id IS NOT NULL")


def downgrade() -> None:
    op.drop_index("ix_finding_copy", table_name="finding")
    op.drop_index("ix_batch_copy", table_name="batch")
