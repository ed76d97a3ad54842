"""The index on a namespace's vectors: built as asked, beside its readers, and never another's."""

import threading
import time
from typing import Any

import psycopg
import pytest

from tests.pgvector.conftest import DIMENSION
from tests.vectors import ask
from vecfleet.errors import Refused
from vecfleet.pgvector import DatabaseConnection, EmbeddingPipeline, EmbeddingSchema, VectorEmbedding, VectorStore
from vecfleet.pgvector.indexes import Method

INDEXES = "SELECT indexname, indexdef FROM pg_indexes WHERE indexdef ~ 'USING (hnsw|ivfflat)' ORDER BY 1"


def vector(*numbers: float) -> list[float]:
    return [*numbers, *[1.0] * (DIMENSION - len(numbers))]


@pytest.fixture
def url(empty_database_url: str, pipeline: EmbeddingPipeline) -> str:
    """A database with 40 rows in the namespace production, and no index on its vectors."""
    pipeline.create_namespace("production")
    some = [VectorEmbedding(f"c{n}", "doc", "k", f"text {n}", vector(float(n))) for n in range(40)]
    pipeline.vector_store.insert_embeddings(some, "production")
    return empty_database_url


def create(database: DatabaseConnection, method: Method | None = None) -> None:
    schema = EmbeddingSchema(database.database_url, dimension=DIMENSION, method=method, database=database)
    schema.create_namespace("production")


def definitions(url: str) -> dict[str, Any]:
    return dict(ask(url, INDEXES))


def test_the_index_is_built_by_the_method_asked_for_and_else_stays_of_its_kind(
    url: str, database: DatabaseConnection
) -> None:
    seen = []
    for method in (None, "hnsw", None, "ivfflat"):
        create(database, method)  # type: ignore[arg-type]
        ((name, definition),) = definitions(url).items()
        seen.append((name.removeprefix("embeddings_production_"), definition.split(" USING ")[1].split(" ")[0]))

    assert seen == [("vector_idx", kind) for kind in ("ivfflat", "hnsw", "hnsw", "ivfflat")]


def test_readers_go_on_while_the_index_is_built_anew(url: str, database: DatabaseConnection) -> None:
    # Given an index, and a build that does not end before we let it
    create(database)
    ask(url, "CREATE FUNCTION wait() RETURNS event_trigger LANGUAGE plpgsql SET lock_timeout = 0 AS $$ BEGIN"
        " IF EXISTS (SELECT FROM pg_event_trigger_ddl_commands() WHERE object_identity LIKE '%vector_idx%')"
        " THEN PERFORM pg_advisory_xact_lock(7); END IF; END $$")  # fmt: skip
    ask(url, "CREATE EVENT TRIGGER wait ON ddl_command_end WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION wait()")
    with psycopg.connect(url.replace("+psycopg", "")) as holder:
        holder.execute("SELECT pg_advisory_xact_lock(7)")
        building = threading.Thread(target=create, args=[database, "hnsw"])
        building.start()
        while not ask(url, "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
            assert building.is_alive(), "it ended without building anything"
            time.sleep(0.02)

        # When somebody searches, then the answer comes
        found = VectorStore(database, "production").similarity_search(vector(1.0), limit=3)
        assert len(found) == 3 and building.is_alive()

    building.join(120)
    assert "USING hnsw" in definitions(url)["embeddings_production_vector_idx"]


def test_an_index_that_is_not_ours_is_left_alone(url: str, database: DatabaseConnection) -> None:
    ask(url, "CREATE INDEX mine ON embeddings_production USING hnsw (embedding vector_l2_ops)")
    before = definitions(url)

    create(database)

    assert definitions(url).items() > before.items()
    assert "vector_cosine_ops" in definitions(url)["embeddings_production_vector_idx"]


def test_an_index_of_somebody_else_that_has_our_name_is_named_and_left_alone(
    url: str, database: DatabaseConnection
) -> None:
    ask(url, "CREATE INDEX embeddings_production_vector_idx ON embeddings_production"
        " USING hnsw (embedding vector_l2_ops)")  # fmt: skip
    before = definitions(url)

    with pytest.raises(Refused, match="'embeddings_production_vector_idx' is not our index"):
        create(database, "hnsw")

    assert definitions(url) == before


@pytest.mark.parametrize("method", ["hnsw", "ivfflat"])
@pytest.mark.parametrize("filters", [None, {"document_id": "many"}])
def test_a_search_gives_as_many_as_asked_for_and_the_nearest_first(
    url: str, database: DatabaseConnection, method: Method, filters: dict[str, Any] | None
) -> None:
    """Left to itself pgvector looks at 40 candidates, or at one list, and at no more where a filter leaves few."""
    ask(
        url,
        "INSERT INTO embeddings_production (chunk_id, document_id, collection_name, text, embedding, strategy,"
        " content_type) SELECT 'm' || n, CASE WHEN n % 3 = 0 THEN 'many' ELSE 'doc' END, 'k', 't',"
        f" (SELECT array_agg(random() + i * (n - n)) FROM generate_series(1, {DIMENSION}) i)::vector, 's', 'c'"
        " FROM generate_series(1, 6000) n",
    )
    create(database, method)
    ask(url, "ANALYZE embeddings_production")
    store = VectorStore(database, "production")

    for limit in (100, 900):
        scores = [score for _, score in store.similarity_search(vector(0.3), limit, filters=filters)]

        assert len(scores) == limit
        assert scores == sorted(scores, reverse=True)


def test_rows_that_were_deleted_take_no_place_among_those_found(url: str, database: DatabaseConnection) -> None:
    """Until a vacuum the index leads to them: here to the 240 nearest, and 10 are asked for."""
    ask(
        url,
        "INSERT INTO embeddings_production (chunk_id, document_id, collection_name, text, embedding, strategy,"
        " content_type) SELECT 'c' || n, 'd', 'k', 't',"
        f" array_prepend(n, array_fill(1, ARRAY[{DIMENSION - 1}]))::vector, 's', 'c' FROM generate_series(40, 6000) n",
    )
    create(database, "hnsw")
    ask(url, "ALTER TABLE embeddings_production SET (autovacuum_enabled = false)")
    ask(url, "DELETE FROM embeddings_production WHERE substr(chunk_id, 2)::int < 240")
    ask(url, "ANALYZE embeddings_production")

    assert len(VectorStore(database, "production").similarity_search(vector(3.0), 10)) == 10


def test_setting_up_again_builds_no_index(url: str, pipeline: EmbeddingPipeline) -> None:
    """An application does so at each start."""
    pipeline.setup_database()

    assert definitions(url) == {}
