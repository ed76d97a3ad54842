from collections.abc import Iterator
from pathlib import Path

import pytest
from job_table import JobTable
from terminal import Brain, Vecfleet, sit_down

from orchestrator.ledger.database import Database
from vecfleet.settings import Settings
from vecfleet.stores.pinecone import PineconeStore


@pytest.fixture
def environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database_url: str, redis_url: str, emulator: str
) -> dict[str, str]:
    """A migrated job table, an empty Redis, an empty emulator, an empty folder; nobody at the terminal."""
    values = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "PINECONE_API_KEY": "any",
        "PINECONE_CONTROLLER_HOST": emulator,
        "PINECONE_INDEX_NAME": "none",
        "VECFLEET_ROOT": str(tmp_path),
        "VECFLEET_HOME": str(tmp_path / "home"),
    }
    sit_down(monkeypatch, tmp_path, values)
    return values


@pytest.fixture
def vecfleet(capsys: pytest.CaptureFixture[str], environment: dict[str, str]) -> Vecfleet:
    return Vecfleet(capsys)


@pytest.fixture
def brain(environment: dict[str, str], emulator: str) -> Brain:
    """Two namespaces of two records each, without a common id."""
    brain = Brain(emulator, PineconeStore(Settings.load()))
    brain.create()
    brain.write("first", "a-1", "a-2", title="one")
    brain.write("second", "b-1", "b-2", title="two")
    return brain


@pytest.fixture
def database(environment: dict[str, str]) -> Iterator[Database]:
    database = Database(environment["DATABASE_URL"], pool_size=2)
    yield database
    database.dispose()


@pytest.fixture
def table(database: Database) -> JobTable:
    """A job table without a job, to bring a job into any state by hand."""
    return JobTable(database)
