"""Costs that each test of a process need not pay: certificates read, statements compiled, tracebacks drawn."""

from functools import cache
from typing import Any

import httpx
import sqlalchemy as sa
import structlog

Key = tuple[Any, ...]


class Compiled(dict[Key, Any]):
    """Statements as SQLAlchemy compiled them, for all engines together.

    SQLAlchemy keeps them apart by the engine's dialect, of which each engine has its own. Those of one class are alike
    here: all engines speak to the same release of Postgres.
    """

    def get(self, key: Key, default: Any = None) -> Any:
        return super().get(_of_any_engine(key), default)

    def __setitem__(self, key: Key, compiled: Any) -> None:
        super().__setitem__(_of_any_engine(key), compiled)


_compiled = Compiled()


def share() -> None:
    """Save them for the rest of this process. Called again it changes nothing."""
    if not sa.event.contains(sa.Engine, "engine_connect", _share_compiled):
        sa.event.listen(sa.Engine, "engine_connect", _share_compiled)
        httpx._transports.default.create_ssl_context = cache(httpx.create_ssl_context)
        httpx.Client().close()
        # Until logs are set up, structlog draws each traceback with all local variables, which takes half a second.
        structlog.dev.ConsoleRenderer.get_active().exception_formatter = structlog.dev.plain_traceback


def _share_compiled(connection: sa.Connection) -> None:
    connection.execution_options(compiled_cache=_compiled)


def _of_any_engine(key: Key) -> Key:
    dialect, *statement = key
    return type(dialect), *statement
