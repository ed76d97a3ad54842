"""Metadata and answers that are read by hand say what protobuf's own library says, or are not read at all."""

import struct

import orjson
import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct as Message
from hypothesis import given
from hypothesis import strategies as st

from vecfleet import structs
from vecfleet.digests import record_digest, record_sha256
from vecfleet.records import FLOAT32_BYTES, Metadata, MetadataValue, Record, Sparse
from vecfleet.stores.base import IndexInfo, Kind
from vecfleet.stores.pinecone import answers
from vecfleet.stores.pinecone import bytes_lane_pb2 as pb
from vecfleet.structs import NotPlain, Struct

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=200)
KEYS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
METADATA = st.dictionaries(KEYS, st.one_of(TEXTS, st.booleans(), FINITE, st.lists(TEXTS, max_size=5)), max_size=6)
TWO_DIMENSIONS = IndexInfo("i", Kind.HYBRID, 2, "dotproduct", host="i.local")
RECORDS = st.builds(
    lambda id, values, sparse, metadata: Record(id, struct.pack("<2f", *values), sparse, metadata),
    KEYS,
    st.tuples(st.floats(width=32), st.floats(width=32)),
    st.none() | st.just(Sparse(struct.pack("<2I", 7, 4_200_000_000), struct.pack("<2f", 0.5, -1.0))),
    METADATA,
)


def as_the_library_writes_it(metadata: Metadata) -> bytes:
    message = Message()
    message.update(dict(metadata))
    return message.SerializeToString()


def an_answer(records: list[Record]) -> pb.FetchResponse:
    answer = pb.FetchResponse(namespace="ns", usage=pb.Usage(read_units=3))
    for record in records:
        vector = answer.vectors[record.id]
        vector.id, vector.values = record.id, record.values
        if record.metadata:
            vector.metadata.update(dict(record.metadata))
        if record.sparse is not None:
            vector.sparse_values.values = record.sparse.values
            vector.sparse_values.indices.extend(struct.unpack(f"<{len(record.sparse)}I", record.sparse.indices))
    return answer


@given(METADATA)
def test_metadata_read_from_a_struct_are_what_was_written(metadata: dict[str, MetadataValue]) -> None:
    read = structs.read(as_the_library_writes_it(metadata))
    assert read == metadata
    assert all(type(read[key]) is type(value) for key, value in metadata.items())


@given(METADATA)
def test_they_are_passed_on_as_they_were(metadata: dict[str, MetadataValue]) -> None:
    written = structs.written(structs.read(as_the_library_writes_it(metadata)))
    assert MessageToDict(Message.FromString(written)) == metadata


@given(METADATA, st.dictionaries(KEYS, st.one_of(TEXTS, st.booleans()), max_size=4))
def test_fields_are_added_as_to_a_dict(metadata: dict[str, MetadataValue], added: dict[str, str | bool]) -> None:
    read = structs.read(as_the_library_writes_it(metadata))
    assert isinstance(read, Struct)
    assert read.with_fields(added) == {**metadata, **added}
    assert read == metadata


@given(METADATA)
def test_their_digests_and_size_are_those_of_the_same_metadata_as_a_dict(metadata: dict[str, MetadataValue]) -> None:
    read = structs.read(as_the_library_writes_it(metadata))
    assert isinstance(read, Struct)
    one, other = Record("r", b"", None, read), Record("r", b"", None, metadata)
    assert (record_digest(one), record_sha256(one)) == (record_digest(other), record_sha256(other))
    assert read.json_bytes == (len(orjson.dumps(metadata)) if metadata else 0)


def test_who_changes_a_list_that_it_was_given_changes_nobody_elses() -> None:
    body = as_the_library_writes_it({"tags": ["a"]})
    tags = structs.read(body)["tags"]
    assert isinstance(tags, list)
    tags.append("b")
    assert structs.read(body) == {"tags": ["a"]}


def test_true_and_one_are_not_the_same() -> None:
    read = structs.read(as_the_library_writes_it({}))
    assert isinstance(read, Struct)
    assert [read.with_fields({"k": value})["k"] for value in (True, "true")] == [True, "true"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_no_service_sends_is_kept_for_those_who_refuse_it(value: float) -> None:
    read = structs.read(as_the_library_writes_it({"k": value, "l": "text"}))
    assert type(read) is dict
    assert read["l"] == "text"


def test_half_a_character_that_is_added_is_kept_for_those_who_refuse_it() -> None:
    read = structs.read(as_the_library_writes_it({"k": "a"}))
    assert isinstance(read, Struct)
    assert read.with_fields({"half": "\ud83e"}) == {"k": "a", "half": "\ud83e"}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\x0a\x05\x12\x03\x1a\x01a", id="a value without a key"),
        pytest.param(b"\x0a\x08\x12\x03\x1a\x01a\x0a\x01k", id="the value first"),
        pytest.param(b"\x0a\x03\x0a\x01k", id="a key without a value"),
        pytest.param(b"\x0a\x05\x0a\x01k\x12\x00", id="a value of no kind"),
        pytest.param(b"\x0a\x0a\x0a\x01k\x12\x05\x1a\x01a\x38\x01", id="a value with a field more"),
        pytest.param(b"\x0a\x0a\x0a\x01k\x12\x03\x1a\x01a\x38\x01", id="an entry with a field more"),
        pytest.param(b"\x0a\x0a\x0a\x01k\x12\x05\x2a\x03\x0a\x01x", id="metadata inside of metadata"),
        pytest.param(b"\x0a\x08\x0a\x01k\x12\x03\x1a\x01\xff", id="a text that is none"),
        pytest.param(b"\x0a\x08\x0a\x01k\x12\x03\x1a\x01", id="an entry that ends too soon"),
        pytest.param(b"\x0a\x0b\x0a\x01k\x12\x06\x32\x04\x0a\x7f\x1a\x00", id="a list that ends too soon"),
        pytest.param(b"\x0a" + b"\x80" * 10 + b"\x01", id="a length beyond all lengths"),
        pytest.param(b"\x12\x00", id="a field more"),
    ],
)
def test_what_is_spelt_otherwise_is_not_read(body: bytes) -> None:
    with pytest.raises(NotPlain):
        structs.read(body)


def test_of_a_key_that_comes_twice_the_last_counts() -> None:
    text, null = b"\x0a\x08\x0a\x01k\x12\x03\x1a\x01a", b"\x0a\x07\x0a\x01k\x12\x02\x08\x00"
    assert structs.read(null + text) == {"k": "a"}
    assert structs.read(text + null) == {}


def test_thousands_of_tags_are_read_as_they_were_written() -> None:
    metadata: dict[str, MetadataValue] = {"tags": [f"tag-{number}" for number in range(13_000)]}
    assert structs.read(as_the_library_writes_it(metadata)) == metadata


def test_long_texts_that_are_added_are_kept_by_nobody_else() -> None:
    read = structs.read(as_the_library_writes_it({}))
    assert isinstance(read, Struct)
    before = structs._shared_made.cache_info().currsize
    added = {"long": "x" * 1_000, "longer": "y" * 2_000}
    assert read.with_fields(added) == added
    assert structs._shared_made.cache_info().currsize == before


@given(st.lists(RECORDS, max_size=4, unique_by=lambda record: record.id))
def test_any_records_are_read_from_an_answer_as_they_were_written(records: list[Record]) -> None:
    found = answers.fetched(an_answer(records).SerializeToString(), TWO_DIMENSIONS)
    assert found.records == {record.id: record for record in records}
    assert (found.unreadable, found.read_units) == ([], 3.0)


def test_fields_of_an_answer_that_are_not_known_yet_are_passed_over() -> None:
    unknown = b"\x20\x07" + b"\x2a\x02hi" + b"\x31" + bytes(8) + b"\x3d" + bytes(4) + b"\x82\x01\x01x"
    record = Record("r", bytes(8))
    body = an_answer([record]).SerializeToString()
    assert answers.fetched(unknown + body + unknown, TWO_DIMENSIONS).records == {"r": record}


@pytest.mark.parametrize("unknown", [b"\x82\x01\x01x", b"\x29\x06" + bytes(6) + b"\x01", b"\x3d\x00\x00\x00\x01"])
def test_one_record_that_is_not_understood_costs_no_other(unknown: bytes) -> None:
    known = an_answer([Record("known", bytes(8))]).vectors["known"].SerializeToString()
    entries = [(b"known", known), (b"other", known + unknown)]
    fields = [b"\x0a\x05" + name + b"\x12" + bytes([len(vector)]) + vector for name, vector in entries]
    found = answers.fetched(b"".join(b"\x0a" + bytes([len(field)]) + field for field in fields), TWO_DIMENSIONS)
    assert (list(found.records), found.unreadable) == (["known"], ["other"])


def test_an_answer_that_ends_within_a_field_is_none() -> None:
    with pytest.raises(DecodeError):
        answers.fetched(b"\x31\x00\x00", TWO_DIMENSIONS)


@given(st.lists(RECORDS, min_size=1, max_size=2, unique_by=lambda record: record.id), st.data())
def test_a_spoilt_answer_is_read_as_the_library_reads_it_or_not_at_all(
    records: list[Record], data: st.DataObject
) -> None:
    body = bytearray(an_answer(records).SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    del body[data.draw(st.integers(1, len(body))) :]

    try:
        found = answers.fetched(bytes(body), TWO_DIMENSIONS)
        library = pb.FetchResponse.FromString(bytes(body))
    except DecodeError:
        return
    for record_id, record in found.records.items():
        vector = library.vectors[record_id]
        assert record.values == vector.values
        assert len(record.values) == 2 * FLOAT32_BYTES
        assert Message.FromString(structs.written(record.metadata)) == _without_nulls(vector.metadata)


def _without_nulls(message: Message) -> Message:
    return Message(fields={key: one for key, one in message.fields.items() if one.WhichOneof("kind") != "null_value"})
