"""Switches for facts on which the sources about the service disagree."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pinecone import Pinecone
from pinecone.errors.exceptions import ApiError

from emulator.contested import VALUES, Contested
from emulator.errors import Refusal
from emulator.server import Running, start

SPARSE = {"indices": [1], "values": [1.0]}


@pytest.fixture
def client() -> Iterator[Callable[..., Pinecone]]:
    """Starts emulators with switches."""
    running: list[Running] = []

    def open_client(**switches: str) -> Pinecone:
        running.append(start(port=0, contested=Contested(**switches)))
        return Pinecone(api_key="test", host=running[-1].control)

    yield open_client
    for emulator in running:
        emulator.stop()


def documents(pc: Pinecone, **fields: object) -> Any:
    dense = {"type": "dense_vector", "dimension": 2, "metric": "cosine"}
    pc.indexes.create(name="docs", schema={"fields": {"v": dense, **fields}})
    return pc.index("docs").documents


def test_switches_are_typed_as_name_and_value() -> None:
    assert Contested.parse(["long-names=accept"]) == Contested(long_names="accept")
    for wrong in ("long-names", "long-names=perhaps", "of-nobody=accept"):
        with pytest.raises(Refusal, match="long-names=refuse"):
            Contested.parse([wrong])


def test_the_first_value_of_each_switch_is_in_force() -> None:
    assert Contested() == Contested(**{name: values[0] for name, values in VALUES.items()})


def test_sparse_values_that_no_field_declares(client: Callable[..., Pinecone]) -> None:
    vectors = [{"id": "a", "values": [1.0, 2.0], "sparse_values": SPARSE}]
    for switch in ("refuse", "accept"):
        pc = client(undeclared_sparse=switch)
        pc.create_index(name="dense", dimension=2, metric="dotproduct")
        pc.create_index(name="angles", dimension=2, metric="cosine")
        if switch == "refuse":
            with pytest.raises(ApiError, match="does not support sparse values"):
                pc.index("dense").upsert(vectors=vectors)
        else:
            assert pc.index("dense").upsert(vectors=vectors).upserted_count == 1
        with pytest.raises(ApiError, match="does not support sparse values"):
            pc.index("angles").upsert(vectors=vectors)


def test_the_fields_of_a_dense_index(client: Callable[..., Pinecone]) -> None:
    for switch, names in (("declared", {"_values"}), ("both", {"_values", "_sparse_values"})):
        pc = client(vector_fields=switch)
        pc.create_index(name="dense", dimension=2)
        assert set(pc.indexes.describe("dense").schema.fields) == names


def test_long_names_and_nulls_in_documents(client: Callable[..., Pinecone]) -> None:
    long, null = {"_id": "a", "v": [1.0, 2.0], "k" * 65: "x"}, {"_id": "b", "v": [1.0, 2.0], "k": None}
    lenient = documents(client(long_names="accept", null_fields="drop"))
    assert lenient.upsert(namespace="n", documents=[long, null]).upserted_count == 2
    strict = documents(client(long_names="refuse", null_fields="refuse"))
    for refused in (long, null):
        with pytest.raises(ApiError):
            strict.upsert(namespace="n", documents=[refused])


def test_a_fetch_by_filter_of_documents_with_a_dense_vector_alone(client: Callable[..., Pinecone]) -> None:
    for switch, ids in (("finds", {"a"}), ("finds-nothing", set())):
        alone = documents(client(filtered_fetch=switch))
        alone.upsert(namespace="n", documents=[{"_id": "a", "v": [1.0, 2.0], "k": 1}])
        assert set(alone.fetch(namespace="n", filter={"k": 1}).documents) == ids
    more = documents(client(filtered_fetch="finds-nothing"), t={"type": "string", "full_text_search": {}})
    more.upsert(namespace="n", documents=[{"_id": "a", "v": [1.0, 2.0], "k": 1}])
    assert set(more.fetch(namespace="n", filter={"k": 1}).documents) == {"a"}
