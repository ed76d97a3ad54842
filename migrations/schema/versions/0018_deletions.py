"""Deletions: what became of each request, and the looks that the deletion of a source rests on"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_OF_BATCHES = ("lands_by", "answered_at", "looked_at")


def _when(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=True)


def upgrade() -> None:
    for name in _OF_BATCHES:
        op.add_column("batch", _when(name))
    op.create_table(
        "deletion",
        sa.Column("move_id", sa.BigInteger(), sa.ForeignKey("move.id"), primary_key=True),
        _when("last_write_at"),
        sa.Column("lag_s", sa.Double(), nullable=False),
        _when("read_from"),
        _when("read_to"),
        _when("listed_at"),
        sa.Column("listed", sa.BigInteger(), nullable=True),
        sa.Column("counted", sa.BigInteger(), nullable=True),
        _when("asked_from"),
        _when("asked_to"),
    )


def downgrade() -> None:
    op.drop_table("deletion")
    for name in _OF_BATCHES:
        op.drop_column("batch", name)
