"""The bytes lane leaves what it cannot hold to the SDK, which says what it is."""

import pytest

from vecfleet.stores.base import IndexInfo, Kind
from vecfleet.stores.pinecone import answers
from vecfleet.stores.pinecone import bytes_lane_pb2 as pb

INFO = IndexInfo("i", Kind.DENSE, 2, "cosine", host="i.local")


@pytest.mark.parametrize(
    ("value", "read"),
    [(["a", ""], True), ([], True), (1.0, True), (None, True), ([1.0], False), (["a", None], False), ({}, False)],
)
def test_metadata_that_would_read_as_something_else_is_not_read(value: object, read: bool) -> None:
    answer = pb.FetchResponse()
    vector = answer.vectors["r"]
    vector.id, vector.values = "r", bytes(8)
    vector.metadata.update({"key": value})
    found = answers.fetched(answer.SerializeToString(), INFO)
    assert (list(found.records), found.unreadable) == ((["r"], []) if read else ([], ["r"]))
