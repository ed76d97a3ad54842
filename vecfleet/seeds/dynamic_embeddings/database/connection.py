"""Seed 004's connection."""

from vecfleet.pgvector import DatabaseConnection

__all__ = ["DatabaseConnection"]
