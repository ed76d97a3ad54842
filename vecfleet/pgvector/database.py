"""The way to a database: an engine with a pool, transactions on the driver's own connections, errors that are ours."""

import select
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
import sqlalchemy as sa

from vecfleet.errors import BadInput
from vecfleet.pgvector.errors import translated
from vecfleet.pgvector.tables import Connection

CONNECT_TIMEOUT_S = 5
# Somebody else's lock is waited for so long, and no writer is kept waiting for longer behind us.
LOCK_TIMEOUT_MS = 5_000
DEFAULT_PORT = 5432


class DatabaseConnection:
    """One database and a pool of connections to it. Safe between threads; make it after a fork, never before.

    `statement_timeout_ms` 0: no limit, for building an index may take an hour.
    """

    def __init__(
        self,
        host: str | None = None,
        database: str | None = None,
        username: str | None = None,
        password: str | None = None,
        pool_size: int = 5,
        max_overflow: int = 10,
        *,
        port: int | None = None,
        database_url: str | None = None,
        statement_timeout_ms: int = 0,
    ) -> None:
        url = (
            sa.make_url(_checked(database_url))
            if database_url
            else sa.URL.create("postgresql", username, password, host or "localhost", port or DEFAULT_PORT, database)
        )
        self._url = url.set(drivername="postgresql+psycopg")
        # Timestamps are read as text: one spelling, whatever the server's settings. Nor do those decide what a
        # transaction sees: after it waited for a lock, what was committed meanwhile.
        options = (
            f"-c statement_timeout={statement_timeout_ms} -c lock_timeout={LOCK_TIMEOUT_MS} "
            "-c datestyle=ISO -c timezone=UTC -c default_transaction_isolation=read\\ committed"
        )
        self.engine = sa.create_engine(
            self._url,
            pool_size=pool_size,
            max_overflow=max_overflow,
            hide_parameters=True,
            connect_args={
                **({"tcp_user_timeout": statement_timeout_ms} if statement_timeout_ms else {}),
                "connect_timeout": CONNECT_TIMEOUT_S,
                "options": options,
                "application_name": "vecfleet",
                "keepalives_idle": 30,
            },
        )

        sa.event.listen(self.engine, "checkout", _refuse_the_dead)

    @property
    def database_url(self) -> str:
        """The address with its password, as the other classes take it. Not for logs."""
        return self._url.render_as_string(hide_password=False)

    @property
    def shown(self) -> str:
        """The address without its password."""
        return self._url.set(drivername="postgresql").render_as_string(hide_password=True)

    @property
    def place(self) -> str:
        """Host, port and database: what stands for this database where nothing better is known."""
        return f"{self._url.host or 'localhost'}:{self._url.port or DEFAULT_PORT}/{self._url.database or ''}"

    @contextmanager
    def transaction(self, doing: str) -> Iterator[Connection]:
        """One transaction on the driver's connection: committed at the end, rolled back on any error.

        Raises what Postgres refuses as one of our `StoreError`s, saying what was being done.
        """
        with translated(doing), self.engine.connect() as pooled:
            connection = pooled.connection.driver_connection
            try:
                yield connection  # type: ignore[misc]
                connection.commit()  # type: ignore[union-attr]
            except BaseException:
                with suppress(psycopg.Error):  # a lost connection has nothing to roll back: the server did
                    connection.rollback()  # type: ignore[union-attr]
                if connection is None or connection.closed or connection.broken:
                    pooled.invalidate()
                raise

    def test_connection(self) -> dict[str, Any]:
        """Whether it answers, and what it has: `connected`, `postgresql_version`, `pgvector_installed`, …"""
        with self.transaction("answer") as connection:
            version = connection.execute("SELECT current_setting('server_version')").fetchone()
            available = connection.execute(
                "SELECT installed_version FROM pg_available_extensions WHERE name = 'vector'"
            ).fetchone()
        return {
            "connected": True,
            "postgresql_version": version[0] if version else "unknown",
            "pgvector_available": available is not None,
            "pgvector_installed": available is not None and available[0] is not None,
            "database_url": self.shown,
        }

    def close(self) -> None:
        self.engine.dispose()


def _refuse_the_dead(connection: Any, _record: Any, _proxy: Any) -> None:
    """A connection that the server closed while it lay in the pool is replaced; asking the server would cost a trip."""
    descriptor = connection.fileno() if not connection.closed else None
    if descriptor is None or select.select([descriptor], [], [], 0)[0]:
        raise sa.exc.DisconnectionError


def _checked(url: str) -> str:
    try:
        sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise BadInput(
            "the address of the pgvector database cannot be read", next_step="postgresql://user:password@host:5432/name"
        ) from error
    return url
