"""The audit trail: who did what, chained so that a changed or missing row shows."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
import sqlalchemy as sa
from job_table import JobTable

from orchestrator import services
from orchestrator import tables as t
from orchestrator.ledger import audit
from vecfleet.errors import Refused


def note(table: JobTable, action: str, **payload: Any) -> None:
    with table.begin() as connection:
        audit.note(connection, "ana", action, table.job_id, **payload)


def seal(table: JobTable) -> int:
    with table.begin() as connection:
        return audit.seal(connection)


def walk(table: JobTable, time_zone: str = "UTC") -> audit.Chain:
    with table.begin() as connection:
        connection.execute(sa.text(f"SET LOCAL TIME ZONE '{time_zone}'"))
        return audit.walk(connection)


def holds(table: JobTable, time_zone: str = "UTC") -> bool:
    """Whether the chain, walked from its beginning, leads to its head, past every sealed row."""
    chain = walk(table, time_zone)
    with table.begin() as connection:
        return chain.broken is None and chain.head == audit.head(connection)


@pytest.fixture
def sealed(table: JobTable) -> JobTable:
    for number in range(4):
        note(table, f"act {number}", records=number, share=0.5, names=["é", "b"])
    assert seal(table) == 4
    return table


def change(table: JobTable, statement: str) -> None:
    with table.begin() as connection:
        assert connection.execute(sa.text(statement)).rowcount == 1


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


def test_a_row_removed_from_the_end_shows_in_the_head(sealed: JobTable) -> None:
    """The chain alone cannot show it: that is why reports carry the head."""
    with sealed.begin() as connection:
        reported = audit.head(connection)
    change(sealed, "DELETE FROM audit WHERE id = 4")
    with sealed.begin() as connection:
        assert audit.head(connection) != reported


def test_erasing_a_persons_payload_leaves_the_chain_valid(sealed: JobTable) -> None:
    change(sealed, "UPDATE audit SET payload = NULL WHERE id = 2")
    assert holds(sealed)
    assert walk(sealed).sealed == 4


def test_the_chain_is_the_same_in_every_time_zone(sealed: JobTable) -> None:
    """The sealer and the auditor may sit in different places."""
    assert holds(sealed, "Asia/Kolkata")
    assert holds(sealed, "America/St_Johns")


def test_two_sealers_at_once_make_one_chain(table: JobTable) -> None:
    for number in range(20):
        note(table, f"act {number}")
    ready = Barrier(4)

    def race(_: int) -> int:
        ready.wait(timeout=120)
        return seal(table)

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(race, range(4))) == 20
    assert holds(table)


def test_an_act_that_is_refused_leaves_no_trace(table: JobTable) -> None:
    with pytest.raises(Refused):
        services.resume(table.database, table.job_id, "ana")
    with table.begin() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(t.audit)).scalar_one() == 0


def test_acts_of_people_are_on_record_with_their_reasons(table: JobTable) -> None:
    table.start()
    services.pause(table.database, table.job_id, "ana", "lunch")
    services.resume(table.database, table.job_id, "ben")
    services.cancel(table.database, table.job_id, "cleo")
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
        note(table, "quick")
        assert seal(table) == 1
    # When it commits, then it is sealed behind the other
    assert seal(table) == 1
    assert holds(table)
