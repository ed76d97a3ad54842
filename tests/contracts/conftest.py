"""Every store behind one fixture, so that one suite holds for all of them."""

from collections.abc import Iterator
from dataclasses import replace
from uuid import uuid4

import pytest

from tests.contracts.making import Like, NewIndex, documents_like, like, pinecone_store
from tests.vectors import vector_database
from vecfleet.stores.base import Index, Kind, Store
from vecfleet.stores.memory import MemoryStore
from vecfleet.stores.parquet import ParquetStore
from vecfleet.stores.pgvector import PgvectorStore

DOCUMENTS, LINES = "documents", "json lines"
VECTOR_SERVICES = ("memory", "pinecone", "pinecone over REST")
SERVICES = (*VECTOR_SERVICES, DOCUMENTS)


@pytest.fixture(params=[*SERVICES, "parquet", LINES, "pgvector"])
def store(request: pytest.FixtureRequest) -> Store:
    return _store(request)


@pytest.fixture
def index_like(store: Store, request: pytest.FixtureRequest) -> Like:
    return _like(request.node.callspec.params["store"])


@pytest.fixture
def new_index(store: Store, index_like: Like) -> NewIndex:
    return _new_index(store, index_like)


@pytest.fixture(params=SERVICES)
def new_service_index(request: pytest.FixtureRequest) -> NewIndex:
    """Of a store that answers queries and sends a bill; a folder does neither."""
    return _new_index(_store(request), _like(request.param))


@pytest.fixture(params=VECTOR_SERVICES)
def new_hybrid_index(request: pytest.FixtureRequest) -> NewIndex:
    """Of a store whose queries score by both kinds of values at once; a document index scores by one."""
    return _new_index(_store(request), like)


def _store(request: pytest.FixtureRequest) -> Store:
    if request.param == "memory":
        return MemoryStore()
    if request.param in ("parquet", LINES):
        return ParquetStore(request.getfixturevalue("tmp_path"))
    if request.param == "pgvector":
        return request.getfixturevalue("pgvector_store")
    transport = "rest" if request.param == "pinecone over REST" else "grpc"
    return pinecone_store(request.getfixturevalue("emulator"), pinecone_transport=transport)


@pytest.fixture
def pgvector_store(empty_database_url: str) -> Iterator[PgvectorStore]:
    with vector_database(empty_database_url) as database:
        yield PgvectorStore(database)


def _like(store: str) -> Like:
    return documents_like if store in (DOCUMENTS, LINES) else like


def _new_index(store: Store, index_like: Like) -> NewIndex:
    def new(kind: Kind = Kind.DENSE) -> Index:
        wanted = index_like(kind)
        made = store.create_like(f"index-{uuid4().hex[:8]}", wanted, None, None)
        return store.open(replace(made, names=wanted.names))

    return new
