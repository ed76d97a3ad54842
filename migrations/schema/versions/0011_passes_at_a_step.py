"""Steps of a roll-out: how many passes had begun by then, and a step of 0 % for readers that were taken back

What is not known of steps before counts as now: readers that were taken back then return after another proof.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("step", sa.Column("passes", sa.SmallInteger(), nullable=True))
    op.execute("UPDATE step SET passes = job.passes FROM job WHERE job.id = step.job_id")
    op.alter_column("step", "passes", nullable=False)
    op.execute(
        "INSERT INTO step (job_id, percent, passes) SELECT id, 0, passes FROM job"
        " WHERE cut_over_percent = 0 AND EXISTS (SELECT 1 FROM step WHERE step.job_id = job.id)"
    )


def downgrade() -> None:
    op.execute("DELETE FROM step WHERE percent = 0")
    op.drop_column("step", "passes")
