"""A Postgres database with pgvector for a test, and the rows that a witness reads from it without our code."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from vecfleet.pgvector.database import DatabaseConnection


def ask(url: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Return what a person with psql sees; nothing of ours is between."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        cursor = connection.execute(statement, values or None)  # type: ignore[call-overload]
        return cursor.fetchall() if cursor.description else []


@contextmanager
def vector_database(url: str) -> Iterator[DatabaseConnection]:
    """The database with the extension, as we connect to it."""
    ask(url, "CREATE EXTENSION IF NOT EXISTS vector")
    database = DatabaseConnection(database_url=url)
    try:
        yield database
    finally:
        database.close()
