"""The way to a database: an engine with a pool, transactions on the driver's own connections, our own errors."""

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
# How long to wait for somebody else's lock; no writer waits for longer behind us.
LOCK_TIMEOUT_MS = 5_000
DEFAULT_PORT = 5432


class DatabaseConnection:
    """One database and a pool of connections to it. Safe between threads; make it after a fork, never before.

    `statement_timeout_ms` 0: no limit, because building an index may take an hour.
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
        # Timestamps are read as text: one spelling, whatever the server's settings. The isolation level is fixed too:
        # after waiting for a lock, a transaction sees what was committed meanwhile.
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
        """Host, port and database: the name of this database if nothing better is known."""
        return f"{self._url.host or 'localhost'}:{self._url.port or DEFAULT_PORT}/{self._url.database or ''}"

    @contextmanager
    def transaction(self, doing: str) -> Iterator[Connection]:
        """Open one transaction on the driver's connection: committed at the end, rolled back on any error.

        Raises an error of Postgres as one of our `StoreError`s, saying what was being done.
        """
        with translated(doing), self.engine.connect() as pooled:
            connection = pooled.connection.driver_connection
            try:
                yield connection  # type: ignore[misc]
                connection.commit()  # type: ignore[union-attr]
            except BaseException:
                with suppress(psycopg.Error):  # on a lost connection the server rolled back
                    connection.rollback()  # type: ignore[union-attr]
                if connection is None or connection.closed or connection.broken:
                    pooled.invalidate()
                raise

    def test_connection(self) -> dict[str, Any]:
        """Describe the database, or raise: `connected`, `postgresql_version`, `pgvector_installed`, …"""
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
    """Replace a connection that the server closed while it lay in the pool, without the trip of asking the server."""
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
