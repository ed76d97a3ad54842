"""An upsert that is written by hand reads back, with protobuf's own library, as what was to be written."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecfleet import structs
from vecfleet.errors import BadRequest
from vecfleet.records import Metadata, Record, Sparse
from vecfleet.stores.pinecone import bytes_lane, upserts
from vecfleet.stores.pinecone import bytes_lane_pb2 as pb

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=200)
VALUES = st.one_of(TEXTS, st.booleans(), st.floats(), st.integers(-(2**53), 2**53), st.lists(TEXTS, max_size=5))
RECORDS = st.builds(
    lambda id, floats, entries, metadata: Record(
        id,
        struct.pack(f"<{len(floats)}f", *floats),
        Sparse(struct.pack(f"<{len(entries)}I", *entries), struct.pack(f"<{len(entries)}f", *entries.values())),
        metadata,
    ),
    TEXTS,
    st.lists(st.floats(width=32), max_size=60),
    st.dictionaries(st.integers(0, 2**32 - 1), st.floats(width=32), max_size=40),
    st.dictionaries(TEXTS, VALUES, max_size=6),
)


def as_the_library_writes_it(namespace: str, records: list[Record]) -> bytes:
    request = pb.UpsertRequest(namespace=namespace)
    for record in records:
        vector = request.vectors.add()
        vector.id, vector.values = record.id, record.values
        if record.metadata:
            vector.metadata.update({key: value for key, value in record.metadata.items() if value is not None})
        if record.sparse is not None and len(record.sparse):
            vector.sparse_values.values = record.sparse.values
            count = len(record.sparse)
            vector.sparse_values.indices.extend(struct.unpack(f"<{count}I", record.sparse.indices))
    return request.SerializeToString(deterministic=True)


@given(TEXTS, st.lists(RECORDS, max_size=4))
def test_any_records_are_written_as_the_library_would(namespace: str, records: list[Record]) -> None:
    read = pb.UpsertRequest.FromString(upserts.request(namespace, records))
    assert read.SerializeToString(deterministic=True) == as_the_library_writes_it(namespace, records)


@given(RECORDS)
def test_no_record_takes_more_of_a_request_than_was_told(record: Record) -> None:
    """Or a request that was filled by what was told would be over the service's limit."""
    written = upserts.request("", [record])
    assert len(written) <= bytes_lane.request_bytes(record)
    as_read = record.with_metadata(structs.read(structs.written(record.metadata)))
    assert len(written) <= bytes_lane.request_bytes(as_read)


def test_large_indices_of_sparse_values_are_told_too() -> None:
    indices = struct.pack("<1000I", *range(2**32 - 1_000, 2**32))
    record = Record("r", b"", Sparse(indices, bytes(4_000)))
    assert len(upserts.request("", [record])) <= bytes_lane.request_bytes(record)


def test_a_record_of_20000_dimensions_and_long_texts_is_written_whole() -> None:
    record = Record("r", bytes(80_000), metadata={"text": "x" * 39_000, "": "", "tags": []})
    [vector] = pb.UpsertRequest.FromString(upserts.request("ns", [record])).vectors
    assert (len(vector.values), len(vector.metadata["text"]), len(vector.metadata["tags"])) == (80_000, 39_000, 0)


def test_nulls_alone_leave_no_metadata() -> None:
    [vector] = pb.UpsertRequest.FromString(upserts.request("", [Record("r", b"", None, {"a": None})])).vectors  # type: ignore[dict-item]
    assert not vector.HasField("metadata")


@pytest.mark.parametrize(
    "metadata", [{"a": {"b": 1}}, {"a": [1.0]}, {"a": "\ud83e"}, {"\ud83e": "a"}, {"a": ["\ud83e"]}]
)
def test_what_no_service_takes_is_refused(metadata: Metadata) -> None:
    with pytest.raises(BadRequest):
        upserts.request("ns", [Record("r", b"", None, metadata)])
