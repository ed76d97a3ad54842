"""The schema of the job table: upgrade it, and check that it is the one this code needs.

Every process does the check; Alembic is loaded only for the rest.
"""

from pathlib import Path

import sqlalchemy as sa
from psycopg.errors import InsufficientPrivilege
from sqlalchemy.exc import OperationalError, ProgrammingError

from orchestrator.ledger import roles
from orchestrator.ledger.database import unreachable
from orchestrator.ledger.tables import metadata
from vecfleet.errors import BadInput, Refused, Unreachable
from vecfleet.settings import JOIN, Settings

_REVISIONS = Path(__file__).resolve().parent.parent / "migrations" / "schema"
# An arbitrary number, the same everywhere: two `vecfleet migrate` at once take turns.
_UPGRADE_LOCK = 7_305_000
OUTDATED = "schema-outdated"
"""Code of the error that says that the job table has another revision than this code needs."""
_PRESENT = sa.table("alembic_version", sa.column("version_num")).c.version_num


def upgrade(url: str, fleet_url: str | None = None) -> bool:
    """Bring the job table to the newest revision. Safe to repeat and to race; one transaction.

    Return whether it had an older one: processes that run are of the older version then, and look no more.

    `fleet_url`: the address of workers, the dispatcher and the page if its role owns nothing; the role gets the rights
    that they need. Raises Refused if the role of `url` may not do this.
    """
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_REVISIONS))
    config.attributes["metadata"] = metadata
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    try:
        with engine.begin() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_UPGRADE_LOCK)))
            config.attributes["connection"] = connection
            before = _revision(connection)
            command.upgrade(config, "head")
            if fleet_url is not None:
                roles.allow(connection, fleet_url)
            return before is not None and before != newest()
    except ProgrammingError as error:
        if isinstance(error.orig, InsufficientPrivilege):
            raise _may_not(url, error.orig) from error
        raise
    except OperationalError as error:
        raise unreachable(error) from error
    finally:
        engine.dispose()


def upgrade_by(settings: Settings) -> bool:
    """Bring the job table of the settings to the newest revision, as its owner if the settings name one.

    Return whether it had an older one.
    """
    if settings.database_url is None:
        raise BadInput("DATABASE_URL is not set", next_step=JOIN)
    url = settings.database_url.get_secret_value()
    if settings.owner_database_url is None:
        return upgrade(url)
    return upgrade(settings.owner_database_url.get_secret_value(), url)


def newest() -> str:
    """Return the last revision: file names begin with their numbers, and each revision follows the one before."""
    return max(file.name.partition("_")[0] for file in (_REVISIONS / "versions").glob("[0-9]*.py"))


def require_current(connection: sa.Connection) -> None:
    """Raise Unreachable unless the job table has exactly the revision this code was written for.

    A process asks when it opens the job table, and not again: `migrate` says that those that run are to be restarted.
    """
    present = _revision(connection)
    if present != newest():
        raise Unreachable(
            f"the job table's schema is at revision {present or 'none'}; this version needs {newest()}",
            code=OUTDATED,
            next_step="run `vecfleet migrate`",
        )


def _revision(connection: sa.Connection) -> str | None:
    there = connection.execute(sa.select(sa.func.to_regclass("alembic_version"))).scalar_one()
    return connection.execute(sa.select(_PRESENT)).scalar_one_or_none() if there is not None else None


def differences(connection: sa.Connection) -> list[object]:
    """Return the differences between the revisions and `tables`; empty if both end in the same schema."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    return list(compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata))


def _may_not(url: str, error: InsufficientPrivilege) -> Refused:
    first_line = str(error).strip().splitlines()[0]
    return Refused(
        f"the role {sa.make_url(url).username} may not change the job table's schema: {first_line}",
        code="schema-not-owned",
        next_step="set OWNER_DATABASE_URL to its owner's address; of an embedded stack: `vecfleet down`, `vecfleet up`",
    )
