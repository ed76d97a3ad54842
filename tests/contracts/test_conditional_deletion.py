"""The promise of a store that compares before it deletes: what was written since the proof is never deleted."""

import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from tests.contracts.making import like
from tests.vectors import ask, vector_database
from vecfleet.digests import record_digest
from vecfleet.errors import Changed, KeyRefused, TooLarge
from vecfleet.pgvector.database import DatabaseConnection
from vecfleet.records import Record
from vecfleet.stores.base import Conditional, Kind
from vecfleet.stores.pgvector import PgvectorStore
from vecfleet.stores.pgvector.index import PgvectorIndex

NS = "production"
TABLE = "shop.embeddings_production"
VALUES = struct.pack("<4f", 0.1, -0.0, 3.0, 1e-45)
PATIENCE_S = 60.0
CHANGE = f"UPDATE {TABLE} SET text = 'changed' WHERE chunk_id = 'a'"
COPY_OF_A = (
    f"INSERT INTO {TABLE} (chunk_id, document_id, collection_name, text, embedding, strategy, content_type)"
    f" SELECT 'new', document_id, collection_name, text, embedding, strategy, content_type"
    f" FROM {TABLE} WHERE chunk_id = 'a'"
)


def record(id: str, **metadata: Any) -> Record:
    return Record(id, VALUES, None, metadata)


def digests(index: PgvectorIndex, *ids: str) -> dict[str, int]:
    return {id: record_digest(held) for id, held in index.fetch(NS, ids).records.items()}


@pytest.fixture
def index(pgvector_store: PgvectorStore) -> PgvectorIndex:
    """Three records in Postgres."""
    index = pgvector_store.open(pgvector_store.create_like("shop", like(Kind.DENSE), None, None))
    index.upsert(NS, [record(id, text="as it was") for id in "abc"])
    return index


@pytest.fixture
def application(empty_database_url: str) -> Iterator[psycopg.Connection]:
    """A transaction of somebody else."""
    with psycopg.connect(empty_database_url.replace("+psycopg", "")) as connection:
        yield connection


def while_it_waits(url: str, application: psycopg.Connection, delete: Callable[[], Any]) -> Future[Any]:
    """Begin this deletion, and commit the application's transaction once it waits for its lock."""
    deadline = time.monotonic() + PATIENCE_S
    with ThreadPoolExecutor(1) as one:
        deleting = one.submit(delete)
        while ask(url, "SELECT count(*) FROM pg_locks WHERE NOT granted") == [(0,)]:
            assert not deleting.done() and time.monotonic() < deadline, "it does not wait for the writer"
            time.sleep(0.01)
        application.commit()
    return deleting


@contextmanager
def opened_as(url: str, role: str, index: PgvectorIndex) -> Iterator[PgvectorIndex]:
    """The same tables as another role sees them."""
    own = sa.make_url(url).set(username=role, password="x")
    database = DatabaseConnection(database_url=own.render_as_string(hide_password=False))
    try:
        yield PgvectorStore(database).open(index.info)
    finally:
        database.close()


# --- a namespace ------------------------------------------------------------------------------------------------------


def test_a_namespace_that_is_as_it_was_proven_is_deleted(index: PgvectorIndex) -> None:
    assert isinstance(index, Conditional)
    version = index.version(NS)

    index.fetch(NS, ["a"])
    assert index.version(NS) == version

    index.delete_namespace_if(NS, version)
    assert (index.namespace(NS), index.version(NS)) == (None, None)
    index.delete_namespace_if(NS, version)  # as often as one likes


@pytest.mark.parametrize(
    "write",
    [
        CHANGE,
        f"UPDATE {TABLE} SET text = text WHERE chunk_id = 'a'",
        COPY_OF_A,
        f"DELETE FROM {TABLE} WHERE chunk_id = 'a'",
        f"DELETE FROM {TABLE}",
        f"TRUNCATE {TABLE}",
        f"UPDATE {TABLE} SET chunk_id = 'new' WHERE chunk_id = 'a'",
        f"ALTER TABLE {TABLE} ALTER text TYPE varchar(9) USING 'another'",
    ],
)
def test_any_write_since_it_was_proven_keeps_a_namespace(
    index: PgvectorIndex, empty_database_url: str, write: str
) -> None:
    version = index.version(NS)
    ask(empty_database_url, write)
    before = ask(empty_database_url, f"SELECT * FROM {TABLE} ORDER BY id")

    with pytest.raises(Changed, match="production was written to since it was proven; nothing was deleted"):
        index.delete_namespace_if(NS, version)

    assert ask(empty_database_url, f"SELECT * FROM {TABLE} ORDER BY id") == before


@pytest.mark.parametrize("write", [CHANGE, COPY_OF_A])
@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
def test_what_is_committed_while_the_deletion_waits_for_its_lock_is_noticed(
    pgvector_store: PgvectorStore,
    index: PgvectorIndex,
    application: psycopg.Connection,
    empty_database_url: str,
    write: str,
    isolation: str,
) -> None:
    """Whatever isolation the database would give: a snapshot from before the wait shows nothing of it."""
    name = empty_database_url.rsplit("/", 1)[1]
    ask(empty_database_url, f"ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'")
    with vector_database(empty_database_url) as database:
        opened = PgvectorStore(database).open(index.info)
        version = opened.version(NS)
        application.execute(sql.SQL(write))  # type: ignore[arg-type]

        deleting = while_it_waits(empty_database_url, application, lambda: opened.delete_namespace_if(NS, version))

        with pytest.raises(Changed):
            deleting.result()
    left = {id: str(held.metadata["text"]) for id, held in index.fetch(NS, ["a", "new"]).records.items()}
    assert left == ({"a": "changed"} if write == CHANGE else {"a": "as it was", "new": "as it was"})


def test_a_namespace_that_was_not_there_is_not_deleted_once_it_is(index: PgvectorIndex) -> None:
    assert index.version("later") is None
    index.upsert("later", [record("a")])

    with pytest.raises(Changed):
        index.delete_namespace_if("later", None)
    assert index.list_ids("later").ids == ["a"]


def test_rows_that_a_policy_hides_keep_their_table(
    pgvector_store: PgvectorStore, index: PgvectorIndex, empty_database_url: str
) -> None:
    """Nobody has read them, and they would be dropped with the others."""
    role = "shopkeeper_" + empty_database_url.rsplit("/", 1)[1]
    ask(empty_database_url, f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    try:
        ask(empty_database_url, f"GRANT USAGE, CREATE ON SCHEMA shop TO {role}; ALTER TABLE {TABLE} OWNER TO {role}")
        ask(empty_database_url, f"ALTER TABLE {TABLE} FORCE ROW LEVEL SECURITY, ENABLE ROW LEVEL SECURITY")
        ask(empty_database_url, f"CREATE POLICY only_a ON {TABLE} USING (chunk_id = 'a')")
        with opened_as(empty_database_url, role, index) as opened:
            assert opened.list_ids(NS).ids == ["a"]

            with pytest.raises(KeyRefused, match="row-level security"):
                opened.delete_namespace_if(NS, opened.version(NS))

        assert index.list_ids(NS).ids == ["a", "b", "c"]
    finally:
        ask(empty_database_url, f"DROP OWNED BY {role}; DROP ROLE {role}")


# --- records ----------------------------------------------------------------------------------------------------------


def test_records_that_are_as_they_were_proven_are_deleted_and_the_others_named(
    index: PgvectorIndex, empty_database_url: str
) -> None:
    proven = digests(index, "a", "b", "c") | {"gone": 7}
    ask(empty_database_url, CHANGE)

    deleted = index.delete_if(NS, proven)

    assert (deleted.changed, deleted.usage.requests) == (["a"], 1)
    assert index.list_ids(NS).ids == ["a"]
    assert index.delete_if(NS, proven).changed == ["a"]  # as often as one likes


@pytest.mark.parametrize(
    ("write", "left"),
    [
        (CHANGE, ["a"]),
        (COPY_OF_A, ["new"]),
        (f"DELETE FROM {TABLE} WHERE chunk_id = 'a'", []),
        (f"UPDATE {TABLE} SET chunk_id = 'new' WHERE chunk_id = 'a'", ["new"]),
    ],
)
def test_a_record_that_changes_while_its_deletion_waits_is_not_deleted(
    index: PgvectorIndex, application: psycopg.Connection, empty_database_url: str, write: str, left: list[str]
) -> None:
    proven = digests(index, "a", "b", "c")
    application.execute(f"SELECT FROM {TABLE} WHERE chunk_id = 'a' FOR UPDATE")
    application.execute(sql.SQL(write))  # type: ignore[arg-type]

    deleted = while_it_waits(empty_database_url, application, lambda: index.delete_if(NS, proven)).result()

    assert deleted.changed == (["a"] if write == CHANGE else [])
    assert index.list_ids(NS).ids == left


def test_of_two_rows_with_one_id_only_the_proven_one_is_deleted(
    pgvector_store: PgvectorStore, empty_database_url: str
) -> None:
    """Somebody may insert a second row at any time if no constraint forbids it."""
    ask(empty_database_url, "CREATE SCHEMA loose")
    ask(empty_database_url, "CREATE TABLE loose.embeddings_production (chunk_id text, embedding vector(4))")
    ask(empty_database_url, "INSERT INTO loose.embeddings_production VALUES ('a', '[1,2,3,4]')")
    index = pgvector_store.open(pgvector_store.describe("loose"))
    proven = digests(index, "a")
    ask(empty_database_url, "INSERT INTO loose.embeddings_production VALUES ('a', '[5,6,7,8]')")

    deleted = index.delete_if(NS, proven)

    assert deleted.changed == ["a"]
    assert ask(empty_database_url, "SELECT embedding::text FROM loose.embeddings_production") == [("[5,6,7,8]",)]


def test_rows_of_a_partitioned_table_are_told_apart_by_their_partition(
    pgvector_store: PgvectorStore, empty_database_url: str
) -> None:
    """Rows of two partitions lie at the same place, each in its own."""
    ask(empty_database_url, "CREATE SCHEMA parted")
    table = "parted.embeddings_production"
    columns = "chunk_id text, part int, embedding vector(4)"
    ask(empty_database_url, f"CREATE TABLE {table} ({columns}) PARTITION BY LIST (part)")
    for part in (1, 2):
        ask(empty_database_url, f"CREATE TABLE parted.p{part} PARTITION OF {table} FOR VALUES IN ({part})")
    ask(empty_database_url, f"INSERT INTO {table} VALUES ('a', 1, '[1,2,3,4]')")
    index = pgvector_store.open(pgvector_store.describe("parted"))
    proven, version = digests(index, "a"), index.version(NS)
    ask(empty_database_url, f"INSERT INTO {table} VALUES ('a', 2, '[5,6,7,8]')")

    with pytest.raises(Changed):
        index.delete_namespace_if(NS, version)
    assert index.delete_if(NS, proven).changed == ["a"]
    assert ask(empty_database_url, f"SELECT part FROM {table}") == [(2,)]

    index.delete_namespace_if(NS, index.version(NS))
    assert index.namespace(NS) is None


def test_records_of_a_namespace_that_is_not_there_are_deleted_already(index: PgvectorIndex) -> None:
    assert index.delete_if("nowhere", {"a": 1}).changed == []
    assert index.delete_if(NS, {}).usage.requests == 0
    with pytest.raises(TooLarge):
        index.delete_if(NS, {str(n): n for n in range(index.limits.delete_ids + 1)})
