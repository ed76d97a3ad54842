"""A filling says itself how far the service is, why nobody can tell, and who gave it up."""

from alembic import op

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None

_COLUMNS = {
    "told": "jsonb",
    "looked_at": "timestamptz",
    "stuck": "text",
    "given_up_at": "timestamptz",
    "given_up_by": "text",
}


def upgrade() -> None:
    for name, kind in _COLUMNS.items():
        op.execute(f"ALTER TABLE index_act ADD COLUMN IF NOT EXISTS {name} {kind}")


def downgrade() -> None:
    for name in _COLUMNS:
        op.execute(f"ALTER TABLE index_act DROP COLUMN {name}")
