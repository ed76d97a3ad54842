"""A pass over Postgres reads what has changed since the last one, and whatever a transaction commits is a change."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from in_one_process import One, open_one, twenty_three
from job_table import INDEX, planned

from orchestrator.core.states import JobState
from orchestrator.services import acts
from tests.vectors import ask, vector_database
from vecfleet.pgvector.database import DatabaseConnection
from vecfleet.stores.base import Fetched, IdPage, IndexInfo
from vecfleet.stores.pgvector import PgvectorStore
from vecfleet.stores.pgvector.index import PgvectorIndex

COLUMNS = "document_id, collection_name, text, embedding, strategy, content_type"
S, U = (f'"{INDEX.name}".embeddings_{name}' for name in "su")


class Watched(PgvectorStore):
    """Tables whose readings are noted: of how many records of which namespace, and of the ids of which."""

    def __init__(self, database: DatabaseConnection) -> None:
        super().__init__(database)
        self.read: list[tuple[str, int]] = []
        self.listed: list[str] = []

    def open(self, info: IndexInfo) -> PgvectorIndex:
        index = super().open(info)
        fetch, list_ids = index.fetch, index.list_ids

        def noting(namespace: str, ids: Sequence[str]) -> Fetched:
            self.read.append((namespace, len(ids)))
            return fetch(namespace, ids)

        def noting_ids(namespace: str, *arguments: Any, **named: Any) -> IdPage:
            self.listed.append(namespace)
            return list_ids(namespace, *arguments, **named)

        vars(index).update(fetch=noting, list_ids=noting_ids)
        return index


@dataclass
class Tables:
    """A job s → t-s, u → t-u over 23 rows each, whose writers go on."""

    one: One
    store: Watched
    url: str
    texts: Callable[[str], dict[str, str]] = field(init=False)

    def __post_init__(self) -> None:
        self.texts = lambda name: dict(ask(self.url, f'SELECT chunk_id, text FROM "{INDEX.name}"."{name}"'))

    def proven(self) -> None:
        self.one.until(JobState.VERIFIED)

    def pass_again(self) -> list[tuple[str, int]]:
        """Take another pass, and prove it. Return what was read of the sources for it."""
        acts.another_pass(self.one.table.database, self.one.table.job_id, "ana")
        self.store.read.clear()
        self.store.listed.clear()
        self.one.table.advance()
        self.proven()
        return [(name, count) for name, count in self.store.read if name in ("s", "u")]

    def assert_equal(self) -> None:
        targets = {
            name for (name,) in ask(self.url, f"SELECT tablename FROM pg_tables WHERE schemaname = '{INDEX.name}'")
        }
        held = {name: self.texts(name) for name in targets if name not in ("embeddings_s", "embeddings_u")}
        assert sorted(map(sorted, (texts.items() for texts in held.values()))) == sorted(
            map(sorted, (self.texts(f"embeddings_{name}").items() for name in "su"))
        )


@pytest.fixture
def tables(database_url: str, redis_url: str) -> Iterator[Tables]:
    with ExitStack() as ending:
        store = Watched(ending.enter_context(vector_database(database_url)))
        moves = [planned(name, f"creator_ana_twin_{name}", 23) for name in "su"]
        opened = open_one(
            database_url, redis_url, {name: twenty_three() for name in "su"}, *moves, info=INDEX, tables=store,
            writers="delta", enrich=False,
        )  # fmt: skip
        yield Tables(ending.enter_context(opened), store, database_url)


def test_a_pass_neither_lists_nor_reads_a_namespace_to_which_nobody_wrote(tables: Tables) -> None:
    tables.proven()
    ask(tables.url, f"UPDATE {S} SET text = 'changed' WHERE chunk_id = 'r07'")

    read = tables.pass_again()

    assert {name for name, _ in read} == {"s"}
    assert "s" in tables.store.listed and "u" not in tables.store.listed
    assert tables.texts("embeddings_s")["r07"] == "changed"
    tables.assert_equal()


@contextmanager
def committed_later(url: str, statement: str) -> Iterator[None]:
    """A transaction that wrote before anything else, and commits when the block is left."""
    with psycopg.connect(url.replace("+psycopg", "")) as application:
        application.execute(statement)
        yield


WRITES = {
    "an update": f"UPDATE {S} SET text = 'changed' WHERE chunk_id = 'r07'",
    "an insertion": f"INSERT INTO {S} (chunk_id, {COLUMNS}) SELECT 'new', {COLUMNS} FROM {S} WHERE chunk_id = 'r07'",
    "a deletion": f"DELETE FROM {S} WHERE chunk_id = 'r07'",
    "a replacement": f"WITH gone AS (DELETE FROM {S} WHERE chunk_id = 'r07' RETURNING {COLUMNS}) "
    f"INSERT INTO {S} (chunk_id, {COLUMNS}) SELECT 'r99', {COLUMNS} FROM gone",
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_what_an_older_transaction_commits_after_a_pass_is_found_by_the_next(tables: Tables, write: str) -> None:
    # Given a transaction that is older than every one that the first passes see, some of them later writers' own
    with committed_later(tables.url, write):
        ask(tables.url, f"UPDATE {S} SET text = 'another' WHERE chunk_id = 'r01'")
        tables.proven()
        before = tables.texts("embeddings_s")

    # When it has committed, the next pass finds what it wrote
    assert tables.texts("embeddings_s") != before
    tables.pass_again()
    tables.assert_equal()


def test_two_changes_that_offset_each_other_are_seen(tables: Tables) -> None:
    # Given two rows that change places, so that ids and texts as sets are what they were
    tables.proven()
    ask(
        tables.url,
        f"UPDATE {S} SET text = CASE chunk_id WHEN 'r01' THEN 'text 2' ELSE 'text 1' END"
        " WHERE chunk_id IN ('r01', 'r02')",
    )

    tables.pass_again()

    assert tables.texts("embeddings_s")["r01"] == "text 2"
    tables.assert_equal()


def test_the_same_rows_have_the_same_versions_and_other_columns_or_another_table_of_them_others(
    tables: Tables,
) -> None:
    index, ids = tables.store.open(tables.one.index.info), [f"r{number:02}" for number in range(23)]

    first = index.versions("s", ids)
    assert index.versions("s", list(reversed(ids))) == first

    # When every record gets a key, though no row is written
    ask(tables.url, f"ALTER TABLE {S} ADD COLUMN language text DEFAULT 'de'")
    assert index.versions("s", ids) != first

    # When rows are written anew as they are, they look changed
    first = index.versions("s", ids)
    ask(tables.url, f"UPDATE {S} SET text = text")
    assert index.versions("s", ids) != first
    assert len({index.versions("s", ids), index.versions("s", ids[:-1]), index.versions("nowhere", ids)}) == 3
