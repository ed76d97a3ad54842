"""A second person: an act that the operator leaves to two is done when another than the first asks for it, too."""

from functools import partial

import pytest
import sqlalchemy as sa
from job_table import JobTable
from stages import AUTO, soaked, verified

from orchestrator.core.hooks import Hook
from orchestrator.core.next_steps import next_steps
from orchestrator.core.states import JobState
from orchestrator.core.two_persons import TwoPersons
from orchestrator.dispatcher import Dispatcher
from orchestrator.ledger import consents, hooks, notices, status
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import NOW, Database
from orchestrator.queue import make_app
from orchestrator.services import acts, hooks_file
from orchestrator.services import hooks as asking
from orchestrator.services.erase import JobTableBooks
from orchestrator.services.hook_calls import answer_next
from orchestrator.services.hooks import LeaveMissing
from orchestrator.services.hooks_file import CommandHook, HooksFile
from orchestrator.telemetry.counters import Counters
from vecfleet.errors import Busy, Refused
from vecfleet.names import Tenant
from vecfleet.settings import Settings

RECEIVER = {"to": "webhook", "url": "https://ops.example.com", "secrets": ["whsec_" + "c2VjcmV0" * 6]}


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
        with pytest.raises(LeaveMissing) as waiting:
            clean_up(table, who)

    # Then nothing is deleted, and everybody sees who asked and what to type
    assert waiting.value.code == "second-person" and f"`vecfleet cleanup {table.job_id}`" in (
        waiting.value.next_step or ""
    )
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
    with pytest.raises(LeaveMissing):
        clean_up(table, "ana")
    with table.begin() as connection:
        connection.execute(sa.update(t.consent).values(at=NOW - sa.text("interval '25 hours'")))
    with pytest.raises(LeaveMissing, match="ben asked for it"):
        clean_up(table, "ben")
    clean_up(table, "ana")
    assert table.job.state is JobState.CLEANING


def test_a_policy_is_no_person_whoever_asks_first(database: Database) -> None:
    # Given a plan that cleans up by itself, and an operator who leaves clean-ups to two
    table = verified(database, **AUTO)
    table.advance()
    leave_to_two(database, TwoPersons.CLEAN_UP)
    soaked(table)
    table.advance(3)
    assert "waits for two persons for the clean-up" in (table.job.reason or "")

    # When one person asks, then the policy does not make it two
    with pytest.raises(LeaveMissing):
        clean_up(table, "ana")
    table.advance(3)
    assert table.job.state is JobState.CUT_OVER and "ana asked for it" in (table.job.reason or "")

    clean_up(table, "ben")
    assert table.job.state is JobState.CLEANING


def test_a_token_that_many_may_know_makes_nobody_a_second_person(database: Database) -> None:
    table = verified(database, cut_over="none", clean_up="operator", soak_seconds=0)
    leave_to_two(database, TwoPersons.CLEAN_UP)
    with pytest.raises(LeaveMissing):
        clean_up(table, "ana")

    # When she asks again, signed in by OPERATOR_TOKEN, then she is told how to be somebody, and nothing changes
    with pytest.raises(Refused) as refused:
        clean_up(table, "operator")
    assert refused.value.code == "no-person" and "--user NAME" in (refused.value.next_step or "")
    assert table.job.state is JobState.VERIFIED
    assert recorded(database)[-1] == ("ana", "ask for a second person")


def test_the_hook_is_asked_once_two_persons_agree_and_their_agreement_waits_for_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "_WAITS_S", 0.0)
    # Given a policy that cleans up, a hook, and an operator who leaves clean-ups to two
    table = verified(database, **AUTO)
    table.advance()
    with database.begin() as connection:
        hooks.declare(connection, {Hook.BEFORE_CLEAN_UP: 30.0})
    leave_to_two(database, TwoPersons.CLEAN_UP)
    soaked(table)
    table.advance(3)
    with pytest.raises(LeaveMissing):
        clean_up(table, "ana")
    # When the second person asks, too, then the hook is asked, and not before
    allows = CommandHook(command=("/bin/true",))
    assert not answer_next(database, Hook.BEFORE_CLEAN_UP, allows)
    with pytest.raises(LeaveMissing, match="goes on only with its leave"):
        clean_up(table, "ben")
    assert answer_next(database, Hook.BEFORE_CLEAN_UP, allows)
    clean_up(table, "ben")
    assert table.job.state is JobState.CLEANING


def test_an_erasure_waits_for_somebody_else_and_goes_on_without_once_it_has_begun(database: Database) -> None:
    books = JobTableBooks(database, Settings())
    tenant = Tenant("zoe", None)
    leave_to_two(database, TwoPersons.ERASURE)
    # Whoever speaks for others is one person
    for who in ("shop (token-1), for ana", "shop (token-1), for ben"):
        with pytest.raises(LeaveMissing, match="waits for a second person for the erasure"):
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


def test_a_tenant_that_asks_for_its_own_erasure_is_one_person_and_named_nowhere(database: Database) -> None:
    books = JobTableBooks(database, Settings())
    leave_to_two(database, TwoPersons.ERASURE)
    for who in ("zoe", "zoe (token-1)", "Zoe (token-2)"):
        with pytest.raises(LeaveMissing, match="the tenant asked for it"):
            books.begin(Tenant("zoe", None), who)
    assert recorded(database) == [("the tenant", "ask for a second person")]
    with database.begin() as connection:
        assert "zoe" not in str(connection.execute(sa.select(t.consent)).all())


def test_an_act_that_is_left_to_one_is_done_at_once(database: Database) -> None:
    table = verified(database, cut_over="none", clean_up="operator", soak_seconds=0)
    leave_to_two(database, TwoPersons.ERASURE)
    clean_up(table, "ana")
    assert table.job.state is JobState.CLEANING


def test_what_the_file_says_outlives_a_job_table_that_is_put_back(database: Database, redis_url: str) -> None:
    # Given a dispatcher whose file leaves clean-ups to two, has a hook and a receiver, and a backup from before it
    table = verified(database, cut_over="none", clean_up="operator", soak_seconds=0)
    hook = {"before-clean-up": {"command": ["/bin/true"]}}
    file = HooksFile.model_validate({"two_persons": ["clean-up"], "hooks": hook, "notices": {"ops": RECEIVER}})
    dispatcher = Dispatcher(
        database, make_app(redis_url), Counters(redis_url), declare=partial(hooks_file.declare, file=file)
    )
    dispatcher.tick()
    with database.begin() as connection:
        for declared in (t.two_persons, t.hook, t.receiver):
            connection.execute(sa.delete(declared))
        connection.execute(sa.update(t.continuity).values(server="7301:00000001:1", sequence=0))

    # When somebody asks before any dispatcher has looked at it, then nothing is held to be allowed
    with pytest.raises(Busy, match="no dispatcher has looked yet"):
        clean_up(table, "ana")

    # When one has looked, then all that the file says counts again, and the receiver is told that the job stopped
    dispatcher.tick()
    with database.begin() as connection:
        assert consents.needed(connection, TwoPersons.CLEAN_UP)
        assert hooks.timeout_s(connection, Hook.BEFORE_CLEAN_UP) is not None
        assert [queue.waiting > 0 for queue in notices.waiting(connection)] == [True]
