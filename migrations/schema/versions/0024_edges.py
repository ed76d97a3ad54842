"""A change of state takes an edge of its machine, or Postgres refuses the statement."""

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

_EDGES = {
    "job": (
        "state",
        {
            "planned": "running cancelling",
            "running": "copied needs_attention pausing cancelling",
            "copied": "verified running needs_attention pausing cancelling rolling_back",
            "verified": "copied cut_over cleaning finished cancelling rolling_back",
            "cut_over": "verified copied cleaning finished rolling_back",
            "cleaning": "cleaned needs_attention pausing",
            "needs_attention": "running copied cleaning finished rolling_back cancelling",
            "pausing": "paused running copied cleaning rolling_back cancelling",
            "paused": "running copied cleaning rolling_back cancelling",
            "cancelling": "cancelled",
            "cancelled": "rolling_back",
            "rolling_back": "rolled_back needs_attention pausing",
            "finished": "rolling_back",
            "rolled_back": "rolling_back",
        },
    ),
    "move": (
        "state",
        {
            "pending": "listing rolled_back",
            "listing": "copying copied parked rolled_back",
            "copying": "copied parked rolled_back",
            "copied": "listing copying verified mismatched rolled_back",
            "mismatched": "repairing copied rolled_back",
            "repairing": "copied parked rolled_back",
            "parked": "listing copying cleaning copied rolled_back",
            "verified": "listing copying copied cleaning rolled_back",
            "cleaning": "cleaned parked copied",
        },
    ),
    "batch": (
        "state",
        {
            "ready": "dispatched leased parked",
            "dispatched": "leased ready",
            "leased": "done ready split parked",
            "done": "ready",
            "parked": "ready done",
        },
    ),
    "target": (
        "check_state",
        {
            "waiting": "checking",
            "checking": "verified mismatched empty waiting",
            "verified": "waiting empty",
            "mismatched": "waiting empty",
            "empty": "waiting",
        },
    ),
}
_REFUSAL = """
CREATE OR REPLACE FUNCTION refuse_change_of_state() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% %: no edge leads from % to %',
        TG_TABLE_NAME, OLD.id, to_jsonb(OLD) ->> TG_ARGV[0], to_jsonb(NEW) ->> TG_ARGV[0]
        USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME;
END $$
"""


def upgrade() -> None:
    op.execute(_REFUSAL)
    for table, (column, edges) in _EDGES.items():
        taken = ",".join(f"{state}>{to}" for state, states in edges.items() for to in states.split())
        op.execute(
            f"CREATE OR REPLACE TRIGGER edges AFTER UPDATE OF {column} ON {table} FOR EACH ROW WHEN "
            f"(OLD.{column} <> NEW.{column} AND OLD.{column} || '>' || NEW.{column} <> ALL ('{{{taken}}}'::text[])) "
            f"EXECUTE FUNCTION refuse_change_of_state('{column}')"
        )


def downgrade() -> None:
    for table in _EDGES:
        op.execute(f"DROP TRIGGER edges ON {table}")
    op.execute("DROP FUNCTION refuse_change_of_state")
