"""A refusal by Postgres becomes one of our errors: it says what to do, and never what a row holds."""

import psycopg
import pytest
from psycopg import errors as pg

from vecfleet.errors import (
    BadRequest,
    Conflict,
    KeyRefused,
    Missing,
    NeedsOperator,
    QuotaExhausted,
    StoreError,
    TimedOut,
    Unavailable,
)
from vecfleet.pgvector.errors import BY_CLASS, ExtensionMissing, LockTaken, understood


@pytest.mark.parametrize(
    ("theirs", "ours", "helps"),
    [
        (pg.DiskFull("could not extend file: No space left on device"), QuotaExhausted, "make room on the disk"),
        (pg.InsufficientPrivilege("permission denied for schema public"), KeyRefused, "CREATE on the schema"),
        (pg.InvalidPassword("password authentication failed"), KeyRefused, "check the address"),
        (pg.UndefinedObject('type "vector" does not exist'), ExtensionMissing, "CREATE EXTENSION vector"),
        (pg.UndefinedObject('type "halfvec" does not exist'), ExtensionMissing, "CREATE EXTENSION vector"),
        (pg.UndefinedFunction("operator does not exist: text <=> text"), ExtensionMissing, "CREATE EXTENSION vector"),
        (pg.FeatureNotSupported('extension "vector" is not available'), ExtensionMissing, "install pgvector"),
        (pg.LockNotAvailable("canceling statement due to lock timeout"), LockTaken, "pg_stat_activity"),
        (pg.QueryCanceled("canceling statement due to statement timeout"), TimedOut, None),
        (pg.DeadlockDetected("deadlock detected"), Unavailable, None),
        (pg.SerializationFailure("could not serialize access"), Unavailable, None),
        (pg.AdminShutdown("terminating connection"), Unavailable, None),
        (pg.TooManyConnections("sorry, too many clients already"), Unavailable, None),
        (psycopg.OperationalError("consuming input failed: server closed the connection"), Unavailable, None),
        (psycopg.InterfaceError("the connection is closed"), Unavailable, None),
        (pg.ReadOnlySqlTransaction("cannot execute INSERT in a read-only transaction"), NeedsOperator, "see what"),
        (pg.DependentObjectsStillExist("cannot drop table x because other objects depend on it"), NeedsOperator, None),
        (pg.UndefinedTable('relation "embeddings_x" does not exist'), Missing, None),
        (pg.DuplicateTable('relation "embeddings_x" already exists'), Conflict, None),
        (pg.NumericValueOutOfRange("integer out of range"), BadRequest, None),
        (pg.NotNullViolation('null value in column "text"'), BadRequest, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, psycopg.Error) else "",
)
def test_each_has_its_place(theirs: psycopg.Error, ours: type[StoreError], helps: str | None) -> None:
    found = understood(theirs, "copy embeddings_a")

    assert type(found) is ours
    assert found.message.startswith("Postgres could not copy embeddings_a: ")
    assert helps is None or helps in (found.next_step or "")


def test_what_a_row_holds_is_not_quoted() -> None:
    found = understood(pg.InvalidTextRepresentation('invalid input syntax for type json: "a secret"'), "insert")

    assert "secret" not in found.message and "json" in found.message


def test_no_class_hides_behind_one_that_it_derives_from() -> None:
    seen: list[type[Exception]] = []
    for theirs in BY_CLASS:
        assert not any(issubclass(theirs, earlier) for earlier in seen), theirs
        seen.append(theirs)
