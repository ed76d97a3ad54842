"""The schema of the job table: upgrade it, and say whether it is the one this code needs."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import OperationalError

from orchestrator.ledger.database import unreachable
from orchestrator.tables import metadata
from vecfleet.errors import Unreachable

_REVISIONS = Path(__file__).resolve().parent.parent / "migrations" / "schema"
# Any number, the same everywhere: two `vecfleet migrate` at once take turns.
_UPGRADE_LOCK = 7_305_000


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_REVISIONS))
    config.attributes["metadata"] = metadata
    return config


def upgrade(url: str) -> None:
    """Bring the job table to the newest revision. Safe to repeat and to race; one transaction."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    try:
        with engine.begin() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_UPGRADE_LOCK)))
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except OperationalError as error:
        raise unreachable(error) from error
    finally:
        engine.dispose()


def require_current(connection: sa.Connection) -> None:
    """Raise Unreachable unless the job table has exactly the revision this code was written for."""
    newest = ScriptDirectory.from_config(_config()).get_current_head()
    present = MigrationContext.configure(connection).get_current_revision()
    if present != newest:
        raise Unreachable(
            f"the job table's schema is at revision {present or 'none'}; this version needs {newest}",
            next_step="run `vecfleet migrate`",
        )


def differences(connection: sa.Connection) -> list[object]:
    """What the revisions and `tables` disagree about; empty when they end in the same schema."""
    return list(compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata))
