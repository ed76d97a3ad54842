"""In Postgres a row that is committed while its deletion waits for a lock is seen, and stays."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import psycopg
import pytest
from in_one_process import COUNT, PATIENCE_S, TARGET, One, open_one, twenty_three
from job_table import INDEX, planned

from orchestrator.core.states import BatchKind, JobState
from orchestrator.services import acts
from tests.vectors import ask, vector_database
from vecfleet.stores.pgvector import PgvectorStore

SOURCE = f'"{INDEX.name}".embeddings_s'
WAITS = "SELECT count(*) FROM pg_locks WHERE NOT granted"
Write = Callable[[psycopg.Connection], object]


def insert(application: psycopg.Connection) -> None:
    columns = "document_id, collection_name, text, embedding, strategy, content_type"
    application.execute(f"CREATE TEMP TABLE of_mine ON COMMIT DROP AS SELECT * FROM {SOURCE} WHERE chunk_id = 'r07'")
    application.execute(f"INSERT INTO {SOURCE} (chunk_id, {columns}) SELECT 'new', {columns} FROM of_mine")


def update(application: psycopg.Connection) -> None:
    application.execute(f"UPDATE {SOURCE} SET text = 'changed' WHERE chunk_id = 'r07'")


@pytest.fixture
def one(database_url: str, redis_url: str) -> Iterator[One]:
    """A job s → t over 23 rows of Postgres."""
    with ExitStack() as ending:
        tables = PgvectorStore(ending.enter_context(vector_database(database_url)))
        opened = open_one(
            database_url, redis_url, {"s": twenty_three()}, planned("s", TARGET, COUNT), info=INDEX, tables=tables
        )
        yield ending.enter_context(opened)


@contextmanager
def committed_while_somebody_waits(url: str, write: Write) -> Iterator[None]:
    """A transaction of the application that wrote already, and commits as soon as somebody waits for its lock.

    Where nobody ever does, it commits at the end.
    """
    over = threading.Event()

    def commit() -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not over.is_set() and ask(url, WAITS) == [(0,)] and time.monotonic() < deadline:
            time.sleep(0.01)
        application.commit()

    with psycopg.connect(url.replace("+psycopg", "")) as application:
        write(application)
        thread = threading.Thread(target=commit)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def texts(url: str) -> dict[str, str]:
    return dict(ask(url, f"SELECT chunk_id, text FROM {SOURCE} ORDER BY chunk_id"))


@pytest.mark.parametrize(("write", "left"), [(insert, {"new": "text 7"}), (update, {"r07": "changed"})])
def test_a_row_that_is_committed_while_its_table_is_to_be_dropped_stays(
    one: One, database_url: str, write: Write, left: dict[str, str]
) -> None:
    # Given a source that was read again, and an application that wrote to it and has not committed yet
    one.read_again()
    before = texts(database_url)

    # When the table is to be dropped, and the application commits while the clean-up waits for its lock
    with committed_while_somebody_waits(database_url, write):
        one.deliver()
    one.table.advance()

    # Then nothing is deleted, and the clean-up says why
    assert texts(database_url).items() >= left.items()
    assert len(texts(database_url)) >= len(before)
    assert one.table.move.reason == "s was written to since it was proven; nothing was deleted; a retry reads it anew"

    # And once the application has taken its write back, a retry ends the job
    ask(database_url, f"DELETE FROM {SOURCE} WHERE chunk_id = 'new'")
    ask(database_url, f"UPDATE {SOURCE} SET text = 'text 7' WHERE chunk_id = 'r07'")
    acts.retry(one.table.database, one.table.job_id, "ana", "failed")
    one.until(JobState.CLEANED)
    assert one.index.namespace("s") is None


def test_a_record_that_is_changed_while_it_is_to_be_deleted_by_its_id_stays(one: One, database_url: str) -> None:
    # Given a source to be deleted by ids, and an application that changed a record and has not committed yet
    one.until(JobState.VERIFIED)
    acts.clean_up(one.table.database, one.table.job_id, "ana", by_ids=True)
    one.table.advance()

    # When its batch is deleted, and the application commits while the clean-up waits
    with committed_while_somebody_waits(database_url, update):
        one.deliver()
    one.table.advance()

    # Then all others are deleted, and this one stays as it is now
    assert texts(database_url) == {"r07": "changed"}
    assert [row.error_text for row in one.table.rows(BatchKind.REMOVE)] == [
        "1 records of s were written to after their proof and stay"
    ]


def test_a_record_that_is_changed_while_it_is_to_be_rolled_back_stays(one: One, database_url: str) -> None:
    """A changed record stays where it is, also where it changed after it was compared."""
    one.until(JobState.VERIFIED)
    target = f'"{INDEX.name}".embeddings_{TARGET}'
    acts.roll_back(one.table.database, one.table.job_id, "ana", None)
    one.work_until(lambda: one.table.rows(BatchKind.UNDO))

    def change(application: psycopg.Connection) -> None:
        application.execute(f"UPDATE {target} SET text = 'changed' WHERE chunk_id = 'r07'")

    with committed_while_somebody_waits(database_url, change):
        one.deliver()

    assert ask(database_url, f"SELECT chunk_id, text FROM {target}") == [("r07", "changed")]
    one.until(JobState.ROLLED_BACK)
    assert ask(database_url, f"SELECT chunk_id, text FROM {target}") == [("r07", "changed")]


def test_a_namespace_that_is_written_to_while_it_is_to_be_dropped_stays(one: One, database_url: str) -> None:
    """A roll back drops what it made and emptied."""
    one.until(JobState.VERIFIED)
    target = f'"{INDEX.name}".embeddings_{TARGET}'
    acts.roll_back(one.table.database, one.table.job_id, "ana", None)
    one.work_until(lambda: one.table.rows(BatchKind.DROP))

    def write(application: psycopg.Connection) -> None:
        columns = "chunk_id, document_id, collection_name, text, embedding, strategy, content_type"
        application.execute(f"INSERT INTO {target} ({columns}) SELECT {columns} FROM {SOURCE} WHERE chunk_id = 'r07'")

    with committed_while_somebody_waits(database_url, write):
        one.until(JobState.ROLLED_BACK)

    assert ask(database_url, f"SELECT chunk_id FROM {target}") == [("r07",)]
