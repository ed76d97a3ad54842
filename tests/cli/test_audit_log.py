"""The audit trail says what people did; a change to it shows."""

import sqlalchemy as sa

from orchestrator.ledger import audit
from orchestrator.ledger.database import Database


def _three_acts(database_url: str) -> Database:
    database = Database(database_url)
    for action in ("apply", "cut over", "clean up"):
        with database.begin() as connection:
            audit.note(connection, "mira", action, 1, sources=["a", "b"])
    with database.begin() as connection:
        audit.seal(connection)
    return database


def test_an_untouched_trail_hangs_together(database_url: str) -> None:
    # Given three acts, sealed, and one that is not sealed yet
    database = _three_acts(database_url)
    with database.begin() as connection:
        audit.note(connection, "mira", "reverse", 1)
        chain = audit.walk(connection)

    # Then the three hang together up to the head that reports print
    assert (chain.sealed, chain.unsealed, chain.broken) == (3, 1, None)
    with database.begin() as connection:
        assert chain.head == audit.head(connection)


def test_a_changed_row_a_changed_payload_and_a_missing_row_show(database_url: str) -> None:
    for tampering, place in (
        ("UPDATE audit SET who = 'nobody' WHERE action = 'cut over'", 1),
        ("""UPDATE audit SET payload = '{"sources": []}' WHERE action = 'clean up'""", 2),
        ("DELETE FROM audit WHERE action = 'apply'", 0),
    ):
        # Given a sealed trail that somebody tampers with
        database = _three_acts(database_url)
        with database.begin() as connection:
            connection.execute(sa.text(tampering))
            chain = audit.walk(connection)
            connection.execute(sa.text("DELETE FROM audit"))

        # Then the walk stops there and says why
        assert chain.broken is not None
        assert chain.sealed == place


def test_an_erased_payload_leaves_the_trail_whole(database_url: str) -> None:
    # Given a sealed trail whose payload is erased on a person's request
    database = _three_acts(database_url)
    with database.begin() as connection:
        connection.execute(sa.text("UPDATE audit SET payload = NULL WHERE action = 'cut over'"))

        # Then it still hangs together
        assert audit.walk(connection).broken is None
