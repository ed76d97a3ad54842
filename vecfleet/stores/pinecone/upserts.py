"""Writing an upsert as protobuf by hand: each vector is copied once, from its record into the request.

A message of the library would copy it twice, and make an object for each metadata field. The fields are those of
`bytes_lane.proto`. An empty field is left out, as the library does it, but never the kind of a value.
"""

from collections.abc import Sequence

import numpy as np

from vecfleet.errors import BadRequest
from vecfleet.records import Record, Sparse
from vecfleet.stores.pinecone import bytes_lane_pb2 as pb
from vecfleet.structs import FOUR, ONE, THREE, TWO, sized, varint, written


def request(namespace: str, records: Sequence[Record]) -> bytes:
    """Return the UpsertRequest. Raises BadRequest for metadata that the service does not take, and for invalid text."""
    parts: list[bytes] = []
    try:
        for record in records:
            _add(parts, record)
        if namespace:
            parts.append(sized(TWO, namespace.encode()))
    except UnicodeEncodeError as error:
        raise BadRequest("an id or its metadata holds half a character, which no text may") from error
    return b"".join(parts)


def _add(parts: list[bytes], record: Record) -> None:
    head = sized(ONE, record.id.encode())
    size = len(record.values)
    if size:
        head += TWO + varint(size)
    fields = written(record.metadata)
    tail = sized(THREE, fields) if fields else b""
    if record.sparse is not None and len(record.sparse):
        tail += sized(FOUR, _sparse(record.sparse))
    parts += (ONE, varint(len(head) + size + len(tail)), head, record.values, tail)


def _sparse(sparse: Sparse) -> bytes:
    indices = np.frombuffer(sparse.indices, "<u4").tolist()
    body: bytes = pb.SparseValues(indices=indices, values=sparse.values).SerializeToString()
    return body
