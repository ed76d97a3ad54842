"""The composition root: Settings in, the concrete things out. The one place that knows every class it wires."""

from dataclasses import dataclass
from functools import cached_property

from celery import Celery

from orchestrator import queue, schema
from orchestrator.ledger.database import Database
from vecfleet.errors import BadInput
from vecfleet.settings import Settings
from vecfleet.stores.base import Store
from vecfleet.stores.pinecone import PineconeStore


@dataclass(frozen=True)
class Fleet:
    """What a process of the fleet works with; each part is made on first use, in the process that uses it."""

    settings: Settings

    @cached_property
    def database(self) -> Database:
        if self.settings.database_url is None:
            raise BadInput("DATABASE_URL is not set", next_step=_JOIN)
        database = Database(self.settings.database_url.get_secret_value(), pool_size=self.settings.worker_threads + 2)
        with database.begin() as connection:
            schema.require_current(connection)
        return database

    @cached_property
    def celery(self) -> Celery:
        if self.settings.redis_url is None:
            raise BadInput("REDIS_URL is not set", next_step=_JOIN)
        return queue.make_app(self.settings.redis_url.get_secret_value())

    @cached_property
    def store(self) -> Store:
        """The vector database of this environment."""
        return PineconeStore(self.settings)

    @cached_property
    def folders(self) -> Store:
        """The folders of Parquet files under the root. Its library is loaded only where one is used."""
        from vecfleet.stores.parquet import ParquetStore

        return ParquetStore(self.settings.vecfleet_root)

    def store_named(self, name: str) -> Store:
        """The store that a plan names."""
        match name:
            case "pinecone":
                return self.store
            case "parquet":
                return self.folders
            case _:
                raise BadInput(
                    f"there is no store {name!r} here", next_step="a plan's store is `pinecone` or `parquet`"
                )


_JOIN = "set it, or start the embedded stack with `vecfleet up` and paste the lines it prints"
