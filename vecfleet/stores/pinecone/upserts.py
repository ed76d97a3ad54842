"""An upsert, written as protobuf by hand: each vector is copied once, from its record into the request.

A message of the library would copy it twice, and make an object for each metadata field. The fields are those of
`bytes_lane.proto`; a field that is empty is left out, as the library does it, and a value's kind never is.
"""

import struct
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from vecfleet.errors import BadRequest
from vecfleet.records import Metadata, MetadataValue, Record, Sparse
from vecfleet.stores.pinecone import bytes_lane_pb2 as pb

# Of a field that has a length: its number, shifted by three, and 2.
_ONE, _TWO, _THREE, _FOUR = b"\x0a", b"\x12", b"\x1a", b"\x22"
# The kinds of a google.protobuf.Value: number (fixed64), text, true, false, list.
_NUMBER, _TEXT, _TRUE, _FALSE, _LIST = b"\x11", b"\x1a", b"\x20\x01", b"\x20\x00", b"\x32"
_double = struct.Struct("<d").pack


def request(namespace: str, records: Sequence[Record]) -> bytes:
    """The UpsertRequest. Raises BadRequest for metadata that the service does not take, and text that is none."""
    parts: list[bytes] = []
    try:
        for record in records:
            _add(parts, record)
        if namespace:
            parts.append(_sized(_TWO, namespace.encode()))
    except UnicodeEncodeError as error:
        raise BadRequest("an id or its metadata holds half a character, which no text may") from error
    return b"".join(parts)


def _add(parts: list[bytes], record: Record) -> None:
    head = _sized(_ONE, record.id.encode())
    size = len(record.values)
    if size:
        head += _TWO + _varint(size)
    tail = b""
    if record.metadata:
        fields = _fields(record.metadata)
        tail = _sized(_THREE, fields) if fields else b""
    if record.sparse is not None and len(record.sparse):
        tail += _sized(_FOUR, _sparse(record.sparse))
    parts += (_ONE, _varint(len(head) + size + len(tail)), head, record.values, tail)


def _sparse(sparse: Sparse) -> bytes:
    indices = np.frombuffer(sparse.indices, "<u4").tolist()
    body: bytes = pb.SparseValues(indices=indices, values=sparse.values).SerializeToString()
    return body


def _fields(metadata: Metadata) -> bytes:
    """A Struct: its fields are entries of a map, each a key and a Value."""
    parts: list[bytes] = []
    for key, value in metadata.items():
        if value is None:  # the service drops nulls
            continue
        head, kind, body = _key(key), b"", b""
        if isinstance(value, str):
            body = value.encode()
            kind = _TEXT + _varint(len(body))
        else:
            body = _value(key, value)
        size = len(kind) + len(body)
        length = _varint(size)
        parts += (_ONE, _varint(len(head) + len(length) + size), head, length, kind, body)
    return b"".join(parts)


def _value(key: str, value: MetadataValue) -> bytes:
    if isinstance(value, bool):
        return _TRUE if value else _FALSE
    if isinstance(value, int | float):
        return _NUMBER + _double(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return _sized(_LIST, b"".join([_sized(_ONE, _sized(_TEXT, item.encode())) for item in value]))
    raise BadRequest(f"the metadata field {key!r} is neither text, number, true or false, nor a list of texts")


@lru_cache(maxsize=4_096)  # the records of an index share a few dozen keys
def _key(key: str) -> bytes:
    """What an entry of a map begins with: its key, and the number of the field that its value is in."""
    return _sized(_ONE, key.encode()) + _TWO


def _sized(tag: bytes, body: bytes) -> bytes:
    return tag + _varint(len(body)) + body


@lru_cache(maxsize=65_536)  # lengths, most of them short
def _varint(number: int) -> bytes:
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)
