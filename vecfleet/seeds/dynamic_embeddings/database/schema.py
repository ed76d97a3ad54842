"""Seed 004's tables."""

from vecfleet.pgvector import EmbeddingRecord, EmbeddingSchema, NamespaceTableFactory

__all__ = ["EmbeddingRecord", "EmbeddingSchema", "NamespaceTableFactory"]
