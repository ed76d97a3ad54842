"""Alembic's entry: run the revisions on the connection and tables that `orchestrator.schema` passes."""

from alembic import context

metadata = context.config.attributes["metadata"]
connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, compare_server_default=True, compare_type=True)
with context.begin_transaction():
    context.run_migrations()
