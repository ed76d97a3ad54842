"""A job that is finished: it has ended, and both sides stay"""

from alembic import op
from sqlalchemy import text

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

_ENDED = ("cancelled", "cleaned", "rolled_back")
_STATES = (
    *("cancelled", "cancelling", "cleaned", "cleaning", "copied", "cut_over", "needs_attention", "paused", "pausing"),
    *("planned", "rolled_back", "rolling_back", "running", "verified"),
)


def upgrade() -> None:
    _set({*_STATES, "finished"}, {*_ENDED, "finished"})


def downgrade() -> None:
    op.execute("UPDATE job SET state = 'cancelled' WHERE state = 'finished'")
    _set(set(_STATES), set(_ENDED))


def _set(states: set[str], ended: set[str]) -> None:
    op.drop_constraint(op.f("ck_job_state"), "job", type_="check")
    op.create_check_constraint(op.f("ck_job_state"), "job", f"state IN ({_quoted(states)})")
    op.drop_index("uq_job_plan_digest_live", table_name="job")
    live = text(f"state NOT IN ({_quoted(ended)})")
    op.create_index("uq_job_plan_digest_live", "job", ["plan_digest"], unique=True, postgresql_where=live)


def _quoted(values: set[str]) -> str:
    return ", ".join(f"'{value}'" for value in sorted(values))
