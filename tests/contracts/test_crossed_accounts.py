"""A key of another project is refused by what the hosts of its indexes say, before anything is asked of them."""

from collections.abc import Callable

import pytest

from tests.contracts.answering import Answer, Answering
from tests.contracts.making import pinecone_store
from vecfleet.errors import KeyRefused
from vecfleet.stores.pinecone import PineconeStore

INDEX = {
    "name": "brain",
    "status": {"ready": True, "state": "Ready"},
    "schema": {"fields": {"_values": {"type": "dense_vector", "dimension": 2, "metric": "cosine"}}},
    "deployment": {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"},
    "deletion_protection": "disabled",
    "host": "brain-theirs1.svc.aped-4627-b74a.pinecone.io",
}


@pytest.mark.parametrize(
    "ask",
    [lambda store: store.indexes(), lambda store: store.describe("brain")],
    ids=["list", "describe"],
)
def test_an_index_of_another_project_is_refused(ask: Callable[[PineconeStore], object]) -> None:
    with Answering(lambda asked: Answer(200, {"indexes": [INDEX]} if asked.path == "/indexes" else INDEX)) as server:
        with pytest.raises(KeyRefused, match=r"pinecone is to be the project 'ours1', .* is of the project 'theirs1'"):
            ask(pinecone_store(server.address, pinecone_project="ours1"))
        # And its own project is not, nor any where none is named
        for own in ({"pinecone_project": "theirs1"}, {}):
            ask(pinecone_store(server.address, **own))


def test_the_index_of_a_job_is_not_opened_with_the_key_of_another_project() -> None:
    # Given a job whose index was pinned by its host
    with Answering(lambda _: Answer(200, INDEX)) as server:
        pinned = pinecone_store(server.address).describe("brain")
    # When the accounts were crossed meanwhile
    crossed = pinecone_store(server.address, pinecone_project="ours1")
    # Then no request carries the wrong key
    with pytest.raises(KeyRefused):
        crossed.open(pinned)
