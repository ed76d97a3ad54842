"""Every store behind one fixture, so that one suite holds for all of them."""

from uuid import uuid4

import pytest

from tests.contracts.making import NewIndex, like, pinecone_store
from vecfleet.stores.base import Index, Kind, Store
from vecfleet.stores.memory import MemoryStore
from vecfleet.stores.parquet import ParquetStore

SERVICES = ("memory", "pinecone", "pinecone over REST")


@pytest.fixture(params=[*SERVICES, "parquet"])
def store(request: pytest.FixtureRequest) -> Store:
    return _store(request)


@pytest.fixture
def new_index(store: Store) -> NewIndex:
    return _new_index(store)


@pytest.fixture(params=SERVICES)
def new_service_index(request: pytest.FixtureRequest) -> NewIndex:
    """Of a store that answers queries and sends a bill; a folder does neither."""
    return _new_index(_store(request))


def _store(request: pytest.FixtureRequest) -> Store:
    if request.param == "memory":
        return MemoryStore()
    if request.param == "parquet":
        return ParquetStore(request.getfixturevalue("tmp_path"))
    transport = "rest" if request.param == "pinecone over REST" else "grpc"
    return pinecone_store(request.getfixturevalue("emulator"), pinecone_transport=transport)


def _new_index(store: Store) -> NewIndex:
    def new(kind: Kind = Kind.DENSE) -> Index:
        return store.open(store.create_like(f"index-{uuid4().hex[:8]}", like(kind), None, None))

    return new
