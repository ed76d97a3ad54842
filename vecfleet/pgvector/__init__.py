"""Namespaces in Postgres with pgvector: one table each, as seed 004 describes them."""
