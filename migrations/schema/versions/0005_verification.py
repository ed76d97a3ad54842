"""Verification: levels, queries, what differs, and what checks that were made anew had cost"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_KINDS = ("clear", "compare", "copy", "drop", "list", "query", "recheck", "remove", "survey", "undo", "verify")
_FINDINGS = "kind IN ('changed', 'different', 'extra', 'missing')"


def upgrade() -> None:
    op.add_column("target", sa.Column("check_level", sa.Text(), nullable=True))
    op.add_column("target", sa.Column("lsn", sa.BigInteger(), nullable=True))
    op.add_column("batch", sa.Column("copies", postgresql.ARRAY(sa.BigInteger()), nullable=True))
    op.execute("UPDATE batch SET copies = ARRAY[copy_id] WHERE kind = 'verify'")
    op.add_column("batch", sa.Column("rewrite", sa.Text(), nullable=True))
    op.create_check_constraint(op.f("ck_batch_rewrite"), "batch", "rewrite IN ('differing', 'parked')")
    op.drop_constraint(op.f("ck_batch_kind"), "batch", type_="check")
    kinds = ", ".join(f"'{kind}'" for kind in _KINDS)
    op.create_check_constraint(op.f("ck_batch_kind"), "batch", f"kind IN ({kinds})")
    op.add_column("finding", sa.Column("parts", sa.Text(), nullable=True))
    op.create_table(
        "difference",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("target_id", sa.BigInteger(), nullable=False),
        sa.Column("check_id", sa.BigInteger(), nullable=True),
        sa.Column("copy_id", sa.BigInteger(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("manifest", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint(_FINDINGS, name=op.f("ck_difference_kind")),
        sa.ForeignKeyConstraint(["target_id"], ["target.id"], name=op.f("fk_difference_target_id_target")),
        sa.ForeignKeyConstraint(
            ["check_id"], ["batch.id"], name=op.f("fk_difference_check_id_batch"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["copy_id"], ["batch.id"], name=op.f("fk_difference_copy_id_batch")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_difference")),
    )
    for column in ("target_id", "check_id", "copy_id"):
        op.create_index(op.f(f"ix_difference_{column}"), "difference", [column], unique=False)
    op.create_table(
        "spent",
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("requests", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("read_units", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("write_units", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("egress_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("busy_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("began", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_spent_job_id_job")),
        sa.PrimaryKeyConstraint("job_id", "kind", name=op.f("pk_spent")),
    )


def downgrade() -> None:
    op.drop_table("spent")
    op.drop_table("difference")
    op.drop_column("finding", "parts")
    op.drop_constraint(op.f("ck_batch_kind"), "batch", type_="check")
    # Checks are made anew by whoever reads this table next: they are of another shape there.
    op.execute("UPDATE target SET check_state = 'waiting', open_checks = 0 WHERE check_state = 'checking'")
    op.execute("DELETE FROM batch WHERE kind IN ('query', 'survey', 'verify')")
    kinds = ", ".join(f"'{kind}'" for kind in _KINDS if kind != "query")
    op.create_check_constraint(op.f("ck_batch_kind"), "batch", f"kind IN ({kinds})")
    op.drop_column("batch", "rewrite")
    op.drop_column("batch", "copies")
    op.drop_column("target", "lsn")
    op.drop_column("target", "check_level")
