"""Changes of state: the only place where the ledger makes them, and the triggers on each of them.

One trigger refuses a change without an edge. Another queues the notices of the change in the same transaction, so that
no code can forget them.

A statement names the new state and finds its rows by conditions of its own. Whatever the conditions are, Postgres
refuses the whole statement if a row's change is no edge of `core.states`. A trigger costs a look-up in a constant per
row, and only if the statement sets the column of the state.
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from orchestrator.core.notices import HELD
from orchestrator.core.states import BATCH_EDGES, CHECK_EDGES, JOB_EDGES, MOVE_EDGES, BatchState, JobState
from orchestrator.ledger import tables as t

MACHINES: Mapping[str, tuple[str, Mapping[Any, Mapping[Any, str]]]] = {
    "job": ("state", JOB_EDGES),
    "move": ("state", MOVE_EDGES),
    "batch": ("state", BATCH_EDGES),
    "target": ("check_state", CHECK_EDGES),
}
"""Each table with states: the column, and the edges that it may take."""

REFUSAL = """
CREATE OR REPLACE FUNCTION refuse_change_of_state() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% %: no edge leads from % to %',
        TG_TABLE_NAME, OLD.id, to_jsonb(OLD) ->> TG_ARGV[0], to_jsonb(NEW) ->> TG_ARGV[0]
        USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME;
END $$
"""


def trigger(table: str) -> str:
    """Return the statement that creates the table's trigger. It runs after an update, so that it locks no row again."""
    column, edges = MACHINES[table]
    taken = ",".join(f"{state}>{to}" for state, reasons in edges.items() for to in reasons)
    return (
        f"CREATE OR REPLACE TRIGGER edges AFTER UPDATE OF {column} ON {table} FOR EACH ROW WHEN "
        f"(OLD.{column} <> NEW.{column} AND OLD.{column} || '>' || NEW.{column} <> ALL ('{{{taken}}}'::text[])) "
        f"EXECUTE FUNCTION refuse_change_of_state('{column}')"
    )


def notices(table: str) -> tuple[str, ...]:
    """Return the statements that make the table's triggers of notices. A new job is a change of state, too.

    A receiver waits for all edges of a table (`move`) or for those into one state (`batch.parked`).
    """
    column, _ = MACHINES[table]
    function = f"notice_of_{table}"
    statement = (
        "INSERT INTO notice (receiver, job_id, machine, subject_id, was, state) "  # noqa: S608 - our own names
        f"SELECT name, NEW.{'id' if table == 'job' else 'job_id'}, '{table}', NEW.id, OLD.{column}, NEW.{column} "
        f"FROM receiver WHERE events && ARRAY['{table}', '{table}.' || NEW.{column}]"
    )
    run = f"ON {table} FOR EACH ROW"
    return (
        f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN {statement}; RETURN NULL; END $$",
        f"CREATE OR REPLACE TRIGGER notices AFTER UPDATE OF {column} {run} "
        f"WHEN (OLD.{column} <> NEW.{column}) EXECUTE FUNCTION {function}()",
        *(
            [f"CREATE OR REPLACE TRIGGER notices_at_first AFTER INSERT {run} EXECUTE FUNCTION {function}()"]
            if table == "job"
            else []
        ),
    )


def held(job_id: int) -> sa.Insert:
    """Return the statement that queues the notices of a job that is held. No trigger does: its state stays."""
    queued, job, events = t.notice.c, t.job.c, t.receiver.c.events
    columns = (queued.receiver, queued.job_id, queued.machine, queued.subject_id, queued.was, queued.state)
    values = (t.receiver.c.name, job.id, sa.literal("job"), job.id, job.state, sa.literal(HELD))
    told = t.job.join(t.receiver, events.overlap(sa.cast(["job", f"job.{HELD}"], events.type)))
    return sa.insert(t.notice).from_select(columns, sa.select(*values).select_from(told).where(job.id == job_id))


def job_to(state: JobState, **values: Any) -> sa.Update:
    """Return an update that sets jobs to this state."""
    return sa.update(t.job).values(state=state, **values)


def move_to(state: Any, **values: Any) -> sa.Update:
    """Return an update that sets moves to this state, or each to the state that the expression gives."""
    return sa.update(t.move).values(state=state, **values)


def batch_to(state: BatchState, **values: Any) -> sa.Update:
    """Return an update that sets batches to this state. A batch made ready again gets a new generation and no lease."""
    back = {"generation": t.batch.c.generation + 1, "lease_owner": None, "lease_until": None}
    return sa.update(t.batch).values({"state": state.value, **(back if state is BatchState.READY else {}), **values})


def batch_anew(**values: Any) -> sa.Update:
    """Return an update that makes batches ready as if they had never been tried."""
    untried = {"attempts": 0, "run_after": None, "first_leased_at": None, "error_class": None, "error_text": None}
    return batch_to(BatchState.READY, **untried, **values)


def target_to(state: Any, **values: Any) -> sa.Update:
    """Return an update that sets targets to this state, or each to the state that the expression gives."""
    return sa.update(t.target).values(check_state=state, **values)
