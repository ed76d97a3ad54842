"""Revision 0038 was changed after it had been run: whichever form of it ran, the job table is the same from here on."""

from alembic import op

revision = "0041"
down_revision = "0040"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The first form gave its condition another name.
    for name in ("ck_index_act_ck_index_act_kind", "ck_index_act_kind"):
        op.execute(f"ALTER TABLE index_act DROP CONSTRAINT IF EXISTS {name}")
    op.execute(
        "ALTER TABLE index_act ADD CONSTRAINT ck_index_act_kind CHECK (kind IN ('conversion', 'import', 'wipe'))"
    )
    # The second form took the request for a clean-up back from jobs given up before anything was deleted, and left
    # their readers on the new side. No later version gives up such a job: what it gives up has a request for a clean-up,
    # or no readers on the new side.
    op.execute(
        """
        WITH back AS (
            UPDATE job SET cut_over_percent = 0, cut_over_at = NULL
            WHERE state IN ('cancelled', 'cancelling') AND cut_over_percent > 0 AND cleaning_at IS NULL
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
    """Keep it: the newest form of revision 0038 ends in the same tables."""
