"""The names that seed 004 imports from its project. Needs the extra `pgvector`."""

from vecfleet.pgvector import DatabaseConnection, EmbeddingPipeline, VectorEmbedding, VectorStore

__all__ = ["DatabaseConnection", "EmbeddingPipeline", "VectorEmbedding", "VectorStore"]
