"""Jobs from before 0017: the waits that suit their stores, and when the clean-ups under way were asked for"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from vecfleet.settings import Settings

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

_GIVEN_S = 60.0  # by 0017, to every job there was
_NEVER_LAG = ("parquet", "pgvector", "pgvector-other")
_ENDED = ("cleaned", "cancelled", "rolled_back")
_LAGS = {"source": "source_lag_s", "target": "target_lag_s"}
_JOB = sa.table(
    "job",
    *(sa.column(name, sa.Double()) for name in (*_LAGS.values(), "routes_stale_s")),
    *(sa.column(name, sa.Text()) for name in ("state", "resume_to")),
    sa.column("plan", JSONB()),
    sa.column("cleaning_at", sa.DateTime(timezone=True)),
)
_J = _JOB.c


def upgrade() -> None:
    """Only what is known: stores whose reads never lag, and settings that name a longer wait than was given."""
    settings = Settings.load()
    waits = dict.fromkeys(_LAGS.values(), settings.freshness_wait_seconds)
    waits["routes_stale_s"] = settings.routes_stale_seconds
    for column, seconds in waits.items():
        given = sa.and_(_J.state.not_in(_ENDED), _J[column] == _GIVEN_S)
        op.execute(sa.update(_JOB).where(given).values({column: max(seconds, _GIVEN_S)}))
    for side, column in _LAGS.items():
        fresh = _J.plan[side]["store"].astext.in_(_NEVER_LAG)
        op.execute(sa.update(_JOB).where(fresh).values({column: 0.0}))
    cleaning = sa.and_(_J.cleaning_at.is_(None), sa.or_(_J.state == "cleaning", _J.resume_to == "cleaning"))
    op.execute(sa.update(_JOB).where(cleaning).values(cleaning_at=sa.func.now()))


def downgrade() -> None:
    """Leave the waits as they are: nothing says which of them were known before."""
