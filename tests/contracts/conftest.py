"""Every store behind one fixture, so that one suite holds for all of them."""

from uuid import uuid4

import pytest

from tests.contracts.making import NewIndex, like, pinecone_store
from vecfleet.stores.base import Index, Kind, Store
from vecfleet.stores.memory import MemoryStore


@pytest.fixture(params=["memory", "pinecone"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "memory":
        return MemoryStore()
    return pinecone_store(request.getfixturevalue("emulator"))


@pytest.fixture
def new_index(store: Store) -> NewIndex:
    def new(kind: Kind = Kind.DENSE) -> Index:
        return store.open(store.create_like(f"index-{uuid4().hex[:8]}", like(kind), None, None))

    return new
