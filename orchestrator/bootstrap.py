"""The composition root: makes the concrete parts of a fleet from the settings.

Each library is loaded on first use: a command that only reads the job table starts in half the time.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from pydantic import SecretStr

from orchestrator import schema
from orchestrator.ledger.database import Database
from vecfleet.connections import ACCOUNT, PINECONE
from vecfleet.errors import BadInput
from vecfleet.names import meant
from vecfleet.settings import JOIN, Settings
from vecfleet.stores.base import Store

if TYPE_CHECKING:
    from celery import Celery

    from vecfleet.stores.parquet import ParquetStore
    from vecfleet.stores.pinecone import Accounts


@dataclass(frozen=True)
class Fleet:
    """The parts that a process of the fleet works with; each is made on first use, in the process that uses it."""

    settings: Settings
    keeps_plans: bool = field(default=False, kw_only=True)
    """Keep the plans of SQL statements, as workers want it; see `Database`."""

    @cached_property
    def database(self) -> Database:
        if self.settings.database_url is None:
            raise BadInput("DATABASE_URL is not set", next_step=JOIN)
        url, pool_size = self.settings.database_url.get_secret_value(), self.settings.worker_threads + 2
        database = Database(url, pool_size, keeps_plans=self.keeps_plans)
        with database.begin() as connection:
            schema.require_current(connection)
        return database

    @cached_property
    def celery(self) -> "Celery":
        from orchestrator import queue

        if self.settings.wake_ups is None:
            raise queue.without_address()
        return queue.make_app(self.settings.wake_ups.get_secret_value())

    @cached_property
    def store(self) -> Store:
        """The vector database of this environment."""
        return self.accounts.store(PINECONE)

    @cached_property
    def accounts(self) -> "Accounts":
        """The vector database of this environment, and those of the named accounts."""
        from vecfleet.stores.pinecone import Accounts

        return Accounts(self.settings)

    @cached_property
    def folders(self) -> "ParquetStore":
        """The folders of exports under the root."""
        from vecfleet.stores.parquet import ParquetStore

        return ParquetStore(self.settings.vecfleet_root)

    @cached_property
    def tables(self) -> Store:
        """The namespaces in the Postgres database that the settings name."""
        return self._tables("pgvector", self.settings.pgvector_url, "PGVECTOR_URL")

    @cached_property
    def other_tables(self) -> Store:
        """The namespaces in the other Postgres database."""
        return self._tables("pgvector-other", self.settings.pgvector_other_url, "PGVECTOR_OTHER_URL")

    def _tables(self, name: str, url: SecretStr | None, variable: str) -> Store:
        from vecfleet.pgvector.database import DatabaseConnection
        from vecfleet.stores.pgvector import PgvectorStore

        if url is None:
            raise BadInput(f"{variable} is not set", next_step="set it: postgresql://user:password@host:5432/vectordb")
        database = DatabaseConnection(
            database_url=url.get_secret_value(),
            pool_size=self.settings.worker_threads + 2,
            statement_timeout_ms=int(self.settings.request_deadline_seconds * 1_000),
        )
        return PgvectorStore(database, name, self.settings.pgvector_collection_key)

    def store_named(self, name: str) -> Store:
        """Return the store that a plan names."""
        if name.startswith(ACCOUNT):
            return self.accounts.store(name)
        match name:
            case "pinecone":
                return self.store
            case "parquet":
                return self.folders
            case "pgvector":
                return self.tables
            case "pgvector-other":
                return self.other_tables
            case _:
                stores = ", ".join((*STORES, f"{ACCOUNT}NAME"))
                near = meant(name, STORES)
                raise BadInput(f"there is no store {name!r} here{near}", next_step=f"a store is one of: {stores}")


STORES = ("pinecone", "pgvector", "pgvector-other", "parquet")
