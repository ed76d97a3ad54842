"""Copy and move inside one database: whole and proven, or not at all."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.pgvector.conftest import DIMENSION
from tests.vectors import ask
from vecfleet.pgvector import EmbeddingPipeline, EmbeddingSchema, NamespaceMigration, VectorEmbedding
from vecfleet.pgvector import database as database_module
from vecfleet.pgvector.database import DatabaseConnection

CONTENT = "SELECT md5(string_agg(t::text, ',' ORDER BY chunk_id)) FROM {} t"


def fill(pipeline: EmbeddingPipeline, namespace: str = "production", rows: int = 40) -> None:
    pipeline.create_namespace(namespace)
    some = [
        VectorEmbedding(
            f"c{n}", "doc", f"k{n % 3}", f"text {n}", [float(n), *[1.0] * (DIMENSION - 1)], metadata={"n": n}
        )
        for n in range(rows)
    ]
    pipeline.vector_store.insert_embeddings(some, namespace)


def content(url: str, table: str) -> list[tuple[Any, ...]]:
    return ask(url, CONTENT.format(table))


def relations(url: str) -> set[str]:
    """Every table, index and sequence there is."""
    return {name for (name,) in ask(url, "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace")}


@pytest.fixture
def url(empty_database_url: str, pipeline: EmbeddingPipeline) -> Iterator[str]:
    """A database with 40 rows in the namespace production, and its vector index."""
    fill(pipeline)
    pipeline.create_namespace("production")
    yield empty_database_url


def test_a_copy_is_equal_and_the_source_stays(url: str, migration: NamespaceMigration) -> None:
    before = content(url, "embeddings_production")

    result = migration.copy_namespace("production", "staging")

    assert (result["success"], result["rows_migrated"], result["source_action"]) == (True, 40, "kept unchanged")
    assert (result["source_table"], result["target_table"]) == ("embeddings_production", "embeddings_staging")
    assert result["duration_seconds"] > 0 and result["vector_index_exists"] and result["content_digest"]
    assert content(url, "embeddings_staging") == content(url, "embeddings_production") == before
    suffixes = ("pkey", "chunk_id_key", "collection_idx", "document_idx", "strategy_idx", "vector_idx", "id_seq")
    assert {f"embeddings_staging_{suffix}" for suffix in suffixes} <= relations(url)
    constraints = ask(
        url,
        "SELECT conname, contype FROM pg_constraint WHERE conrelid = 'embeddings_staging'::regclass AND contype <> 'n'",
    )
    assert sorted(constraints) == [("embeddings_staging_chunk_id_key", "u"), ("embeddings_staging_pkey", "p")]


def test_a_copys_numbers_are_its_own_and_go_on_when_the_source_is_dropped(
    url: str, migration: NamespaceMigration, pipeline: EmbeddingPipeline
) -> None:
    migration.copy_namespace("production", "staging")

    pipeline.drop_namespace("production", confirm=True)

    pipeline.vector_store.insert_embeddings([VectorEmbedding("new", "d", "k", "t", [1.0] * DIMENSION)], "staging")
    assert ask(url, "SELECT max(id) FROM embeddings_staging WHERE chunk_id = 'new'") == [(41,)]


def test_a_move_keeps_the_source_as_a_backup_that_is_known_by_its_comment(
    url: str, migration: NamespaceMigration, pipeline: EmbeddingPipeline
) -> None:
    before = content(url, "embeddings_production")

    result = migration.move_namespace("production", "live")

    assert result["success"] and result["source_action"].startswith("renamed to embeddings_production_backup_20")
    backup = result["source_action"].removeprefix("renamed to ")
    assert content(url, "embeddings_live") == content(url, f'"{backup}"') == before
    assert [found["namespace"] for found in pipeline.list_namespaces()] == ["live"]
    (kept,) = migration.check()["backups"]
    assert (kept["table_name"], kept["backup_of"], kept["moved_to"]) == (backup, "embeddings_production", "live")

    # And the name is free again, with all its indexes
    fill(pipeline, "production", rows=3)
    pipeline.create_namespace("production")
    assert {found["namespace"] for found in pipeline.list_namespaces()} == {"live", "production"}
    assert "embeddings_production_vector_idx" in relations(url)
    assert migration.move_namespace("production", "again")["success"]


def test_a_namespace_whose_name_looks_like_a_backup_is_one_like_any_other(
    url: str, migration: NamespaceMigration, pipeline: EmbeddingPipeline
) -> None:
    """The seed itself recommends this name."""
    assert migration.copy_namespace("production", "production_backup_20260121")["success"]
    assert migration.move_namespace("production", "live")["success"]

    assert [found["namespace"] for found in pipeline.list_namespaces()] == ["live", "production_backup_20260121"]
    assert migration.move_namespace("production_backup_20260121", "production")["success"]


def test_two_long_names_that_differ_in_their_last_character_do_not_meet(
    migration: NamespaceMigration, pipeline: EmbeddingPipeline, empty_database_url: str
) -> None:
    """Postgres cuts identifiers off at 63 bytes: their indexes and backups would have the same names."""
    first, second = "n" * 49 + "a", "n" * 49 + "b"
    for number, name in enumerate((first, second)):
        fill(pipeline, name, rows=5 + number)
        pipeline.create_namespace(name)

    results = [migration.move_namespace(first, "m" * 49 + "a"), migration.move_namespace(second, "m" * 49 + "b")]

    assert [result["success"] for result in results] == [True, True], results
    assert [result["rows_migrated"] for result in results] == [5, 6]
    backups = [result["source_action"].removeprefix("renamed to ") for result in results]
    assert len({*backups}) == 2 and all(len(name.encode()) <= 63 and "_backup_20" in name for name in backups)
    assert {table["backup_of"] for table in migration.check()["backups"]} == {
        f"embeddings_{first}",
        f"embeddings_{second}",
    }
    assert [stats["vector_index_exists"] for stats in pipeline.list_namespaces()] == [True, True]
    assert max(len(name.encode()) for name in relations(empty_database_url)) <= 63


def test_the_table_of_the_time_before_namespaces_becomes_one(
    url: str, migration: NamespaceMigration, pipeline: EmbeddingPipeline
) -> None:
    ask(url, "CREATE TABLE embeddings (LIKE embeddings_production INCLUDING ALL)")
    ask(url, "INSERT INTO embeddings SELECT * FROM embeddings_production")
    assert migration.check() == {
        "legacy_table_exists": True,
        "legacy_row_count": 40,
        "default_namespace_exists": False,
        "migration_needed": True,
        "backups": [],
    }

    result = migration.migrate_legacy_table()

    assert result["success"] and result["rows_migrated"] == 40
    assert result["source_action"].startswith("renamed to embeddings_backup_20")
    assert "default" in [found["namespace"] for found in pipeline.list_namespaces()]
    checked = migration.check()
    assert (checked["legacy_table_exists"], checked["migration_needed"], len(checked["backups"])) == (False, False, 1)


def test_a_table_of_the_published_project_is_copied_with_its_own_columns_and_each_constraint_once(
    database: DatabaseConnection, migration: NamespaceMigration, empty_database_url: str
) -> None:
    EmbeddingSchema(database.database_url, dimension=DIMENSION, layout="published").create_namespace("prod")
    ask(empty_database_url, "ALTER TABLE embeddings_prod ADD CONSTRAINT embeddings_prod_chunk_id_key UNIQUE (chunk_id)")
    ask(
        empty_database_url,
        "INSERT INTO embeddings_prod (chunk_id, text, text_hash, embedding_model, embedding_created_at, confidence)"
        " SELECT 'c' || n, 't', 'h' || n, 'm', now(), 'NaN' FROM generate_series(1, 9) n",
    )

    result = migration.copy_namespace("prod", "copy")

    assert result["success"] and result["rows_migrated"] == 9
    assert content(empty_database_url, "embeddings_copy") == content(empty_database_url, "embeddings_prod")
    names = {name for name in relations(empty_database_url) if "copy" in name}
    assert {"ix_embeddings_copy_source", "uq_embeddings_copy_text_hash_document"} <= names
    unique = "SELECT count(*) FROM pg_indexes WHERE tablename = 'embeddings_copy' AND indexdef LIKE '%(chunk_id)'"
    assert ask(empty_database_url, unique) == [(1,)]


def test_those_who_could_read_the_source_can_read_the_target(url: str, migration: NamespaceMigration) -> None:
    ask(url, 'DROP ROLE IF EXISTS "rea""der"')
    ask(url, 'CREATE ROLE "rea""der"')
    ask(url, 'GRANT SELECT ON embeddings_production TO "rea""der"')

    migration.move_namespace("production", "live")

    assert ask(url, "SELECT has_table_privilege('rea\"der', 'embeddings_live', 'SELECT')") == [(True,)]
    ask(url, 'DROP OWNED BY "rea""der"')
    ask(url, 'DROP ROLE "rea""der"')


# --- refused, and nothing left ----------------------------------------------------------------------------------------


def refused(migration: NamespaceMigration, url: str, why: str, source: str, target: str, mode: str = "copy") -> None:
    before = relations(url)

    result = migration.migrate_namespace(source, target, mode)

    assert result["success"] is False and why in result["error"], result
    assert relations(url) == before


@pytest.mark.parametrize("mode", ["copy", "move"])
def test_a_target_that_exists_is_left_as_it_is(
    url: str, migration: NamespaceMigration, pipeline: EmbeddingPipeline, mode: str
) -> None:
    pipeline.create_namespace("staging")

    refused(migration, url, "exists already", "production", "staging", mode)


@pytest.mark.parametrize(
    ("source", "target", "mode", "why"),
    [
        ("nowhere", "staging", "copy", "there is no table"),
        ("production", "production", "copy", "exists already"),
        ("production", "staging", "swap", "invalid mode"),
        ("production", "Staging", "copy", "may hold only"),
        ("production", "x; DROP TABLE embeddings_production; --", "move", "may hold only"),
        ('production" --', "staging", "copy", "may hold only"),
        ("production", "", "copy", "is empty"),
        ("production", "system", "copy", "is reserved"),
        ("embeddings", "default", "move", "there is no table 'embeddings'"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    url: str, migration: NamespaceMigration, source: str, target: str, mode: str, why: str
) -> None:
    refused(migration, url, why, source, target, mode)


def test_a_table_with_row_security_is_not_copied_into_the_open(url: str, migration: NamespaceMigration) -> None:
    ask(url, "ALTER TABLE embeddings_production ENABLE ROW LEVEL SECURITY")

    refused(migration, url, "row-level security", "production", "staging")


def test_who_holds_a_lock_stops_a_move_but_not_for_ever(
    url: str, migration: NamespaceMigration, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a transaction that has written to the source and does not end
    monkeypatch.setattr(database_module, "LOCK_TIMEOUT_MS", 200)
    impatient = NamespaceMigration(url)
    with psycopg.connect(url.replace("+psycopg", "")) as writer:
        writer.execute("UPDATE embeddings_production SET text = text WHERE chunk_id = 'c1'")

        # When the namespace is to be moved, then it says who waits for whom; a copy waits for nobody
        refused(impatient, url, "somebody else keeps a lock", "production", "live", "move")
        assert impatient.copy_namespace("production", "staging")["success"]
    assert impatient.move_namespace("production", "live")["success"]


def test_no_row_is_written_behind_a_moves_back(url: str, migration: NamespaceMigration) -> None:
    """A row that came between the copy and the renaming would be in the backup alone."""
    outcome: list[str] = []

    def write() -> None:
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as writer:
            try:
                writer.execute(
                    "INSERT INTO embeddings_production SELECT 1000, 'late', document_id, collection_name, text,"
                    " embedding, strategy, content_type FROM embeddings_production WHERE chunk_id = 'c1'"
                )
                outcome.append("written")
            except psycopg.errors.UndefinedTable:
                outcome.append("moved away")

    waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'embeddings_production'::regclass"

    def tell(step: str) -> None:
        if step.startswith("comparing"):
            late.start()
            while late.is_alive() and not ask(url, waiting):
                time.sleep(0.02)
            outcome.append("waits" if late.is_alive() else "did not wait")

    late = threading.Thread(target=write)
    migration.run("production", "live", "move", tell=tell)
    late.join(120)

    # The writer waited; it went on with the table that it meant, which by then is a backup, or found none of that name
    assert outcome[0] == "waits"
    assert ask(url, "SELECT count(*) FROM embeddings_live") == [(40,)]


def test_a_connection_that_is_lost_on_the_way_leaves_nothing(url: str, migration: NamespaceMigration) -> None:
    before = relations(url)

    def lose(step: str) -> None:
        if step.startswith("building"):
            kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'vecfleet'"
            ask(url, kill + " AND datname = current_database()")

    with pytest.raises(Exception, match="could not move embeddings_production"):
        migration.run("production", "live", "move", tell=lose)

    assert relations(url) == before
    assert migration.move_namespace("production", "live")["success"]


def test_rows_that_are_not_equal_are_noticed_and_taken_back(url: str, migration: NamespaceMigration) -> None:
    """A trigger of the kind that a database-wide extension installs changes what is inserted."""
    ask(
        url,
        "CREATE FUNCTION spoil() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF to_regclass('public.embeddings_spoiled') IS NOT NULL THEN"
        "  EXECUTE 'CREATE OR REPLACE FUNCTION nudge() RETURNS trigger LANGUAGE plpgsql AS"
        "   ''BEGIN IF NEW.chunk_id = ''''c7'''' THEN NEW.confidence := ''''-0''''::float8; END IF; RETURN NEW; END''';"
        "  EXECUTE 'CREATE OR REPLACE TRIGGER nudge BEFORE INSERT ON public.embeddings_spoiled"
        "   FOR EACH ROW EXECUTE FUNCTION nudge()'; END IF; END $$",
    )
    ask(url, "UPDATE embeddings_production SET confidence = 0.0")
    ask(url, "CREATE EVENT TRIGGER spoil ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION spoil()")

    refused(migration, url, "are not those of", "production", "spoiled")


# --- previews ---------------------------------------------------------------------------------------------------------


def test_a_preview_says_what_would_be_done_and_does_nothing(url: str, migration: NamespaceMigration) -> None:
    before = relations(url)

    preview = migration.preview("production", "live", "move")

    assert (preview["source_table"], preview["target_table"], preview["row_count"]) == (
        "embeddings_production",
        "embeddings_live",
        40,
    )
    assert all(preview["checks"].values()) and len(preview["steps"]) == 5
    assert "embeddings_production_backup_" in preview["steps"][-1]
    assert relations(url) == before
    assert not all(migration.preview("production", "production")["checks"].values())
