"""Connect to an application's Postgres database; read its twins and sources, in one snapshot."""

from typing import Any

import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from migrations.answers import SourceRow, TwinRow
from vecfleet.errors import BadInput, Unreachable
from vecfleet.settings import Settings

CONNECT_SECONDS = 10


def read(settings: Settings) -> tuple[list[TwinRow], list[SourceRow]]:
    """Read every twin and source. Raises BadInput (settings, table names) or Unreachable."""
    url = settings.ownership_database_url
    if url is None:
        raise BadInput(
            "the look-up in Postgres needs OWNERSHIP_DATABASE_URL", next_step="set it, or name an ownership file"
        )
    engine = engine_of(url, "OWNERSHIP_DATABASE_URL", isolation_level="REPEATABLE READ")
    at = settings
    twin = (at.ownership_twin_id_column, at.ownership_twin_creator_column, at.ownership_twin_name_column)
    source = (at.ownership_source_id_column, at.ownership_source_twin_column)
    try:
        with engine.connect() as connection:
            twins = _rows(connection, at.ownership_twins_table, twin)
            sources = _rows(connection, at.ownership_sources_table, source) if at.ownership_sources_table else []
    except OperationalError as error:
        raise Unreachable(
            f"the ownership database does not answer: {_first_line(error)}", next_step="check OWNERSHIP_DATABASE_URL"
        ) from error
    except DBAPIError as error:
        raise BadInput(
            f"the ownership database refuses the look-up: {_first_line(error)}",
            next_step="name the tables and columns that hold twins and sources",
        ) from error
    finally:
        engine.dispose()
    return [TwinRow(*row) for row in twins], [SourceRow(*row) for row in sources]


def engine_of(url: SecretStr, setting: str, **options: Any) -> sa.Engine:
    """Return an engine of the application's database that a setting names. Raises BadInput if that is no address."""
    try:
        address = sa.make_url(url.get_secret_value()).set(drivername="postgresql+psycopg")
        return sa.create_engine(address, connect_args={"connect_timeout": CONNECT_SECONDS}, **options)
    except SQLAlchemyError as error:
        raise BadInput(
            f"{setting} is not a database address",
            next_step="write it so: postgresql://user:password@host:5432/name",
        ) from error


def _rows(connection: sa.Connection, table: str, columns: tuple[str, ...]) -> list[tuple[str, ...]]:
    schema, _, name = table.rpartition(".")
    source = sa.table(name, *(sa.column(column) for column in columns), schema=schema or None)
    answers = connection.execute(sa.select(*source.c))
    return [tuple("" if value is None else str(value) for value in row) for row in answers]


def _first_line(error: DBAPIError) -> str:
    return (str(error.orig).splitlines() or ["no reason given"])[0]
