"""Queries of every tick, lease and look read what they need by an index, however many batches a job has.

Each question is put to a job of 100,000 batches, and Postgres is asked how it answers each statement of it.
"""

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from job_table import JobTable, plan_of, planned
from statements import explained, listening, nodes

from orchestrator.core.retrying import MAX_ATTEMPTS
from orchestrator.core.states import BatchKind, JobState
from orchestrator.ledger import batches, check_results, checks, leasing, moves, parked, status
from orchestrator.ledger.database import Database

MOVES, BATCHES_EACH = 2_000, 50
WINDOW = 160  # room for 64 more than are under way
# Most are done; a few thousand are due, a window of them is under way, some are parked.
STATES = """
    CASE WHEN n % 2000 = 7 THEN 'parked'
         WHEN seq < 48 THEN 'done'
         WHEN n % 2500 = 48 THEN 'leased'
         WHEN n % 2500 = 49 THEN 'dispatched'
         ELSE 'ready' END
"""
FILL = f"""
INSERT INTO batch (job_id, move_id, kind, seq, state, first_id, size, manifest, lease_until, dispatched_at, done_at)
SELECT :job, move.id, 'copy', seq, {STATES}, 'id-' || seq, 100, '\\x00',
       clock_timestamp() + interval '1 minute', clock_timestamp(), clock_timestamp()
FROM (SELECT id, row_number() OVER (ORDER BY id) AS m FROM move WHERE job_id = :job) AS move,
     generate_series(0, {BATCHES_EACH - 1}) AS seq, LATERAL (SELECT (m - 1) * {BATCHES_EACH} + seq) AS number (n)
"""

SMALL = """
INSERT INTO batch (job_id, move_id, kind, seq, state, first_id, size, manifest)
SELECT :job, move.id, :kind, 0, :state, 'id', 100, '\\x00' FROM move WHERE job_id = :job
"""


@pytest.fixture
def big(database: Database) -> JobTable:
    """A running job of 100,000 copy batches, and what Postgres knows of such a table."""
    table = JobTable(database)
    table.apply(plan_of(*(planned(f"s-{n:05}", f"t-{n:05}") for n in range(MOVES))))
    table.put(state=JobState.RUNNING, batch_window=WINDOW)
    with table.begin() as connection:
        connection.execute(sa.text(FILL), {"job": table.job_id})
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("VACUUM ANALYZE"))
    return table


def reads_through(table: JobTable, statements: list[tuple[str, Any]]) -> dict[str, set[str]]:
    """Statement → `batch`, where it reads that table from one end to the other."""
    found: dict[str, set[str]] = {}
    with table.begin() as connection:
        for statement, parameters in statements:
            if not statement.lstrip().upper().startswith(("SELECT", "UPDATE", "INSERT", "DELETE", "WITH")):
                continue
            parts = nodes(explained(connection, statement, parameters))
            scanned = {part["Relation Name"] for part in parts if part["Node Type"] == "Seq Scan"}
            found[statement] = scanned & {"batch"}
    return found


def take_one(connection: sa.Connection, table: JobTable) -> None:
    due = batches.dispatch(connection, table.job_id)[0][0]
    assert leasing.lease(connection, due.batch_id, due.generation, "worker", 60.0) is not None


def heartbeat(connection: sa.Connection, table: JobTable) -> None:
    held = [(row.id, row.generation) for row in connection.execute(sa.text("SELECT * FROM batch WHERE state='leased'"))]
    batches.renew(connection, held, "worker", 60.0)


QUESTIONS: dict[str, Callable[[sa.Connection, JobTable], object]] = {
    "what is due": lambda c, table: batches.dispatch(c, table.job_id),
    "a lease": take_one,
    "what a worker goes on with": lambda c, table: leasing.lease_next(
        c, table.job_id, [BatchKind.COPY], "worker", 60.0
    ),
    "leases that ran out": lambda c, table: batches.requeue_expired(c, [table.job_id], MAX_ATTEMPTS),
    "wake-ups that were lost": lambda c, table: (
        batches.overdue(c, [table.job_id], 15.0),
        batches.sent(c, [table.job_id], BatchKind),
        batches.resend(c, [table.job_id], BatchKind, 15.0),
    ),
    "a copy in flight": lambda c, table: batches.any_copy_leased(c, table.job_id),
    "what is open": lambda c, table: batches.open_by_kind(c, table.job_id),
    "parked ones": lambda c, table: (parked.batches(c, table.job_id), parked.undecided(c, table.job_id)),
    "the status": lambda c, table: status.reading(c, table.job_id, namespaces=50),
    "verdicts that are due": lambda c, table: check_results.judgeable(c, table.job_id, table.plan.policies),
    "moves that are done": lambda c, table: (
        moves.counts_by_state(c, table.job_id),
        checks.settle_moves(c, table.job_id),
    ),
}


def test_no_question_of_every_moment_reads_all_batches(big: JobTable) -> None:
    for name, ask in QUESTIONS.items():
        # When it is asked
        with listening(big.database.engine) as asked, big.begin() as connection:
            ask(connection, big)
            connection.rollback()
        # Then none of its statements goes through all batches
        statements = [one for one in asked.statements if "state='leased'" not in one[0]]
        assert statements, name
        for statement, tables in reads_through(big, statements).items():
            assert not tables, f"{name}: {statement}"

    # And a batch is deleted without a look at every other: what names it is found by an index
    for name in ("batch", "finding"):
        query = f"SELECT 1 FROM ONLY {name} x WHERE copy_id = 17 FOR KEY SHARE OF x"
        assert reads_through(big, [(query, ())])[query] == set(), name


def rows_read(plan: dict[str, Any], table: str = "batch") -> int:
    """Return how many rows of a table a statement looked at, those included that it did not want."""
    scans = [part for part in nodes(plan) if part.get("Relation Name") == table and "Scan" in part["Node Type"]]
    kept_and_not = [part["Actual Rows"] + part.get("Rows Removed by Filter", 0) for part in scans]
    return int(sum(rows * part["Actual Loops"] for rows, part in zip(kept_and_not, scans, strict=True)))


def test_what_a_worker_goes_on_with_is_found_without_a_look_at_all_that_is_ready(database: Database) -> None:
    """With 12,000 namespaces ready a worker read and sorted them all for each batch that it went on with: 40 ms."""
    # Given a job of many small namespaces, most of them copied and checked, thousands to be copied
    table = JobTable(database)
    table.apply(plan_of(*(planned(f"s-{n:05}", f"t-{n:05}") for n in range(MOVES))))
    table.put(state=JobState.RUNNING)
    with table.begin() as connection:
        for kind, state in (("list", "done"), ("copy", "ready"), ("verify", "ready")):
            connection.execute(sa.text(SMALL), {"job": table.job_id, "kind": kind, "state": state})
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("ANALYZE"))

    # When the next one is taken
    with listening(database.engine) as asked, table.begin() as connection:
        QUESTIONS["what a worker goes on with"](connection, table)
        connection.rollback()

    # Then hardly more than that was looked at
    [(statement, parameters)] = [one for one in asked.statements if one[0].lstrip().startswith("WITH")]
    with table.begin() as connection:
        assert rows_read(explained(connection, statement, parameters, analyze=True)) < 20


PARK = """
INSERT INTO parked_record (job_id, move_id, batch_id, record_id, reason)
SELECT :job, :move, :batch, 'r-' || n, 'record ' || n || ' is too large' FROM generate_series(1, 5000) AS n
"""


def test_the_reasons_of_many_parked_records_are_told_by_a_look_at_the_first_ones(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look at a job of a million parked records read all of them."""
    # Given two jobs with ten times as many parked records each as a look takes in
    monkeypatch.setattr(parked, "LOOKED_AT", 500)
    table = JobTable(database)
    for name in ("first", "second"):
        table.apply(plan_of(planned(name, f"t-{name}")))
        with table.begin() as connection:
            connection.execute(sa.text(SMALL), {"job": table.job_id, "kind": "copy", "state": "done"})
            [row] = connection.execute(sa.text("SELECT id, move_id FROM batch WHERE job_id = :j"), {"j": table.job_id})
            connection.execute(sa.text(PARK), {"job": table.job_id, "move": row.move_id, "batch": row.id})
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("VACUUM ANALYZE"))

    # When it is asked why those of one are parked
    with listening(database.engine) as asked, table.begin() as connection:
        [group] = parked.groups(connection, table.job_id)

    # Then the answer says that it rests on the first ones, and hardly more rows than those were read
    assert str(group) == f"at least {parked.LOOKED_AT:,} records in second: record … is too large"
    [(statement, parameters)] = [one for one in asked.statements if "parked_record" in one[0]]
    with table.begin() as connection:
        plan = explained(connection, statement, parameters, analyze=True)
    assert rows_read(plan, "parked_record") <= parked.LOOKED_AT
