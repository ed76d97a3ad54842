"""Postgres with pgvector as a store: a schema is an index, a table in it a namespace, a row a record.

`store` finds and creates the schemas, `index` is one of them, `listing` lists its ids. `vecfleet.pgvector` has the
tables themselves, and the form of a record in one.
"""

from vecfleet.stores.pgvector.index import PgvectorIndex
from vecfleet.stores.pgvector.store import PgvectorStore

__all__ = ["PgvectorIndex", "PgvectorStore"]
