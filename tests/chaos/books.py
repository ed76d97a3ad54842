"""The books of a job: its accounts, its leases, its changes of state. By SQL of the tests' own, over the whole history.

Triggers note each change of a state and of a lease, so that what came and went between two looks is judged too. They
write as who made them: the fleet's own role may write to no table of the tests.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from orchestrator.core.states import BATCH_EDGES, JOB_EDGES, MOVE_EDGES

# In the order in which the fleet, which runs meanwhile, takes its locks.
LOCKED_FIRST = ("leader", "job", "batch", "target", "move")
SETTLED = "written + identical + gone + parked + left_behind + erased"


class Sql(Protocol):
    """Runs one statement and gives its rows."""

    def __call__(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]: ...


WATCH = """
CREATE TABLE IF NOT EXISTS chaos_seen (
    n bigserial, what text, id bigint, job_id bigint, was text, now text, generation int, owner text,
    until timestamptz, at timestamptz DEFAULT clock_timestamp());
CREATE OR REPLACE FUNCTION chaos_see_batch() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
    IF (NEW.state, NEW.generation, NEW.lease_until) IS DISTINCT FROM (OLD.state, OLD.generation, OLD.lease_until) THEN
        INSERT INTO chaos_seen (what, id, job_id, was, now, generation, owner, until)
        VALUES ('batch', NEW.id, NEW.job_id, OLD.state, NEW.state, NEW.generation, NEW.lease_owner, NEW.lease_until);
    END IF; RETURN NULL; END $$;
CREATE OR REPLACE FUNCTION chaos_see_state() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
    IF NEW.state <> OLD.state THEN
        INSERT INTO chaos_seen (what, id, job_id, was, now)
        VALUES (TG_TABLE_NAME, NEW.id, coalesce((to_jsonb(NEW)->>'job_id')::bigint, NEW.id), OLD.state, NEW.state);
    END IF; RETURN NULL; END $$;
CREATE OR REPLACE TRIGGER chaos AFTER UPDATE ON batch FOR EACH ROW EXECUTE FUNCTION chaos_see_batch();
CREATE OR REPLACE TRIGGER chaos AFTER UPDATE ON move FOR EACH ROW EXECUTE FUNCTION chaos_see_state();
CREATE OR REPLACE TRIGGER chaos AFTER UPDATE ON job FOR EACH ROW EXECUTE FUNCTION chaos_see_state();
ALTER TABLE audit DISABLE TRIGGER USER;
"""


def watch(sql: Sql) -> None:
    """From now on the job table notes each change of a state and of a lease."""
    sql(WATCH)


def forget(sql: Sql) -> None:
    """Nothing of the lives before is known, so that a seed is the same after any others. Numbers go on: no job's and
    no batch's is given again, whatever a worker of then still does."""
    tables = {name for (name,) in sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}
    rest = sorted(tables - {"alembic_version", "continuity", *LOCKED_FIRST})
    sql(f"TRUNCATE {', '.join([*LOCKED_FIRST, *rest])}")


def broken_books(sql: Sql, job_id: int) -> list[str]:
    """Everything about the job's books that is not as it must be."""
    return [*_accounts(sql, job_id), *_proofs(sql, job_id), *_leases(sql, job_id), *_edges(sql, job_id)]


def _accounts(sql: Sql, job_id: int) -> Iterator[str]:
    wrong = sql(
        f"SELECT source, listed, {SETTLED}, state FROM move WHERE job_id = %s AND state <> 'rolled_back' "
        f"AND listed_all AND open_batches = 0 AND listed <> {SETTLED}",
        job_id,
    )
    for source, listed, settled, state in wrong:
        yield f"{source} ({state}): {listed} listed, {settled} accounted for"
    tallied = sql(
        "SELECT m.source, m.written, coalesce(sum(y.records), 0) FROM move m LEFT JOIN batch b ON b.move_id = m.id AND "
        "b.kind = 'copy' LEFT JOIN batch_tally y ON y.batch_id = b.id WHERE m.job_id = %s GROUP BY m.id "
        "HAVING m.written <> coalesce(sum(y.records), 0)",
        job_id,
    )
    for source, written, records in tallied:
        yield f"{source}: {written} written, {records} in the tallies"
    negative = sql(
        "SELECT source FROM move WHERE job_id = %s AND "
        "least(listed, written, identical, gone, parked, left_behind, erased, deleted, open_batches) < 0",
        job_id,
    )
    yield from (f"{source}: a count below zero" for (source,) in negative)


def _proofs(sql: Sql, job_id: int) -> Iterator[str]:
    """A source differs while a target of it does, and no longer: else nobody could ever delete it."""
    differing = sql(
        "SELECT source FROM move m WHERE job_id = %s AND state = 'mismatched' AND NOT EXISTS (SELECT FROM "
        "move_target x JOIN target t ON t.id = x.target_id WHERE x.move_id = m.id AND t.check_state = 'mismatched')",
        job_id,
    )
    for (source,) in differing:
        yield f"{source} is mismatched, and no target of it is"


def miscounted(sql: Sql, job_id: int, records: Mapping[str, int]) -> list[str]:
    """Sources of a proven job whose listed ids are not those that are (or were, before the clean-up) there, by what is
    known of each: an id that nobody listed is nowhere in the accounts. A source that was erased has another name."""
    rows = sql("SELECT source, listed - gone - erased FROM move WHERE job_id = %s", job_id)
    return [
        f"{source}: {count} ids on record are neither gone nor erased, of {records[source]} records"
        for source, count in rows
        if source in records and count != records[source]
    ]


def _leases(sql: Sql, job_id: int) -> Iterator[str]:
    """A batch has one lease at a time, and one in each generation."""
    held: dict[int, tuple[int, str]] = {}
    leased: set[tuple[int, int]] = set()
    rows = sql(
        "SELECT id, was, now, generation, owner FROM chaos_seen WHERE what = 'batch' AND job_id = %s ORDER BY n", job_id
    )
    for batch, was, now, generation, owner in rows:
        if now != "leased":
            held.pop(batch, None)
        elif was != "leased":
            if batch in held or (batch, generation) in leased:
                yield f"batch {batch} was leased twice in generation {generation}"
            held[batch] = (generation, owner)
            leased.add((batch, generation))
        elif held.get(batch, (generation, owner)) != (generation, owner):
            yield f"the lease of batch {batch} went from {held[batch]} to {(generation, owner)}"


def _edges(sql: Sql, job_id: int) -> Iterator[str]:
    """Every change of a state is an edge of the one table of edges."""
    for what, edges in (("job", JOB_EDGES), ("move", MOVE_EDGES), ("batch", BATCH_EDGES)):
        allowed = {(str(was), str(now)) for was, those in edges.items() for now in those}
        for was, now, times in sql(
            "SELECT was, now, count(*) FROM chaos_seen WHERE what = %s AND job_id = %s AND was <> now GROUP BY 1, 2",
            what,
            job_id,
        ):
            if (was, now) not in allowed:
                yield f"{times} times a {what} went from {was} to {now}: there is no such edge"
