"""The dispatcher's queries at every tick are answered soon, however many namespaces a job has."""

import ast
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from job_table import INDEX, JobTable, plan_of, planned
from statements import explained, listening, nodes

import orchestrator.ledger
from migrations.plan import Policies
from orchestrator.core.model import Wakeup
from orchestrator.core.states import BatchKind, JobState
from orchestrator.ledger import batches, checks, jobs, parked, routes
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


def test_what_a_person_or_a_dispatcher_names_at_once_may_be_more_than_a_statement_has_parameters(
    database: Database,
) -> None:
    table = JobTable(database)
    table.apply(plan_of(planned("s", "t")))
    none = range(10**9, 10**9 + 70_000)
    with table.begin() as connection:
        assert not parked.undo(connection, table.job_id, [f"r{number}" for number in none])
        assert not parked.accept_batches(connection, table.job_id, "ana", list(none))
        routes.set_sides(connection, list(none), [])
        batches.undispatch(connection, [Wakeup(number, 0, BatchKind.COPY, 1, "s", 1, 1) for number in none])
    assert table.job.state is JobState.PLANNED


def lists_of_any_length(text: str) -> list[str]:
    """Return each IN that takes neither the states and kinds that we have nor a query: `among` takes any number."""
    tree = ast.parse(text)
    queries = {
        name.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and ("select(" in ast.unparse(node.value) or isinstance(node.value, ast.Tuple))
        for name in node.targets
        if isinstance(name, ast.Name)
    }

    def is_bounded(asked: ast.expr) -> bool:
        match asked:
            case ast.Tuple():
                return True
            case ast.Name(id=name):
                return name.isupper() or name in queries | {"states", "kinds"}
            case ast.Subscript(value=value):
                return is_bounded(value)
            case ast.Call(func=ast.Name(id="sorted" | "list"), args=[argument]):
                return is_bounded(argument)
            case ast.Call(func=ast.Attribute(value=value)):
                return "select(" in ast.unparse(asked) or is_bounded(value)
        return False

    lists = []
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="in_" | "not_in"), args=[argument]) if not is_bounded(argument):
                lists.append(ast.unparse(node))
    return lists


def test_no_statement_of_the_ledger_takes_a_parameter_for_each_id() -> None:
    modules = list(Path(orchestrator.ledger.__file__).parent.glob("*.py"))
    assert len(modules) > 30
    assert {path.name: lists for path in modules if (lists := lists_of_any_length(path.read_text()))} == {}


@pytest.mark.parametrize("line", ["_B.id.in_(ids)", "_B.id.not_in([row.id for row in rows])", "_B.id.in_(sorted(ids))"])
def test_a_parameter_for_each_id_is_seen(line: str) -> None:
    assert lists_of_any_length(line) == [line]
