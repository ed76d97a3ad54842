"""Errors of Postgres → errors of ours, in one table. None of them quotes a row's content."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psycopg
from psycopg import errors as pg
from sqlalchemy.exc import DBAPIError

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
    WrongKind,
)

CREATE_EXTENSION = "CREATE EXTENSION vector"
_EXTENSION = (
    f"run `{CREATE_EXTENSION}` in this database as a role that may (`vecfleet pg setup` tries it); "
    "where it is not available, install pgvector on the server first"
)

# The first match holds, so a class stands before its base classes.
BY_CLASS: Mapping[type[psycopg.Error], type[StoreError]] = {
    pg.InsufficientPrivilege: KeyRefused,
    pg.InvalidPassword: KeyRefused,
    pg.InvalidAuthorizationSpecification: KeyRefused,
    pg.DiskFull: QuotaExhausted,
    pg.ConfigurationLimitExceeded: QuotaExhausted,
    pg.ReadOnlySqlTransaction: NeedsOperator,
    pg.DependentObjectsStillExist: NeedsOperator,
    pg.InvalidCatalogName: Missing,
    pg.UndefinedTable: Missing,
    pg.InvalidSchemaName: Missing,
    pg.DuplicateTable: Conflict,
    pg.DuplicateSchema: Conflict,
    pg.DuplicateObject: Conflict,
    pg.LockNotAvailable: Unavailable,
    pg.QueryCanceled: TimedOut,
    pg.TransactionRollback: Unavailable,  # serialization failures and deadlocks
    pg.UndefinedColumn: WrongKind,
    pg.IntegrityError: BadRequest,
    pg.DataError: BadRequest,
    pg.OperationalError: Unavailable,  # lost and refused connections, too many of them, a server going down
    pg.InterfaceError: Unavailable,
    pg.Error: BadRequest,
}
NEXT_STEPS: Mapping[type[StoreError], str] = {
    KeyRefused: "check the address and its role: it needs SELECT on what is read; to write, CREATE on the schema too",
    QuotaExhausted: "make room on the disk of the Postgres server (a copy needs twice the source); then run it again",
    NeedsOperator: "see what the message names, then run it again",
}
# A refused connection has no code, only these words. They tell it from an outage, which is waited for.
_REFUSED = re.compile(
    r"FATAL:.*(authentication failed|no pg_hba\.conf entry|is not permitted to log in|permission denied"
    r"|(role|database) .* does not exist)|no password supplied"
)
_QUOTED = re.compile(r": \".*\"", re.DOTALL)
_SHOWN_CHARS = 300


class LockTaken(Unavailable):
    """Somebody else holds a lock on the table for longer than we wait."""


class ExtensionMissing(NeedsOperator):
    """The database has no extension `vector`."""


class Duplicate(BadRequest):
    """Another row holds a value that must be unique."""


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise an error of Postgres inside as one of our `StoreError`s, saying what was being done."""
    try:
        yield
    except psycopg.Error as error:
        raise understood(error, doing) from error
    except DBAPIError as error:
        cause = error.orig if isinstance(error.orig, psycopg.Error) else psycopg.OperationalError(str(error.orig))
        raise understood(cause, doing) from error


def understood(error: psycopg.Error, doing: str) -> StoreError:
    """Return the `StoreError` that stands for this error of Postgres."""
    said = _said(error)
    if _lacks_extension(error, said):
        return ExtensionMissing(f"Postgres could not {doing}: the extension vector is not there", next_step=_EXTENSION)
    if isinstance(error, pg.LockNotAvailable):
        return LockTaken(
            f"Postgres could not {doing}: somebody else keeps a lock on it",
            next_step="see who in pg_stat_activity, wait until it is done, then run it again",
        )
    if isinstance(error, pg.UniqueViolation):
        return Duplicate(
            f"Postgres could not {doing}: another row has the same {error.diag.constraint_name}",
            next_step="give it another id, or delete that row first",
        )
    ours = next(ours for theirs, ours in BY_CLASS.items() if isinstance(error, theirs))
    if error.sqlstate is None and _REFUSED.search(str(error)):
        ours = KeyRefused
    return ours(f"Postgres could not {doing}: {said}", next_step=NEXT_STEPS.get(ours))


def _said(error: psycopg.Error) -> str:
    """Return the error's first sentence, without the values that some quote. Errors of the client have no diagnosis."""
    said = error.diag.message_primary or str(error).strip().split("\n", maxsplit=1)[0] or type(error).__name__
    return _QUOTED.sub("", said)[:_SHOWN_CHARS]


def _lacks_extension(error: psycopg.Error, said: str) -> bool:
    if isinstance(error, pg.UndefinedObject | pg.UndefinedFunction):
        return re.search(r'type "?(half|sparse)?vec(tor)?\b|<=>|<#>|<->|vector_', said) is not None
    return isinstance(error, pg.FeatureNotSupported | pg.UndefinedFile) and "extension" in said
