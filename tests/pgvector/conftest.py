"""A database with the extension, and the seed's interfaces on it."""

from collections.abc import Iterator

import pytest

from tests.vectors import vector_database
from vecfleet.pgvector import EmbeddingPipeline, HashEmbedder, NamespaceMigration
from vecfleet.pgvector.database import DatabaseConnection

DIMENSION = 8


@pytest.fixture
def database(empty_database_url: str) -> Iterator[DatabaseConnection]:
    with vector_database(empty_database_url) as database:
        yield database


@pytest.fixture
def pipeline(database: DatabaseConnection) -> EmbeddingPipeline:
    return EmbeddingPipeline(database, namespace="production", embedder=HashEmbedder(), dimension=DIMENSION)


@pytest.fixture
def migration(database: DatabaseConnection) -> NamespaceMigration:
    return NamespaceMigration(database.database_url, database=database)
