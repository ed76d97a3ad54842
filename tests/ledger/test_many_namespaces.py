"""The dispatcher's queries at every tick are answered soon, however many namespaces a job has."""

from typing import Any

import sqlalchemy as sa
from job_table import INDEX, JobTable, plan_of, planned
from statements import explained, listening, nodes

from migrations.plan import Policies
from orchestrator.ledger import checks, jobs
from orchestrator.ledger.database import Database

NAMESPACES = 12_000
# A handful of passes over the namespaces; a loop in a loop handles 144 million rows.
MOST_ROWS = 20 * NAMESPACES


def test_which_targets_can_be_checked_is_known_soon_while_12000_sources_are_copied(database: Database) -> None:
    # Given a job of 12,000 namespaces, all of them halfway, one of them done
    table = JobTable(database)
    table.apply(plan_of(*(planned(f"s{number}", f"t{number}") for number in range(NAMESPACES))))
    with table.by_hand() as connection:
        connection.execute(sa.text("UPDATE move SET state = 'copying'"))
        connection.execute(sa.text("UPDATE move SET state = 'copied' WHERE source = 's7'"))
        connection.execute(sa.text('INSERT INTO target (job_id, namespace) SELECT job_id, "to" FROM move'))
        connection.execute(sa.text("ANALYZE move, target"))

    # When the dispatcher looks for targets to be checked, then it finds that one, without comparing each with each
    with listening(database.engine) as asked, table.begin() as connection:
        assert checks.begin(connection, table.job_id, Policies()) == 1
        connection.rollback()
    with table.begin() as connection:
        for statement, parameters in asked.statements:
            if statement.startswith("SELECT"):
                assert rows_handled(explained(connection, statement, parameters, analyze=True)) < MOST_ROWS, statement


def rows_handled(plan: dict[str, Any]) -> float:
    names = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Join Filter")
    return sum(part["Actual Loops"] * sum(part.get(name, 0) for name in names) for part in nodes(plan))


def test_more_namespaces_than_a_statement_has_parameters_can_be_claimed(database: Database) -> None:
    table = JobTable(database)
    table.apply(plan_of(planned("s", "t")))
    names = [f"n{number}" for number in range(70_000)]
    with table.begin() as connection:
        jobs.claim(connection, table.job_id, INDEX.host, names, "source")
        jobs.claim(connection, table.job_id, INDEX.host, names, "source")
        claimed = connection.execute(sa.text("SELECT count(*) FROM claim WHERE role = 'source'")).scalar_one()
    assert claimed == len(names) + 1


def test_more_targets_than_a_statement_has_parameters_are_checked_again(database: Database) -> None:
    table = JobTable(database)
    table.apply(plan_of(planned("s", "t")))
    table.verified()
    many = [target.id for target in table.targets.values()] + list(range(10**9, 10**9 + 70_000))
    with table.begin() as connection:
        checks.restart(connection, many)
        assert checks.expected_of(connection, many).keys() == {many[0]}
    assert [target.check_state for target in table.targets.values()] == ["waiting"]
