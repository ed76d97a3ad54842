"""An emulator of its own for each module, in this process, spoken to over sockets by the official SDK."""

import functools
from collections.abc import Callable, Iterator

import httpx
import pytest
from pinecone import Pinecone, ServerlessSpec

from emulator.server import Running, start

HTTP = httpx.Client(timeout=60)  # one for all: making one costs more than a request


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    emulator = start(port=0)
    yield emulator
    emulator.stop()


@pytest.fixture
def control(running: Running) -> str:
    """The control plane's address of an emulator that holds nothing."""
    HTTP.post(f"{running.control}/_emulator/reset").raise_for_status()
    return running.control


@pytest.fixture
def pc(control: str) -> Pinecone:
    return Pinecone(api_key="test", host=control)


@pytest.fixture
def make_index(pc: Pinecone) -> Callable[..., object]:
    """Creates an index through the SDK and returns the SDK's client of it."""

    def make(name: str = "things", dimension: int = 3, metric: str = "cosine") -> object:
        pc.create_index(
            name=name, dimension=dimension, metric=metric, spec=ServerlessSpec(cloud="aws", region="us-east-1")
        )
        return pc.index(name)

    return make


@pytest.fixture
def calls(control: str) -> Callable[..., list[dict[str, object]]]:
    return functools.partial(_calls, control)


def _calls(control: str, **where: object) -> list[dict[str, object]]:
    answer = HTTP.get(f"{control}/_emulator/calls", params={k: str(v) for k, v in where.items()})
    return list(answer.raise_for_status().json()["calls"])


@pytest.fixture
def fault(control: str) -> Callable[..., None]:
    """Adds one fault rule."""

    def add(**rule: object) -> None:
        HTTP.post(f"{control}/_emulator/faults", json=rule).raise_for_status()

    return add
