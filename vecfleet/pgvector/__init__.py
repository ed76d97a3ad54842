"""Namespaces in Postgres with pgvector: one table each, as seed 004 describes them. Needs `vecfleet[pgvector]`.

    connection = DatabaseConnection(host=…, database=…, username=…, password=…)
    pipeline = EmbeddingPipeline(connection, openai_api_key=…, namespace="production")
    pipeline.setup_database()
    NamespaceMigration(connection.database_url).migrate_namespace("dev", "production", mode="copy")

`naming` names and `layouts` describe tables; `tables` finds and creates them, `indexes` builds their indexes; `rows`
and `cells` turn records into rows and back; `moving` copies and moves them whole; `database`, `schema`, `store`,
`pipeline` and `migration` hold what the seed promises.
"""

from vecfleet.embedders import Embedder, HashEmbedder, OpenAIEmbedder
from vecfleet.pgvector.database import DatabaseConnection
from vecfleet.pgvector.migration import NamespaceMigration
from vecfleet.pgvector.naming import InvalidNamespace
from vecfleet.pgvector.pipeline import EmbeddingPipeline
from vecfleet.pgvector.records import EmbeddingRecord, VectorEmbedding
from vecfleet.pgvector.schema import EmbeddingSchema, NamespaceTableFactory
from vecfleet.pgvector.store import VectorStore

__all__ = [
    "DatabaseConnection",
    "Embedder",
    "EmbeddingPipeline",
    "EmbeddingRecord",
    "EmbeddingSchema",
    "HashEmbedder",
    "InvalidNamespace",
    "NamespaceMigration",
    "NamespaceTableFactory",
    "OpenAIEmbedder",
    "VectorEmbedding",
    "VectorStore",
]
