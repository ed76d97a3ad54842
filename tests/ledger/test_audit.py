"""The audit trail: who did what, chained so that a changed or missing row shows."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier
from typing import Any

import pytest
import sqlalchemy as sa
from job_table import JobTable, plan_of, planned

from orchestrator.ledger import audit, erasures
from orchestrator.ledger import tables as t
from orchestrator.ledger.audit import Seals
from orchestrator.services import acts
from vecfleet.errors import Refused


def note(table: JobTable, action: str, **payload: Any) -> None:
    with table.begin() as connection:
        audit.note(connection, "ana", action, table.job_id, **payload)


KEYED, OTHER, NONE = Seals("a key"), Seals("another key"), Seals()


def seal(table: JobTable, seals: Seals = KEYED) -> int:
    with table.begin() as connection:
        return audit.seal(connection, seals)


def walk(table: JobTable, time_zone: str = "UTC", seals: Seals = KEYED, head: str | None = None) -> audit.Chain:
    with table.begin() as connection:
        connection.execute(sa.text(f"SET LOCAL TIME ZONE '{time_zone}'"))
        return audit.walk(connection, seals, head)


def head_of(table: JobTable) -> str:
    with table.begin() as connection:
        return audit.head(connection)


def holds(table: JobTable, time_zone: str = "UTC") -> bool:
    """Say whether the chain, walked from its beginning, leads to its head, past every sealed row."""
    chain = walk(table, time_zone)
    with table.begin() as connection:
        return chain.broken is None and chain.head == audit.head(connection)


@pytest.fixture
def sealed(table: JobTable) -> JobTable:
    for number in range(4):
        note(table, act(number), records=number, share=0.5, names=["é", "b"])
    assert seal(table) == 4
    return table


def act(number: int) -> str:
    """The acts on a job: it was applied, and more."""
    return f"act {number}" if number else "apply"


def change(table: JobTable, *statements: str) -> None:
    """As somebody who owns the table and takes its guard away first."""
    with table.begin() as connection:
        connection.execute(sa.text("ALTER TABLE audit DISABLE TRIGGER USER"))
        for statement in statements:
            connection.execute(sa.text(statement))
        connection.execute(sa.text("ALTER TABLE audit ENABLE TRIGGER USER"))


def reseal(table: JobTable, seals: Seals) -> None:
    """Make the chain anew, as somebody who knows how it is made."""
    change(table, "DELETE FROM audit_head", "UPDATE audit SET hash = NULL, previous_hash = NULL")
    assert seal(table, seals) > 0


def test_what_is_sealed_holds_and_grows(sealed: JobTable) -> None:
    assert holds(sealed)
    assert seal(sealed) == 0
    note(sealed, "one more")
    assert (walk(sealed).sealed, walk(sealed).unsealed) == (4, 1)
    assert seal(sealed) == 1
    assert holds(sealed)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET who = 'mallory' WHERE id = 2",
        "UPDATE audit SET action = 'nothing' WHERE id = 2",
        "UPDATE audit SET at = at + interval '1 second' WHERE id = 2",
        "UPDATE audit SET job_id = 99 WHERE id = 2",
        "UPDATE audit SET payload_digest = 'x' WHERE id = 2",
        "UPDATE audit SET payload = '{}' WHERE id = 2",
        "DELETE FROM audit WHERE id = 1",
        "DELETE FROM audit WHERE id = 2",
    ],
)
def test_a_changed_or_missing_row_breaks_the_chain(sealed: JobTable, statement: str) -> None:
    change(sealed, statement)
    chain = walk(sealed)
    assert chain.broken
    assert chain.sealed < 4


@pytest.mark.parametrize(
    "statements",
    [
        pytest.param(["DELETE FROM audit WHERE id = 4"], id="a cut tail"),
        pytest.param(["DELETE FROM audit WHERE id > 1"], id="a long cut tail"),
        pytest.param(["DELETE FROM audit"], id="an emptied table"),
        pytest.param(["TRUNCATE audit"], id="a truncated table"),
        pytest.param(["DELETE FROM audit", "DELETE FROM audit_head"], id="everything emptied"),
        pytest.param(["UPDATE audit SET hash = NULL, previous_hash = NULL"], id="nulled hashes"),
        pytest.param(["UPDATE audit SET hash = NULL, previous_hash = NULL WHERE id = 4"], id="the last hash nulled"),
        pytest.param(["UPDATE audit SET payload = NULL WHERE id = 2"], id="a nulled payload"),
        pytest.param(["UPDATE audit SET payload = NULL"], id="nulled payloads"),
        pytest.param(["DELETE FROM audit_head"], id="no end on record"),
        pytest.param(["UPDATE audit_head SET head = (SELECT hash FROM audit WHERE id = 3)"], id="a forged head"),
        pytest.param(
            [
                "UPDATE audit_head SET rows = 3, head = (SELECT hash FROM audit WHERE id = 3)",
                "DELETE FROM audit WHERE id = 4",
            ],
            id="a forged head for a cut tail",
        ),
    ],
)
def test_what_is_taken_away_shows_and_is_not_built_upon(sealed: JobTable, statements: list[str]) -> None:
    reported = head_of(sealed)
    change(sealed, *statements)
    assert walk(sealed).broken
    assert walk(sealed, head=reported).broken
    # And whatever the dispatcher seals next does not hide it
    note(sealed, "one more")
    with suppress(Refused):
        seal(sealed)
    assert walk(sealed, head=reported).broken


@pytest.mark.parametrize("acts", [["one more"], ["apply"]], ids=["an act", "an act that applies another job"])
def test_a_trail_that_was_emptied_with_its_recorded_end_is_missed_however_it_goes_on(
    sealed: JobTable, acts: list[str]
) -> None:
    # Given a second job, and a trail that somebody emptied with its recorded end
    change(sealed, "DELETE FROM audit", "DELETE FROM audit_head")
    sealed.apply(plan_of(planned("u", "v")))
    # When the fleet goes on, and seals what it does
    for action in acts:
        note(sealed, action)
        assert seal(sealed) == 1
    # Then the job from before is there, and the act that began it is not
    assert "job 1 is there, and the act that began it is not" in str(walk(sealed).broken)


def test_an_erasure_whose_beginning_was_taken_away_is_missed(sealed: JobTable) -> None:
    with sealed.begin() as connection:
        erasures.begin(connection, "a digest", "ana")
    seal(sealed)
    assert holds(sealed)
    change(sealed, "DELETE FROM audit", "DELETE FROM audit_head")
    note(sealed, "apply")
    seal(sealed)
    assert "an erasure is there, and the act that began it is not" in str(walk(sealed).broken)


def test_a_chain_that_was_made_anew_lacks_the_head_in_a_certificate_even_with_the_key(sealed: JobTable) -> None:
    # Given a certificate that tells the head of then
    with sealed.begin() as connection:
        number = erasures.begin(connection, "a digest", "ana")
        erasures.certify(connection, number, "ana", {"audit_head": audit.head(connection)})
    seal(sealed)
    assert holds(sealed)
    # When all of it is rewritten and sealed anew
    change(sealed, "UPDATE audit SET who = 'mallory' WHERE id = 2")
    reseal(sealed, KEYED)
    # Then nobody has to give that head to see it
    assert "the head in a certificate" in str(walk(sealed).broken)


def test_a_chain_that_was_rewritten_and_sealed_anew_does_not_hold_without_the_key(sealed: JobTable) -> None:
    for seals in (NONE, OTHER):
        change(sealed, "UPDATE audit SET who = 'mallory' WHERE id = 2")
        reseal(sealed, seals)
        assert walk(sealed).broken
        # And the dispatcher, who has the key, adds nothing on top
        note(sealed, "one more")
        with pytest.raises(Refused, match="not added to"):
            seal(sealed)


def test_a_head_of_a_report_shows_what_even_the_key_cannot(sealed: JobTable) -> None:
    """Whoever has the key, or puts back all tables as they were, makes a chain that holds; not with that head in it."""
    reported = head_of(sealed)
    note(sealed, "one more")
    seal(sealed)
    assert walk(sealed, head=reported).broken is None
    change(sealed, "UPDATE audit SET who = 'mallory' WHERE id = 2")
    reseal(sealed, KEYED)
    assert walk(sealed).broken is None
    assert "none of its seals" in str(walk(sealed, head=reported).broken)


def test_postgres_itself_refuses_to_change_what_is_on_record(sealed: JobTable) -> None:
    for statement in (
        "UPDATE audit SET who = 'mallory'",
        "UPDATE audit SET payload = '{}'",
        "UPDATE audit SET hash = NULL, previous_hash = NULL",
        "DELETE FROM audit WHERE id = 4",
        "TRUNCATE audit",
    ):
        with pytest.raises(sa.exc.ProgrammingError, match="only added to"), sealed.begin() as connection:
            connection.execute(sa.text(statement))
    assert holds(sealed)


def test_payloads_that_an_erasure_emptied_leave_the_chain_valid(sealed: JobTable) -> None:
    with sealed.begin() as connection:
        number = erasures.begin(connection, "a digest", "ana")
        audit.empty_payloads(connection, [2, 3], "ana", number)
    seal(sealed)
    assert holds(sealed)
    # And no others
    change(sealed, "UPDATE audit SET payload = NULL WHERE id = 1")
    assert "no erasure is on record" in str(walk(sealed).broken)


def test_a_chain_of_before_there_were_keys_holds_and_is_locked_once(table: JobTable) -> None:
    # Given a chain without a key
    for number in range(3):
        note(table, act(number))
    seal(table, NONE)
    old = head_of(table)
    assert walk(table, seals=NONE).broken is None
    # When a key is set, then the dispatcher adds nothing until a person says that this is the chain
    note(table, "one more")
    with pytest.raises(Refused, match="audit-log lock"):
        seal(table)
    assert "whoever writes to the job table" in str(walk(table).broken)
    with table.begin() as connection:
        assert audit.lock(connection, KEYED, "ana") == 5
    # Then all of it holds, with the key, and earlier heads still do
    assert walk(table, head=old).broken is None
    assert walk(table).sealed == 5
    note(table, "one more")
    assert seal(table) == 1
    with table.begin() as connection:
        assert audit.lock(connection, KEYED, "ana") == 0
    # And nobody goes on without the key
    note(table, "one more")
    with pytest.raises(Refused, match="AUDIT_KEY does not hold"):
        seal(table, NONE)
    assert "AUDIT_KEY does not hold" in str(walk(table, seals=NONE).broken)


def test_a_key_is_changed_by_putting_the_new_one_first(sealed: JobTable) -> None:
    both = Seals("another key", "a key")
    note(sealed, "one more")
    assert seal(sealed, both) == 1
    assert walk(sealed, seals=both).broken is None
    assert "AUDIT_KEY does not hold" in str(walk(sealed, seals=OTHER).broken)


def test_the_chain_is_the_same_in_every_time_zone(sealed: JobTable) -> None:
    """The sealer and the auditor may sit in different places."""
    assert holds(sealed, "Asia/Kolkata")
    assert holds(sealed, "America/St_Johns")


def test_two_sealers_at_once_make_one_chain(table: JobTable) -> None:
    for number in range(20):
        note(table, act(number))
    ready = Barrier(4)

    def race(_: int) -> int:
        ready.wait(timeout=120)
        return seal(table)

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(race, range(4))) == 20
    assert holds(table)


def test_an_act_that_is_refused_leaves_no_trace(table: JobTable) -> None:
    with pytest.raises(Refused):
        acts.resume(table.database, table.job_id, "ana")
    with table.begin() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(t.audit)).scalar_one() == 0


def test_acts_of_people_are_on_record_with_their_reasons(table: JobTable) -> None:
    table.start()
    acts.pause(table.database, table.job_id, "ana", "lunch")
    acts.resume(table.database, table.job_id, "ben")
    acts.cancel(table.database, table.job_id, "cleo")
    with table.begin() as connection:
        rows = connection.execute(sa.select(t.audit).order_by(t.audit.c.id)).all()
    assert [(row.who, row.action, row.job_id) for row in rows] == [
        ("ana", "pause", table.job_id),
        ("ben", "resume", table.job_id),
        ("cleo", "cancel", table.job_id),
    ]
    assert rows[0].payload == {"reason": "lunch"}


def test_a_row_that_commits_late_is_chained_late_and_not_lost(table: JobTable) -> None:
    # Given an act whose transaction is still open while a later one is sealed
    with table.begin() as slow:
        audit.note(slow, "ana", "slow", None)
        note(table, "apply")
        assert seal(table) == 1
    # When it commits, then it is sealed behind the other
    assert seal(table) == 1
    assert holds(table)
