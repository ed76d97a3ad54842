"""A second person: an act that the operator leaves to two is done when another than the first asks for it, too."""

import pytest
import sqlalchemy as sa
from job_table import JobTable
from stages import AUTO, soaked, verified

from orchestrator.core.hooks import Hook, TwoPersons
from orchestrator.core.next_steps import next_steps
from orchestrator.core.states import JobState
from orchestrator.ledger import consents, hooks, status
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import NOW, Database
from orchestrator.services import acts
from orchestrator.services.erase import JobTableBooks
from orchestrator.services.hook_calls import answer_next
from orchestrator.services.hooks import Held
from orchestrator.services.hooks_file import CommandHook
from vecfleet.names import Tenant
from vecfleet.settings import Settings


def leave_to_two(database: Database, *acts_of_two: TwoPersons) -> None:
    with database.begin() as connection:
        consents.declare(connection, acts_of_two)


def clean_up(table: JobTable, who: str) -> None:
    acts.clean_up(table.database, table.job_id, who, by_ids=False)


def recorded(database: Database) -> list[tuple[str, str]]:
    with database.begin() as connection:
        rows = connection.execute(sa.select(t.audit.c.who, t.audit.c.action).order_by(t.audit.c.id)).all()
    return [(row.who, row.action) for row in rows]


def test_a_clean_up_waits_for_somebody_else_and_both_are_on_record(database: Database) -> None:
    table = verified(database, cut_over="none", clean_up="operator", soak_seconds=0)
    leave_to_two(database, TwoPersons.CLEAN_UP)

    # When one person asks, twice, and under another token
    for who in ("ana", "ana", "ana (another token)"):
        with pytest.raises(Held) as held:
            clean_up(table, who)

    # Then nothing is deleted, and everybody sees who asked and what to type
    assert held.value.code == "second-person" and f"`vecfleet cleanup {table.job_id}`" in (held.value.next_step or "")
    assert table.job.state is JobState.VERIFIED
    assert table.job.reason == "waits for a second person for the clean-up: ana asked for it"
    with table.begin() as connection:
        reading = status.reading(connection, table.job_id, namespaces=0)
    assert next_steps(reading)[0] == f"vecfleet cleanup {table.job_id}"

    # When another asks for it, too
    clean_up(table, "ben")

    # Then it begins, and the trail names both
    assert table.job.state is JobState.CLEANING
    assert recorded(database)[-3:] == [
        ("ana", "ask for a second person"),
        ("ben", "agree as the second person"),
        ("ben", "clean up"),
    ]


def test_what_was_asked_for_yesterday_needs_two_again(database: Database) -> None:
    table = verified(database, cut_over="none", clean_up="operator", soak_seconds=0)
    leave_to_two(database, TwoPersons.CLEAN_UP)
    with pytest.raises(Held):
        clean_up(table, "ana")
    with table.begin() as connection:
        connection.execute(sa.update(t.consent).values(at=NOW - sa.text("interval '25 hours'")))
    with pytest.raises(Held, match="ben asked for it"):
        clean_up(table, "ben")
    clean_up(table, "ana")
    assert table.job.state is JobState.CLEANING


def test_a_policy_is_the_first_and_never_the_second(database: Database) -> None:
    table = verified(database, **AUTO)
    table.advance()
    leave_to_two(database, TwoPersons.CLEAN_UP)
    soaked(table)
    table.advance(3)
    assert table.job.state is JobState.CUT_OVER and "policy asked for it" in (table.job.reason or "")
    clean_up(table, "ana")
    assert table.job.state is JobState.CLEANING


def test_while_a_second_person_is_missing_the_hook_is_not_asked_again_and_again(
    database: Database,
) -> None:
    # Given a policy that cleans up, a hook that allows it, and an operator who wants a person besides
    table = verified(database, **AUTO)
    table.advance()
    with database.begin() as connection:
        hooks.declare(connection, {Hook.BEFORE_CLEAN_UP: 30.0})
    leave_to_two(database, TwoPersons.CLEAN_UP)
    soaked(table)
    allows = CommandHook(command=("/bin/true",))
    # When the dispatcher looks at the job many times
    answers = 0
    for _ in range(5):
        table.advance()
        answers += answer_next(database, Hook.BEFORE_CLEAN_UP, allows)
    # Then the hook was asked once, and its answer is there when a person agrees
    assert answers == 1 and "policy asked for it" in (table.job.reason or "")
    clean_up(table, "ana")
    assert table.job.state is JobState.CLEANING


def test_an_erasure_waits_for_somebody_else_and_goes_on_without_once_it_has_begun(database: Database) -> None:
    books = JobTableBooks(database, Settings())
    tenant = Tenant("zoe", None)
    leave_to_two(database, TwoPersons.ERASURE)
    # Whoever speaks for others is one person
    for who in ("shop (token-1), for ana", "shop (token-1), for ben"):
        with pytest.raises(Held, match="waits for a second person for the erasure"):
            books.begin(tenant, who)
    assert not books.fenced(tenant)

    books.begin(tenant, "ben")

    assert books.fenced(tenant)
    assert recorded(database) == [
        ("shop (token-1), for ana", "ask for a second person"),
        ("ben", "agree as the second person"),
        ("ben", "erase"),
    ]
    books.begin(tenant, "ben")  # the same again: reads lagged, or it died
    with database.begin() as connection:
        assert "zoe" not in str(connection.execute(sa.select(t.consent)).all())


def test_an_act_that_is_left_to_one_is_done_at_once(database: Database) -> None:
    table = verified(database, cut_over="none", clean_up="operator", soak_seconds=0)
    leave_to_two(database, TwoPersons.ERASURE)
    clean_up(table, "ana")
    assert table.job.state is JobState.CLEANING
