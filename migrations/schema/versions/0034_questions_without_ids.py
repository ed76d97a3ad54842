"""The answers to questions about a target name no record any more: an erasure would have left the ids there."""

from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

_WITHOUT_IDS = """
UPDATE batch SET found = jsonb_set(found, '{queries}', (
    SELECT coalesce(jsonb_agg(answer - 'id' ORDER BY number), '[]')
    FROM jsonb_array_elements(found -> 'queries') WITH ORDINALITY AS answers (answer, number)
))
WHERE kind = 'query' AND jsonb_path_exists(found, '$.queries[*].id')
"""


def upgrade() -> None:
    op.execute(_WITHOUT_IDS)


def downgrade() -> None:
    """Nothing: no version reads these ids."""
