"""A copied or moved namespace takes along what belongs to it: its owner, its permissions, its indexes."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import sql

from tests.pgvector.conftest import DIMENSION
from tests.vectors import ask
from vecfleet.errors import Refused
from vecfleet.pgvector import EmbeddingPipeline, NamespaceMigration, VectorEmbedding
from vecfleet.pgvector.database import DatabaseConnection


def fill(pipeline: EmbeddingPipeline, namespace: str = "production", rows: int = 40) -> None:
    pipeline.create_namespace(namespace)
    some = [
        VectorEmbedding(f"c{n}", "doc", "k", f"text {n}", [float(n), *[1.0] * (DIMENSION - 1)]) for n in range(rows)
    ]
    pipeline.vector_store.insert_embeddings(some, namespace)


@pytest.fixture
def url(empty_database_url: str, pipeline: EmbeddingPipeline) -> str:
    fill(pipeline)
    return empty_database_url


@pytest.fixture
def roles(url: str) -> Iterator[tuple[str, str]]:
    """Two roles that may log in: one that owns, one that reads. Roles are the server's, so they go again."""
    database = url.rsplit("/", 1)[-1].partition("?")[0]
    names = (f"owner {database}", f"reader {database}")
    for name in names:
        ask(url, f'CREATE ROLE "{name}" LOGIN')
    yield names
    for name in names:
        ask(url, f'REASSIGN OWNED BY "{name}" TO CURRENT_USER')
        ask(url, f'DROP OWNED BY "{name}"')
        ask(url, f'DROP ROLE "{name}"')


@contextmanager
def acting_as(url: str, role: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        yield connection


INSERT = (
    "INSERT INTO embeddings_{0} (chunk_id, document_id, collection_name, text, embedding, strategy, content_type)"
    " SELECT 'new', document_id, collection_name, text, embedding, strategy, content_type FROM embeddings_{0} LIMIT 1"
)


# --- whose it is, and who may use it ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["copy", "move"])
def test_the_application_that_owned_the_source_goes_on_with_the_target(
    url: str, migration: NamespaceMigration, roles: tuple[str, str], mode: str
) -> None:
    """The operator runs the move as another role than the application's."""
    owner, _ = roles
    ask(url, f'ALTER TABLE embeddings_production OWNER TO "{owner}"')

    result = migration.migrate_namespace("production", "live", mode)

    assert result["success"] and result["warnings"] == []
    with acting_as(url, owner) as application:
        application.execute(INSERT.format("live"))
        application.execute("ALTER TABLE embeddings_live ADD COLUMN more text")


def test_a_role_that_may_not_give_a_table_away_grants_everything_on_it_and_says_so(
    url: str, roles: tuple[str, str]
) -> None:
    """Given an operator's role that may read the source and create tables, and no more."""
    owner, operator = roles
    ask(url, f'ALTER TABLE embeddings_production OWNER TO "{owner}"')
    ask(url, f'GRANT SELECT ON embeddings_production TO "{operator}"')
    ask(url, f'GRANT CREATE ON SCHEMA public TO "{operator}"')

    database = DatabaseConnection(database_url=url)
    with database.transaction("become the operator") as connection:
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(operator)))
    result = NamespaceMigration(url, database=database).copy_namespace("production", "live")
    database.close()

    assert result["success"], result
    assert f"embeddings_live belongs to {operator}, which may not give it to {owner}" in result["warnings"][0]
    with acting_as(url, owner) as application:
        application.execute(INSERT.format("live"))


def test_grants_on_columns_and_sequences_come_along_and_those_who_may_pass_them_on_still_may(
    url: str, migration: NamespaceMigration, roles: tuple[str, str]
) -> None:
    owner, writer = roles
    ask(url, f'ALTER TABLE embeddings_production OWNER TO "{owner}"')
    ask(url, f'GRANT INSERT ON embeddings_production TO "{writer}"')
    ask(url, f'GRANT USAGE ON SEQUENCE embeddings_production_id_seq TO "{writer}"')
    ask(url, f'GRANT SELECT (chunk_id, text) ON embeddings_production TO "{writer}" WITH GRANT OPTION')

    assert migration.move_namespace("production", "live")["success"]

    with acting_as(url, writer) as connection:
        values = f"'new', 'd', 'k', 't', '{[1.0] * DIMENSION}', 's', 'c'"
        connection.execute(
            "INSERT INTO embeddings_live (chunk_id, document_id, collection_name, text, embedding, strategy,"
            f" content_type) VALUES ({values})"
        )
        assert connection.execute("SELECT text FROM embeddings_live WHERE chunk_id = 'new'").fetchall() == [("t",)]
        connection.execute("GRANT SELECT (text) ON embeddings_live TO PUBLIC")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT document_id FROM embeddings_live")


# --- its indexes on vectors -------------------------------------------------------------------------------------------


VECTOR_INDEXES = (
    "SELECT indexname, regexp_replace(indexdef, '^.* USING ', '') FROM pg_indexes"
    " WHERE tablename = '{}' AND indexdef ~ 'USING (hnsw|ivfflat)'"
)


@pytest.mark.parametrize("mode", ["copy", "move"])
def test_the_sources_own_indexes_on_vectors_are_built_on_the_target(
    url: str, migration: NamespaceMigration, mode: str
) -> None:
    for definition in (
        "l2_vector_idx ON embeddings_production USING hnsw (embedding vector_l2_ops) WITH (m = 7)",
        "a_vector_idx ON embeddings_production USING hnsw (embedding vector_ip_ops) WHERE (confidence > 0.5)",
        "embeddings_production_halves_idx ON embeddings_production USING hnsw"
        f" ((embedding::halfvec({DIMENSION})) halfvec_cosine_ops) WITH (m = 9, ef_construction = 33)",
        "embeddings_production_vector_idx ON embeddings_production USING hnsw (embedding vector_cosine_ops)"
        " WITH (m = 5, ef_construction = 20)",
    ):
        ask(url, f"CREATE INDEX {definition}")
    before = dict(ask(url, VECTOR_INDEXES.format("embeddings_production")))

    result = migration.migrate_namespace("production", "live", mode)

    assert result["success"] and result["vector_index_exists"] and result["warnings"] == []
    after = dict(ask(url, VECTOR_INDEXES.format("embeddings_live")))
    assert after == {
        "embeddings_live_vector_idx": before["embeddings_production_vector_idx"],
        "embeddings_live_halves_idx": before["embeddings_production_halves_idx"],
        "embeddings_live_l2_vector_idx": before["l2_vector_idx"],
        "embeddings_live_a_vector_idx": before["a_vector_idx"],
    }


def test_our_index_follows_the_rows_and_the_method_asked_for(
    url: str, migration: NamespaceMigration, pipeline: EmbeddingPipeline
) -> None:
    ask(url, "CREATE INDEX embeddings_production_vector_idx ON embeddings_production"
        " USING ivfflat (embedding vector_cosine_ops) WITH (lists = 33)")  # fmt: skip

    migration.run("production", "same")
    migration.run("production", "other", method="hnsw")

    same, other = (ask(url, VECTOR_INDEXES.format(f"embeddings_{name}")) for name in ("same", "other"))
    assert same == [("embeddings_same_vector_idx", "ivfflat (embedding vector_cosine_ops) WITH (lists='1')")]
    assert [name for name, _ in other] == ["embeddings_other_vector_idx"] and other[0][1].startswith("hnsw")


def test_names_that_are_taken_stop_no_move(url: str, migration: NamespaceMigration) -> None:
    ask(url, "CREATE INDEX fast ON embeddings_production USING hnsw (embedding vector_l2_ops)")
    ask(url, "CREATE TABLE embeddings_live_fast (id int)")
    ask(url, "CREATE TABLE embeddings_live_strategy_idx (id int)")

    assert migration.move_namespace("production", "live")["success"]

    ((name, _),) = ask(url, VECTOR_INDEXES.format("embeddings_live"))
    assert name == "embeddings_live_fast_2"


# --- who would stay behind --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("readers", "named"),
    [
        ("CREATE VIEW recent AS SELECT chunk_id FROM embeddings_production", "the view recent would"),
        ("CREATE MATERIALIZED VIEW kept AS SELECT * FROM embeddings_production", "the materialized view kept would"),
        (
            "CREATE FUNCTION rows() RETURNS bigint LANGUAGE sql BEGIN ATOMIC"
            " SELECT count(*) FROM embeddings_production; END",
            r"the function rows\(\) would",
        ),
    ],
)
def test_a_namespace_that_views_read_is_copied_and_not_moved_away_under_them(
    url: str, migration: NamespaceMigration, readers: str, named: str
) -> None:
    """They mean the table and not its name: after a move they would go on reading the backup."""
    ask(url, readers)

    with pytest.raises(Refused, match=named):
        migration.run("production", "live", "move")

    assert not all(migration.preview("production", "live", "move")["checks"].values())
    assert all(migration.preview("production", "live")["checks"].values())
    assert migration.copy_namespace("production", "live")["success"]


def test_a_move_says_which_publications_go_on_with_the_backup(url: str, migration: NamespaceMigration) -> None:
    ask(url, 'CREATE PUBLICATION "to the lake" FOR TABLE embeddings_production')

    assert migration.copy_namespace("production", "staging")["warnings"] == []
    (warning,) = migration.move_namespace("production", "live")["warnings"]

    assert 'the publication "to the lake" goes on with the backup of embeddings_production' in warning


# --- the way back -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["production", "n" * 50])
def test_a_backup_comes_back_by_the_name_that_the_check_gives(
    url: str, migration: NamespaceMigration, pipeline: EmbeddingPipeline, name: str
) -> None:
    if name != "production":
        fill(pipeline, name)
    assert migration.move_namespace(name, "live")["success"]
    (backup,) = (kept["table_name"] for kept in migration.check()["backups"])

    refused = migration.move_namespace(backup, name)
    result = migration.copy_namespace(backup, name)

    assert "is a backup, as its comment says" in refused["error"]
    assert refused["next_step"] == f"vecfleet pg copy {backup} {name}"
    assert result["success"] and result["rows_migrated"] == 40
    assert {"live", name} <= {found["namespace"] for found in pipeline.list_namespaces()}


def test_a_backup_that_is_renamed_back_by_hand_says_why_it_is_no_namespace_yet(
    url: str, migration: NamespaceMigration, pipeline: EmbeddingPipeline
) -> None:
    migration.move_namespace("production", "live")
    (backup,) = (kept["table_name"] for kept in migration.check()["backups"])
    ask(url, f"ALTER TABLE {backup} RENAME TO embeddings_production")

    with pytest.raises(Refused, match="as its comment says, and no namespace") as refused:
        pipeline.vector_store.list_collections("production")

    # And what it says to do does it
    ask(url, str(refused.value.next_step).partition("where it is: ")[2])
    assert pipeline.get_namespace_stats("production")["embedding_count"] == 40
