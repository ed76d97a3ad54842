"""Postgres with pgvector as a store: a schema is an index, a table in it a namespace, a row a record.

`store` finds and creates schemas, `index` is one of them, `listing` lists its ids, `rows` turns records into rows of
whatever columns a table has and back, `cells` one value in one column. The tables themselves are `vecfleet.pgvector`'s.
"""

from vecfleet.stores.pgvector.index import PgvectorIndex
from vecfleet.stores.pgvector.store import PgvectorStore

__all__ = ["PgvectorIndex", "PgvectorStore"]
