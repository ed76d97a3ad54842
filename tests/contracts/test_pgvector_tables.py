"""Tables of somebody else's, and what is noticed of them: columns, ids, writes, and who may connect."""

import struct
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from tests.contracts.making import like
from tests.vectors import ask
from vecfleet.errors import KeyRefused, WrongKind
from vecfleet.pgvector import database as database_module
from vecfleet.pgvector import tables
from vecfleet.pgvector.database import DatabaseConnection
from vecfleet.records import Record
from vecfleet.stores.base import Index, Kind
from vecfleet.stores.pgvector import PgvectorStore
from vecfleet.stores.pgvector.listing import Listings, statement

NS = "production"
VALUES = struct.pack("<4f", 0.1, -0.0, 3.0, 1e-45)


def record(id: str = "a", **metadata: Any) -> Record:
    return Record(id, VALUES, None, metadata)


@pytest.fixture
def index(pgvector_store: PgvectorStore) -> Index:
    return pgvector_store.open(pgvector_store.create_like("shop", like(Kind.DENSE), None, None))


def test_whatever_columns_a_table_has_none_of_them_is_left_out(
    pgvector_store: PgvectorStore, empty_database_url: str
) -> None:
    """Metadata as json, an id that is not a number, half a sparse vector, a computed column: all of it is data."""
    ask(empty_database_url, "CREATE SCHEMA odd")
    ask(
        empty_database_url,
        "CREATE TABLE odd.embeddings_production (id uuid, chunk_id text UNIQUE, embedding vector(4), metadata json,"
        " sparse_indices bigint[], words int, twice int GENERATED ALWAYS AS (words * 2) STORED)",
    )
    ask(
        empty_database_url,
        "INSERT INTO odd.embeddings_production VALUES ('6a1f7e0c-0000-4000-8000-000000000001', 'a', '[1,2,3,4]',"
        """ '{"page": 7, "deep": {"x": null}}', '{5,6}', 21)""",
    )
    index = pgvector_store.open(pgvector_store.describe("odd"))

    found = index.fetch(NS, ["a"]).records["a"]
    assert found.metadata == {
        "id": "6a1f7e0c-0000-4000-8000-000000000001",
        "page": 7.0,
        "deep#json": '{"x":null}',
        "sparse_indices": "{5,6}",
        "words": 21.0,
        "twice": 42.0,
    }

    # And the table takes back what it gave, without writing what the database computes
    index.upsert(NS, [Record("b", found.values, metadata={"page": 7.0, "words": 4.0, "twice": 8.0})])
    assert index.fetch(NS, ["b"]).records["b"].metadata == {"page": 7.0, "words": 4.0, "twice": 8.0}


def test_rows_without_an_id_or_with_the_same_are_named_and_not_passed_over(
    pgvector_store: PgvectorStore, empty_database_url: str
) -> None:
    ask(empty_database_url, "CREATE SCHEMA loose")
    ask(empty_database_url, "CREATE TABLE loose.embeddings_production (chunk_id text, embedding vector(4))")
    ask(empty_database_url, "INSERT INTO loose.embeddings_production VALUES ('a', '[1,2,3,4]'), (NULL, '[5,6,7,8]')")
    index = pgvector_store.open(pgvector_store.describe("loose"))

    with pytest.raises(WrongKind, match="have no chunk_id"):
        index.list_ids(NS)

    ask(empty_database_url, "UPDATE loose.embeddings_production SET chunk_id = 'a'")
    with pytest.raises(WrongKind, match="have the same chunk_id"):
        index.list_ids(NS)

    ask(empty_database_url, "DELETE FROM loose.embeddings_production WHERE embedding = '[5,6,7,8]'")
    assert index.list_ids(NS).ids == ["a"]


def test_a_page_of_ids_is_looked_up_by_their_index(index: Index, empty_database_url: str) -> None:
    """In a database whose locale is C, as the embedded one: no page reads the whole table."""
    index.upsert(NS, [record(f"{n:05}") for n in range(1_000)])
    ask(empty_database_url, "ANALYZE shop.embeddings_production")
    ask(empty_database_url, "ALTER DATABASE {} SET enable_seqscan = off".format(empty_database_url.rsplit("/")[-1]))
    with psycopg.connect(empty_database_url.replace("+psycopg", "")) as connection:
        table = tables.find(connection, "embeddings_production", "shop")
        assert table is not None
        order = Listings.order(connection, table)
        plan = connection.execute(sql.SQL("EXPLAIN ") + statement(table, "00500", "", 50, order=order)).fetchall()

    said = "\n".join(line for (line,) in plan)
    assert "Index" in said and "Sort" not in said and "Seq Scan" not in said, said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"password": "wrong"}, "password authentication failed"),
        ({"username": "nobody"}, "nobody"),
        ({"database": "nothing"}, "does not exist"),
    ],
)
def test_a_connection_that_is_refused_is_no_outage(empty_database_url: str, change: dict[str, str], said: str) -> None:
    """An outage is waited for; here a person must act."""
    url = sa.make_url(empty_database_url).set(**change)  # type: ignore[arg-type]
    database = DatabaseConnection(database_url=url.render_as_string(hide_password=False))

    with pytest.raises(KeyRefused, match=said) as refused, database.transaction("answer"):
        pass
    assert "check the address" in (refused.value.next_step or "")


def test_a_look_at_a_whole_table_may_take_longer_than_a_request(
    empty_database_url: str, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the clean-up of a large table could never be proven: each try would end at the request's deadline."""
    monkeypatch.setattr(database_module, "LOCK_TIMEOUT_MS", 120_000)  # by which it ends here is not what is looked at
    index.upsert(NS, [record("a")])
    hurried = DatabaseConnection(database_url=empty_database_url, statement_timeout_ms=1_500)
    opened = PgvectorStore(hurried).open(index.info)
    looks = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'vecfleet' AND wait_event_type = 'Lock'"
        " AND clock_timestamp() - query_start > interval '2 s'"
    )
    # Given a look that takes long, here because somebody holds the table
    with psycopg.connect(empty_database_url.replace("+psycopg", "")) as holder, ThreadPoolExecutor(1) as one:
        holder.execute("LOCK TABLE shop.embeddings_production IN ACCESS EXCLUSIVE MODE")
        looking = one.submit(opened.version, NS)
        while not looking.done() and ask(empty_database_url, looks) == [(0,)]:
            time.sleep(0.05)
        holder.rollback()
    # Then it gets its answer all the same
    assert looking.result() is not None
    hurried.close()
