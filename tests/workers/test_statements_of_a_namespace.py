"""The statements of a small namespace, from its listing to its last check: each costs it a trip to the job table."""

import pytest
import sqlalchemy as sa
from in_one_process import TARGET, open_one, twenty_three
from job_table import planned

from orchestrator.core.states import JobState
from orchestrator.ledger.database import Database
from workers import runner

IN_ALL = 15


def note_all(database: Database, asked: list[str]) -> None:
    """Note every statement, also those that begin and end a transaction."""

    def note(_: object, __: object, statement: str, *___: object) -> None:
        asked.append(statement)

    def committed(connection: sa.Connection) -> None:
        if not connection.get_execution_options().get("each_its_own"):
            asked.append("COMMIT")

    sa.event.listen(database.engine, "before_cursor_execute", note)
    sa.event.listen(database.engine, "commit", committed)


def test_a_namespace_of_one_batch_costs_its_workers_fifteen_statements(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_on, asked, leases, statements = runner._work_on, list[str](), list[object](), list[str]()

    def counted(process, lease, *given):  # type: ignore[no-untyped-def]
        leases.append(lease.kind)
        asked.clear()
        done = work_on(process, lease, *given)
        statements.extend(asked)
        return done

    monkeypatch.setattr(runner, "_work_on", counted)
    # Given a process that has read what it reads once for all namespaces of a job
    with open_one(database_url, redis_url, {"s": twenty_three()[:5]}, planned("s", TARGET, 5)) as one:
        one.process.router(one.table.job)
        note_all(one.process.database, asked)
        # When a namespace is copied and verified
        one.until(JobState.VERIFIED)
    # Then its four batches were each leased in one statement, and took no more than these besides
    assert len(leases) == 4
    assert len(leases) + len(statements) <= IN_ALL, "\n".join(statements)
