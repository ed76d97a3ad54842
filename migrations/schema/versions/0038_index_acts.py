"""Acts on a whole index outside of any job: it is emptied, or the service fills it before its job begins."""

import sqlalchemy as sa
from alembic import op

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "index_act",
        sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("index", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=True),
        sa.Column("filled_from", sa.Text(), nullable=True),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("begun_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
        sa.Column("until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind IN ('conversion', 'import', 'wipe')", name="kind"),
        if_not_exists=True,
    )
    op.create_index("ix_index_act_ended_at", "index_act", ["ended_at"], if_not_exists=True)
    # Jobs given up by an older version before anything was deleted have no routes: readers went back to the old side. As
    # after `reverse`, so that nothing leads them away again, and what such a job wrote may be rolled back.
    op.execute(
        """
        WITH back AS (
            UPDATE job SET cut_over_percent = 0, cut_over_at = NULL, cleaning_at = NULL
            WHERE state IN ('cancelled', 'cancelling') AND (cut_over_percent > 0 OR cleaning_at IS NOT NULL)
              AND NOT EXISTS (SELECT FROM move WHERE job_id = job.id AND state IN ('cleaning', 'cleaned'))
              AND NOT EXISTS (
                  SELECT FROM batch
                  WHERE job_id = job.id AND intent_at IS NOT NULL AND kind IN ('recheck', 'clear', 'remove')
              )
            RETURNING id
        )
        UPDATE route SET side = 'old', changed_at = clock_timestamp() FROM back WHERE job_id = back.id AND side = 'new'
        """
    )


def downgrade() -> None:
    op.drop_table("index_act")
