"""The seed's interfaces, as its API reference prints them: names, tables, embeddings, searches, collections."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.pgvector.conftest import DIMENSION
from tests.vectors import ask
from vecfleet.errors import BadInput, NotFound, Refused
from vecfleet.pgvector import (
    DatabaseConnection,
    EmbeddingPipeline,
    EmbeddingSchema,
    NamespaceTableFactory,
    VectorEmbedding,
    VectorStore,
    indexes,
)
from vecfleet.pgvector import database as database_module


def vector(*numbers: float) -> list[float]:
    return [*numbers, *[0.0] * (DIMENSION - len(numbers))]


def one(id: str, *numbers: float, collection: str = "campaigns", **more: Any) -> VectorEmbedding:
    return VectorEmbedding(id, "doc", collection, f"text of {id}", vector(*numbers), **more)


@pytest.fixture
def store(database: DatabaseConnection, pipeline: EmbeddingPipeline) -> VectorStore:
    pipeline.setup_database()
    return VectorStore(database, namespace="production")


# --- names ------------------------------------------------------------------------------------------------------------

BAD_NAMES = [
    *("", "Production", "production-data", "a" * 51, "a b", "ä", "a;b", 'a"b', "a'b", "a\nb", "a\n"),
    *("backup", "temp", "tmp", "system", "admin", "x; DROP TABLE embeddings_production; --", "ſ", "１"),
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_outside_the_rules_is_refused_and_never_folded(pipeline: EmbeddingPipeline, name: str) -> None:
    pipeline.create_namespace("production")
    before = pipeline.list_namespaces()

    for use in (
        pipeline.create_namespace,
        pipeline.get_namespace_stats,
        lambda name: pipeline.drop_namespace(name, confirm=True),
        pipeline.schema.table_factory.get_or_create_model,
        pipeline.schema.table_factory.get_table_name,
        lambda name: VectorStore(pipeline.vector_store.db, name),
        lambda name: pipeline.vector_store.similarity_search(vector(1), namespace=name),
    ):
        with pytest.raises(ValueError, match="namespace name"):
            use(name)

    assert not pipeline.schema.table_factory.validate_namespace_name(name)
    assert pipeline.list_namespaces() == before


@pytest.mark.parametrize("name", ["default", "customer_123", "a" * 50, "_", "1", "production_backup_20260121"])
def test_a_name_within_the_rules_is_a_table_of_that_name(
    pipeline: EmbeddingPipeline, name: str, empty_database_url: str
) -> None:
    assert pipeline.schema.table_factory.validate_namespace_name(name)
    assert pipeline.create_namespace(name) is True

    assert [found["namespace"] for found in pipeline.list_namespaces()] == [name]
    assert ask(empty_database_url, "SELECT count(*) FROM pg_tables WHERE tablename = %s", f"embeddings_{name}") == [
        (1,)
    ]


def test_tables_that_only_look_like_namespaces_are_not_taken_for_some(
    pipeline: EmbeddingPipeline, empty_database_url: str
) -> None:
    """`_` is a wildcard of LIKE, and the project keeps other tables under the same beginning."""
    pipeline.create_namespace("production")
    ask(empty_database_url, "CREATE TABLE embeddingsXproduction (LIKE embeddings_production)")
    ask(empty_database_url, "CREATE TABLE embeddings_collection_metadata_default (collection_name text)")
    ask(empty_database_url, "CREATE VIEW embeddings_view AS SELECT * FROM embeddings_production")

    assert [found["namespace"] for found in pipeline.list_namespaces()] == ["production"]


# --- the table --------------------------------------------------------------------------------------------------------


def test_the_table_has_the_seeds_columns_and_indexes(pipeline: EmbeddingPipeline, empty_database_url: str) -> None:
    pipeline.create_namespace("production")

    columns = ask(
        empty_database_url,
        "SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute"
        " WHERE attrelid = 'embeddings_production'::regclass AND attnum > 0 ORDER BY attnum",
    )
    indexes = ask(empty_database_url, "SELECT indexname FROM pg_indexes WHERE tablename = 'embeddings_production'")

    assert columns == [
        ("id", "integer", True),
        ("chunk_id", "character varying(512)", True),
        ("document_id", "character varying(512)", True),
        ("collection_name", "character varying(255)", True),
        ("text", "text", True),
        ("embedding", f"vector({DIMENSION})", True),
        ("strategy", "character varying(50)", True),
        ("content_type", "character varying(100)", True),
        ("path", "character varying(4096)", False),
        ("parent_chunk_id", "character varying(512)", False),
        ("depth_level", "integer", False),
        ("hierarchy_level", "integer", False),
        ("semantic_density", "double precision", False),
        ("confidence", "double precision", False),
        ("chunk_size", "integer", False),
        ("token_count", "integer", False),
        ("key_count", "integer", False),
        ("contains_arrays", "boolean", False),
        ("is_leaf", "boolean", False),
        ("domain_tags", "text[]", False),
        ("original_keys", "text[]", False),
        ("metadata", "jsonb", False),
        ("created_at", "timestamp without time zone", False),
        ("updated_at", "timestamp without time zone", False),
    ]
    suffixes = ("pkey", "chunk_id_key", "collection_idx", "document_idx", "strategy_idx")
    assert sorted(name for (name,) in indexes) == sorted(f"embeddings_production_{suffix}" for suffix in suffixes)


def test_the_published_projects_own_statements_work_on_a_table_that_was_made_for_it(
    database: DatabaseConnection, empty_database_url: str
) -> None:
    """Send what its code sends, in its words: it names columns that its documentation does not have."""
    EmbeddingSchema(database.database_url, dimension=DIMENSION, layout="published").create_namespace("prod")

    ask(
        empty_database_url,
        "INSERT INTO embeddings_prod (embedding, embedding_model, embedding_created_at, chunk_id, text, text_hash,"
        " text_length, path, level, parent_id, children_ids, source_file, dimension_value, document_id,"
        " collection_name, content_type, value_types, key_count, strategy, confidence, semantic_density, domain_type,"
        " entity_types, performance_metrics, reasoning_content, version, processing_pipeline)"
        " SELECT '[1,0,0,0,0,0,0,0]', 'm', now(), 'c' || d,"
        " 't', 'h', 1, 'p', 0, NULL, '[]', NULL, 'Property=A', 'd' || d, 'c', 'mixed', '[]', 1, 's',"
        " 0.5, 0.5, 'general', '[]', '[]', '[]', '1.0', 'vector_embeddings' FROM generate_series(1, 2) d",
    )
    found = ask(
        empty_database_url,
        "SELECT id, chunk_id, level, text_hash, dimension_value, 1 - (embedding <=> '[1,0,0,0,0,0,0,0]')"
        " FROM embeddings_prod WHERE collection_name = 'c' AND document_id = 'd1' ORDER BY 6 DESC",
    )
    indexes = ask(empty_database_url, "SELECT indexname FROM pg_indexes WHERE tablename = 'embeddings_prod'")

    assert found == [(1, "c1", 0, "h", "Property=A", 1.0)]
    names = {name for (name,) in indexes}
    assert {"ix_embeddings_prod_source", "ix_embeddings_prod_dimension_value", "uq_embeddings_prod_chunk_id"} <= names
    [(record, score)] = VectorStore(database, "prod").similarity_search(vector(1), filters={"document_id": "d1"})
    assert (record.chunk_id, record.level, score) == ("c1", 0, pytest.approx(1.0))  # type: ignore[attr-defined]
    assert record.dimension_value == "Property=A"  # type: ignore[attr-defined]


def test_ours_are_inserted_and_found_in_a_table_that_the_published_project_made(
    database: DatabaseConnection, empty_database_url: str
) -> None:
    # Given its own table: its columns, and no `metadata`
    EmbeddingSchema(database.database_url, dimension=DIMENSION, layout="published").create_namespace("prod")
    ask(empty_database_url, "ALTER TABLE embeddings_prod DROP COLUMN metadata")
    store = VectorStore(database, "prod")

    # When ours are inserted, the same text twice in one document
    embeddings = [
        VectorEmbedding(
            chunk_id, "d", "c", "the same", vector(1), confidence=0.1, depth_level=2, parent_chunk_id="p",
            metadata={"embedding_model": "m", "dimension_value": "Property=A"},
        )
        for chunk_id in ("c1", "c2")
    ]  # fmt: skip
    assert store.insert_embeddings(embeddings) == 2
    assert store.insert_embedding("c3", "d", "c", "another", vector(1, 1), {}) is True

    # Then its own statement finds them, with the values under its names
    found = ask(
        empty_database_url,
        "SELECT chunk_id, embedding_model, level, parent_id, dimension_value, confidence, length(text_hash),"
        " now() - embedding_created_at < '1 hour', created_at IS NOT NULL FROM embeddings_prod"
        " ORDER BY 1 - (embedding <=> '[1,0,0,0,0,0,0,0]') DESC, chunk_id LIMIT 2",
    )
    confidence = pytest.approx(0.1)
    assert found == [(id, "m", 2, "p", "Property=A", confidence, 64, True, True) for id in ("c1", "c2")]
    # And ours finds its row
    assert [record.chunk_id for record, _ in store.similarity_search(vector(1), limit=3)][:2] == ["c1", "c2"]
    # And what it has no column for is refused by its name, and nothing of the call is there
    with pytest.raises(BadInput, match="no column for these of 'c4': is_leaf, page") as refusal:
        store.insert_embeddings([VectorEmbedding("c4", "d", "c", "t", vector(1), is_leaf=True, metadata={"page": 1})])
    assert "ADD COLUMN metadata JSONB" in str(refusal.value.next_step)
    assert ask(empty_database_url, "SELECT count(*) FROM embeddings_prod") == [(3,)]


def test_the_vector_index_waits_for_rows_and_is_rebuilt_on_request(
    store: VectorStore, pipeline: EmbeddingPipeline, empty_database_url: str
) -> None:
    """An ivfflat index of an empty table finds nothing of what comes later."""
    assert not pipeline.get_namespace_stats("production")["vector_index_exists"]
    store.insert_embeddings([one(f"c{n}", 1, n) for n in range(50)])

    assert pipeline.create_namespace("production") is True

    assert pipeline.get_namespace_stats("production")["vector_index_exists"]
    assert ask(empty_database_url, "SELECT indexdef LIKE '%ivfflat (embedding vector_cosine_ops)%lists=''1''%'"
        " FROM pg_indexes WHERE indexname = 'embeddings_production_vector_idx'") == [(True,)]  # fmt: skip
    ask(empty_database_url, "DROP INDEX embeddings_production_strategy_idx, embeddings_production_vector_idx")
    pipeline.create_namespace("production")
    names = {name for (name,) in ask(empty_database_url, "SELECT indexname FROM pg_indexes")}
    assert {"embeddings_production_strategy_idx", "embeddings_production_vector_idx"} <= names


@pytest.mark.parametrize(
    ("rows", "lists", "probes", "m"),
    [(1, 1, 1, 16), (7_114, 7, 3, 16), (100_000, 100, 10, 16), (4_000_000, 2_000, 45, 24)],
)
def test_index_parameters_follow_the_number_of_rows(rows: int, lists: int, probes: int, m: int) -> None:
    assert (indexes.lists_for(rows), indexes.probes_for(rows), indexes.m_for(rows)[0]) == (
        lists,
        probes,
        m,
    )


@pytest.mark.parametrize(
    ("dimension", "kind", "indexed"),
    [(2_000, "vector", True), (2_001, "halfvec", True), (4_000, "halfvec", True), (4_001, "vector", False)],
)
def test_above_2000_dimensions_halves_are_stored_where_only_they_can_be_indexed(
    database: DatabaseConnection, dimension: int, kind: str, indexed: bool
) -> None:
    schema = EmbeddingSchema(database.database_url, dimension=dimension, method="hnsw", database=database)
    schema.create_namespace("wide")
    ones = [1.0] * dimension
    VectorStore(database, "wide").insert_embedding("c", "d", "k", "t", ones, {})

    schema.create_namespace("wide")

    stats = schema.get_namespace_stats("wide")
    assert (stats["vector_type"], stats["dimension"], stats["vector_index_exists"]) == (kind, dimension, indexed)
    assert VectorStore(database, "wide").similarity_search(ones)[0][1] == pytest.approx(1.0)


def test_models_are_made_once_whoever_asks(database: DatabaseConnection) -> None:
    factory = NamespaceTableFactory(database.engine, dimension=DIMENSION)

    with ThreadPoolExecutor(16) as pool:
        models = set(pool.map(factory.get_or_create_model, ["production"] * 64))

    assert len(models) == 1
    assert next(iter(models)).__name__ == "EmbeddingRecord_production"
    assert not factory.table_exists("production")


def test_a_namespace_can_be_created_by_several_at_once(
    database: DatabaseConnection, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "LOCK_TIMEOUT_MS", 120_000)  # the last one waits for all the others
    schema = EmbeddingSchema(database.database_url, dimension=DIMENSION)

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(schema.create_namespace, ["production"] * 6))

    assert ask(empty_database_url, "SELECT count(*) FROM pg_indexes WHERE tablename = 'embeddings_production'") == [
        (5,)
    ]


@pytest.mark.parametrize(
    ("there", "why"),
    [
        ("CREATE TABLE embeddings_taken (id int)", "not a table of embeddings: it has no chunk_id"),
        ("CREATE TABLE embeddings_taken (chunk_id text, embedding text)", "it has no column embedding of vectors"),
        ("CREATE VIEW embeddings_taken AS SELECT 1 AS one", "is there and is no table"),
        (
            "CREATE TABLE embeddings_taken (LIKE embeddings_production INCLUDING ALL);"
            """COMMENT ON TABLE embeddings_taken IS '{"vecfleet": {"backup_of": "embeddings_b"}}'""",
            "is the backup of 'embeddings_b', as its comment says, and no namespace",
        ),
    ],
)
def test_what_has_the_name_of_a_namespace_and_is_none_is_said_and_not_called_created(
    store: VectorStore, pipeline: EmbeddingPipeline, empty_database_url: str, there: str, why: str
) -> None:
    for statement in there.split(";"):
        ask(empty_database_url, statement)

    with pytest.raises(Refused, match=why):
        pipeline.create_namespace("taken")
    with pytest.raises(Refused, match=why):
        store.insert_embeddings([one("a", 1)], namespace="taken")


# --- embeddings -------------------------------------------------------------------------------------------------------


def test_what_is_inserted_is_found_by_similarity_collection_threshold_and_filter(store: VectorStore) -> None:
    assert store.insert_embeddings([
        one("east", 1, 0, strategy="semantic", metadata={"lang": "de"}),
        one("north", 0, 1, collection="users"),
        one("northeast", 1, 1, strategy="hierarchical", metadata={"lang": "en", "deep": {"er": [1, None]}}),
    ]) == 3  # fmt: skip

    def ids(**options: Any) -> list[str]:
        return [record.chunk_id for record, _ in store.similarity_search(vector(1, 0.1), **options)]

    assert ids() == ["east", "northeast", "north"]
    assert ids(limit=2) == ["east", "northeast"]
    assert ids(collection_name="users") == ["north"]
    assert ids(similarity_threshold=0.5) == ["east", "northeast"]
    assert ids(filters={"strategy": ["semantic", "hierarchical"], "document_id": "doc"}) == ["east", "northeast"]
    assert ids(filters={"lang": "en"}) == ["northeast"]
    (record, score), *_ = store.similarity_search(vector(1), limit=1)
    assert (record.text, record.metadata, score) == ("text of east", {"lang": "de"}, pytest.approx(1.0))
    assert record.created_at is not None  # type: ignore[attr-defined]


def test_the_same_chunk_inserted_again_replaces_itself(store: VectorStore) -> None:
    assert store.insert_embedding("c", "d", "k", "first", vector(1), {"strategy": "semantic", "page": 7})
    assert store.insert_embedding("c", "d", "k", "second", vector(0, 1), {"strategy": "semantic", "page": 8})

    ((record, _),) = store.similarity_search(vector(1))
    assert (record.text, record.strategy, record.metadata) == ("second", "semantic", {"page": 8})


def test_a_namespace_may_be_named_for_one_call(store: VectorStore, pipeline: EmbeddingPipeline) -> None:
    pipeline.create_namespace("staging")

    store.insert_embeddings([one("a", 1)], namespace="staging")

    assert store.similarity_search(vector(1)) == []
    assert [record.chunk_id for record, _ in store.similarity_search(vector(1), namespace="staging")] == ["a"]
    with pytest.raises(NotFound, match="Namespace 'nowhere' does not exist"):
        store.insert_embeddings([one("a", 1)], namespace="nowhere")
    with pytest.raises(NotFound, match="Namespace 'nowhere' does not exist"):
        store.similarity_search(vector(1), namespace="nowhere")


@pytest.mark.parametrize("bad", [[1.0] * 9, [1.0] * 7, [float("nan")] * 8, [float("inf")] * 8, []])
def test_a_vector_that_does_not_fit_is_refused_and_nothing_is_inserted(store: VectorStore, bad: list[float]) -> None:
    with pytest.raises(BadInput, match=r"dimensions|finite"):
        store.insert_embeddings([one("good", 1), VectorEmbedding("bad", "d", "k", "t", bad)])
    with pytest.raises(BadInput, match=r"dimensions|finite"):
        store.similarity_search(bad)

    assert store.similarity_search(vector(1)) == []


def test_text_is_never_a_statement(store: VectorStore, pipeline: EmbeddingPipeline) -> None:
    evil = "'); DROP TABLE embeddings_production; --\" %s {} \\"

    store.insert_embedding(evil, evil, evil, evil, vector(1), {evil: evil, "strategy": evil[:50]})

    ((record, _),) = store.similarity_search(vector(1), collection_name=evil, filters={evil: evil, "text": evil})
    assert (record.chunk_id, record.metadata) == (evil, {evil: evil})
    assert [found["collection_name"] for found in store.list_collections()] == [evil]
    assert pipeline.delete_collection(evil) == 1


# --- collections and namespaces ---------------------------------------------------------------------------------------


def test_collections_are_listed_measured_and_emptied(store: VectorStore, pipeline: EmbeddingPipeline) -> None:
    store.insert_embeddings([
        one("a", 1, strategy="semantic", semantic_density=0.25),
        one("b", 1, strategy="hierarchical", semantic_density=0.75),
        one("c", 1, collection="users"),
    ])  # fmt: skip

    assert pipeline.list_collections() == [
        {
            "collection_name": "campaigns",
            "total_embeddings": 2,
            "strategies": ["hierarchical", "semantic"],
            "content_types": ["mixed"],
            "avg_semantic_density": 0.5,
        },
        pipeline.get_collection_stats("users"),
    ]
    assert pipeline.get_collection_stats("nothing")["total_embeddings"] == 0
    assert pipeline.delete_collection("campaigns") == 2
    assert pipeline.delete_collection("campaigns") == 0
    assert [found["collection_name"] for found in pipeline.list_collections()] == ["users"]


def test_namespaces_are_listed_measured_and_dropped_only_when_confirmed(
    store: VectorStore, pipeline: EmbeddingPipeline
) -> None:
    store.insert_embeddings([one("a", 1), one("b", 1, collection="users")])

    stats = pipeline.get_namespace_stats("production")
    assert pipeline.list_namespaces() == [
        {
            "namespace": "production",
            "table_name": "embeddings_production",
            "embedding_count": 2,
            "vector_index_exists": False,
        }
    ]
    assert (stats["exists"], stats["embedding_count"], stats["collection_count"]) == (True, 2, 2)
    assert stats["table_size"].endswith("kB")
    with pytest.raises(ValueError, match="confirm=True"):
        pipeline.drop_namespace("production")
    assert pipeline.drop_namespace("production", confirm=True) is True
    assert pipeline.drop_namespace("production", confirm=True) is False
    gone = pipeline.get_namespace_stats("production")
    assert (gone["exists"], gone["error"]) == (False, "Namespace does not exist")
    with pytest.raises(NotFound):
        store.similarity_search(vector(1))


def test_the_connection_is_made_from_its_parts(postgres_url: str) -> None:
    import sqlalchemy as sa

    url = sa.make_url(postgres_url)
    connection = DatabaseConnection(
        host=url.host,
        database=url.database,
        username=url.username,
        password=url.password,
        pool_size=20,
        max_overflow=10,
        port=url.port,
    )

    assert connection.test_connection()["connected"]
    assert str(url.password) in connection.database_url
    assert str(url.password) not in connection.shown + repr(connection) + repr(connection.engine)
    connection.close()
