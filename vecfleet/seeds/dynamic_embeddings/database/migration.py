"""Seed 004's migration of namespaces."""

from vecfleet.pgvector import NamespaceMigration

__all__ = ["NamespaceMigration"]
