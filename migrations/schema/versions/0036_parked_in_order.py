"""The first parked records and batches of a job are read by an index, in order: a look at their reasons is bounded."""

from alembic import op

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _index("job_id, id")


def downgrade() -> None:
    _index("job_id")


def _index(columns: str) -> None:
    op.execute("DROP INDEX IF EXISTS ix_parked_record_job_id, ix_batch_parked")
    op.execute(f"CREATE INDEX ix_parked_record_job_id ON parked_record ({columns})")
    op.execute(f"CREATE INDEX ix_batch_parked ON batch ({columns}) WHERE state = 'parked'")
