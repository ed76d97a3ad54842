"""An emulator that holds the seeds' index names, empty, and the environment of an application beside it."""

from collections.abc import Callable

import httpx
import pytest

from vecfleet.settings import Settings
from vecfleet.tenancy import PineconeDelphiClient

SEEDS_DIMENSION = 3_072
SMALL = 8
HEADERS = {"Api-Key": "any", "X-Pinecone-Api-Version": "2026-07"}

MakeIndex = Callable[..., str]


@pytest.fixture
def make_index(emulator: str) -> MakeIndex:
    """`make_index(name, dimension, metric, dense_field)`: an empty index on the emulator. Gives its name."""

    def make(name: str = "small", dimension: int = SMALL, metric: str = "cosine", dense_field: str = "_values") -> str:
        dense = {"type": "dense_vector", "dimension": dimension, "metric": metric}
        body = {
            "name": name,
            "schema": {"fields": {dense_field: dense}},
            "deployment": {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"},
        }
        httpx.post(f"{emulator}/indexes", json=body, headers=HEADERS).raise_for_status()
        return name

    return make


@pytest.fixture
def environment(emulator: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Return what an application has in its environment: a key, and here the emulator's address."""
    for spellings in Settings.variables().values():
        for name in spellings:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PINECONE_API_KEY", "any")
    monkeypatch.setenv("PINECONE_CONTROLLER_HOST", emulator)
    monkeypatch.chdir(tmp_path_factory.mktemp("application"))
    return Settings.load()


@pytest.fixture
def dense_field() -> str:
    """The field of vectors in `small`. A module whose tests hold for documents too gives another."""
    return "_values"


@pytest.fixture
def small(make_index: MakeIndex, environment: Settings, dense_field: str) -> PineconeDelphiClient:
    """A client of a small empty index, of vectors or of documents."""
    return PineconeDelphiClient(make_index(dense_field=dense_field))
