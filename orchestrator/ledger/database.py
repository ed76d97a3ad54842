"""The only way to the job table: an engine per process, short transactions, and errors that say what to do."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import DBAPIError, OperationalError

from orchestrator.ledger.tables import COLUMNS
from vecfleet.errors import Busy, Unreachable

NOW = sa.func.clock_timestamp()
"""The time by the database's clock, which moves within a transaction."""

# A transaction is a few statements without a call to a store; a longer one means a bug or a stuck client.
_STATEMENT_TIMEOUT_MS = 60_000
_LOCK_TIMEOUT_MS = 15_000
_IDLE_IN_TRANSACTION_TIMEOUT_MS = 30_000
_CONNECT_TIMEOUT_S = 5

_READ_ONLY = "25006"  # the SQLSTATE of a standby that was asked instead of its primary
# By SQLSTATE: why Postgres rolled back our transaction in favour of another process. A retry may succeed.
_BUSY = {
    "40P01": "this and another process each waited for rows that the other held",
    "40001": "another process changed what this one had read",
    "55P03": f"another process held rows that this one needed for over {_LOCK_TIMEOUT_MS // 1_000} s",
    "57014": f"a statement took over {_STATEMENT_TIMEOUT_MS // 1_000} s, or was cancelled",
}


class Database:
    """An engine whose connections time out rather than hang. Build it after a fork, never before.

    `keeps_plans` suits workers, which look up single rows by key again and again: Postgres plans each statement once.
    A process that joins all rows of a job needs each statement planned anew: a plan made for empty tables would read
    one whole table for each row of another.
    """

    def __init__(self, url: str, pool_size: int = 10, *, keeps_plans: bool = False) -> None:
        options = (
            f"-c statement_timeout={_STATEMENT_TIMEOUT_MS} -c lock_timeout={_LOCK_TIMEOUT_MS} "
            f"-c idle_in_transaction_session_timeout={_IDLE_IN_TRANSACTION_TIMEOUT_MS} "
            f"-c plan_cache_mode={'auto' if keeps_plans else 'force_custom_plan'}"
        )
        self.engine = sa.create_engine(
            url,
            pool_size=pool_size,
            max_overflow=pool_size,
            hide_parameters=True,  # parameters hold ids and plans, which must not reach a log
            connect_args={"connect_timeout": _CONNECT_TIMEOUT_S, "options": f"{_options_of(url)} {options}".strip()},
            # `_begin` below begins transactions, not the driver. The pool serves `once` too, and switching the driver
            # back and forth would cost as much as a small statement.
            isolation_level="AUTOCOMMIT",
        )
        sa.event.listen(self.engine, "begin", _begin)

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """Open one transaction: commit it at the end, roll it back on any error.

        Raises Unreachable if the server does not answer, so that callers can tell an outage from a mistake. Raises Busy
        if the server rolled the transaction back in favour of another process.
        """
        with _known_errors(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def once(self) -> Iterator[sa.Connection]:
        """Open a connection where each statement is its own transaction: one trip to the server; `begin` takes three.

        Use it for steps of one statement. Raises Unreachable as `begin` does.
        """
        with _known_errors(), self.engine.connect() as connection:
            yield connection.execution_options(each_its_own=True)

    def dispose(self) -> None:
        self.engine.dispose()


def _begin(connection: sa.Connection) -> None:
    """Begin a transaction for every user of the engine that did not ask for autocommit. The driver ends it."""
    options = connection.get_execution_options()
    if not options.get("each_its_own") and options.get("isolation_level") != "AUTOCOMMIT":
        connection.exec_driver_sql("BEGIN")


def _options_of(url: str) -> str:
    """Return the options in the address, such as a schema or a provider's own. Ours are added to them."""
    told = sa.make_url(url).query.get("options", "")
    return told if isinstance(told, str) else " ".join(told)


@contextmanager
def _known_errors() -> Iterator[None]:
    try:
        yield
    except sa.exc.TimeoutError as error:
        raise Busy(
            "the job table is busy: every connection of this process is in use",
            next_step="try again; if that does not help, let fewer threads work in one process",
        ) from error
    except OperationalError as error:
        raise unreachable(error) from error
    except DBAPIError as error:
        if error.connection_invalidated or getattr(error.orig, "sqlstate", None) == _READ_ONLY:
            raise unreachable(error) from error
        raise


def unreachable(error: DBAPIError) -> Unreachable:
    """Return the meaning of an operational error: no answer, other processes in the way, or another refusal."""
    first_line = str(error.orig).strip().splitlines()[0] if error.orig else "no answer"
    state = getattr(error.orig, "sqlstate", None)
    if state in _BUSY:
        return Busy(
            f"the job table is busy: {_BUSY[state]}, so nothing was changed",
            next_step="try again; if that does not help, pg_stat_activity shows which process holds which rows",
        )
    if state is not None and not error.connection_invalidated:
        return Unreachable(f"the job table refuses: {first_line}", next_step="read the log of Postgres, then try again")
    return Unreachable(
        f"the job table does not answer: {first_line}",
        next_step="check DATABASE_URL and that Postgres runs: `vecfleet doctor`",
    )


def one_statement(connection: sa.Connection, statement: sa.Executable, values: Mapping[str, Any]) -> sa.Result[Any]:
    """Execute a statement that changes several tables.

    A parameter with the name of a column would be set by each part that changes the column's table: refused.
    """
    columns = values.keys() & COLUMNS
    assert not columns, f"parameters that bear the names of columns would be written to them: {sorted(columns)}"
    return connection.execute(statement, values)


def one(row: sa.Row[Any] | None) -> dict[str, Any] | None:
    return None if row is None else dict(row._mapping)


def among(column: Any, ids: Iterable[int] | Iterable[str]) -> sa.ColumnElement[bool]:
    """Return the condition that the column is one of `ids`, in one parameter: IN takes one each, at most 65,535."""
    condition: sa.ColumnElement[bool] = column == sa.any_(sa.cast(list(ids), ARRAY(column.type)))
    return condition


def among_pairs(first: Any, second: Any, pairs: Iterable[Sequence[int]]) -> sa.ColumnElement[bool]:
    """Return the condition that the two columns are one of `pairs`, in two parameters."""
    listed = list(pairs)
    arrays = [sa.cast([pair[at] for pair in listed], ARRAY(column.type)) for at, column in enumerate((first, second))]
    rows = sa.func.unnest(*arrays).table_valued("first", "second").render_derived()
    return sa.tuple_(first, second).in_(sa.select(rows.c.first, rows.c.second))
