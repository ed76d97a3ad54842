"""Reading the answer to a fetch by hand: each vector is copied once, from the answer into its record.

The library would copy it twice, and make an object for each metadata field. The fields are those of `bytes_lane.proto`.
An unexpected record is not read but reported: one with an unknown field, with a field in pieces, or with values of
another dimension.
"""

from dataclasses import dataclass

import numpy as np
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from vecfleet.records import FLOAT32_BYTES, Record, Sparse
from vecfleet.stores.base import IndexInfo, Kind
from vecfleet.stores.pinecone import bytes_lane_pb2 as pb
from vecfleet.structs import FOUR, LONGEST_SHORT, ONE, THREE, TWO, NotPlain, number, read

_VECTORS, _USAGE = ONE[0], THREE[0]
_KEY, _VECTOR = ONE[0], TWO[0]
_VALUES, _METADATA, _SPARSE = TWO[0], THREE[0], FOUR[0]
_KNOWN = {ONE[0], _VALUES, _METADATA, _SPARSE}  # the first one is the id again
# The wire type of a field that has a length, and the lengths of the others (None: a varint).
_HAS_LENGTH, _LENGTHS = 2, {0: None, 1: 8, 5: 4}


@dataclass(frozen=True, slots=True)
class RecordsRead:
    """The records read, the ids of those that must be read another way, and the cost that the service tells."""

    records: dict[str, Record]
    unreadable: list[str]
    read_units: float | None


def fetched(body: bytes, info: IndexInfo) -> RecordsRead:
    """Return the records of a FetchResponse. Raises DecodeError if it is none."""
    records: dict[str, Record] = {}
    unreadable: list[str] = []
    units: float | None = None
    at, end = 0, len(body)
    try:
        while at < end:
            tag = body[at]
            if tag & 7 != _HAS_LENGTH or tag > LONGEST_SHORT:
                at = _past(body, at)
                continue
            size, at = number(body, at + 1)
            stop = at + size
            if stop > end:
                raise DecodeError("a field is longer than the answer")
            if tag == _VECTORS:
                record_id, record = _entry(body, at, stop, info)
                if record is None:
                    unreadable.append(record_id)
                    records.pop(record_id, None)
                else:
                    records[record_id] = record
            elif tag == _USAGE:
                units = float(pb.Usage.FromString(body[at:stop]).read_units)
            at = stop
        if at > end:
            raise DecodeError("its last field is longer than it is")
    except (IndexError, UnicodeDecodeError) as error:
        raise DecodeError("it ends in the middle of a field, or an id is no text") from error
    return RecordsRead(records, unreadable, units)


def _past(body: bytes, at: int) -> int:
    """Return the end of an unknown field, whose tag is at `at`."""
    tag, at = number(body, at)
    kind = tag & 7
    if kind == _HAS_LENGTH:
        size, at = number(body, at)
        return at + size
    if kind not in _LENGTHS or not tag >> 3:
        raise DecodeError("a field has no kind or no number")
    length = _LENGTHS[kind]
    return number(body, at)[1] if length is None else at + length


def _entry(body: bytes, at: int, stop: int, info: IndexInfo) -> tuple[str, Record | None]:
    """Return the id and record of an entry of the map; None for an unexpected record."""
    if body[at] != _KEY:
        raise DecodeError("a record comes without its id")
    size, at = number(body, at + 1)
    record_id = body[at : at + size].decode()
    at += size
    try:
        if at >= stop or body[at] != _VECTOR:
            raise NotPlain
        size, at = number(body, at + 1)
        if at + size != stop:
            raise NotPlain
        return record_id, _record(record_id, body, at, stop, info)
    except (NotPlain, IndexError):
        return record_id, None


def _record(record_id: str, body: bytes, at: int, stop: int, info: IndexInfo) -> Record:
    """Return the record. Raises NotPlain for an unexpected vector, or for more than we can hold."""
    parts: dict[int, bytes] = {}
    while at < stop:
        tag, size = body[at], body[at + 1]
        at += 2
        if size > LONGEST_SHORT:
            size, at = number(body, at - 1)
        if tag in parts or at + size > stop:
            raise NotPlain
        parts[tag] = body[at : at + size]
        at += size
    if not parts.keys() <= _KNOWN:
        raise NotPlain
    values = parts.get(_VALUES, b"")
    sparse = _sparse(parts[_SPARSE]) if _SPARSE in parts else None
    if info.kind is Kind.SPARSE:
        if values or sparse is None:
            raise NotPlain
    elif not values or len(values) != FLOAT32_BYTES * (info.dimension or 0):
        raise NotPlain
    return Record(record_id, values, sparse, read(parts[_METADATA]) if _METADATA in parts else {})


def _sparse(entries: bytes) -> Sparse | None:
    message = pb.SparseValues.FromString(entries)
    indices = np.array(message.indices, "<u4").tobytes()
    if len(message.values) != len(indices) or len(UnknownFieldSet(message)):
        raise NotPlain  # an index and a value are 4 bytes each
    return Sparse(indices, message.values) if indices else None
