"""Records as requests, and answers as records. Values stay float32: their shortest text out, the very bytes back in.

The SDK writes requests with orjson, which copies an `orjson.Fragment` as it is. So a text (`stores.value_text`) is made
once from the bytes.
"""

import math
from collections.abc import Sequence
from typing import Any, cast
from urllib.parse import quote_plus

import numpy as np
import orjson
from pinecone import SparseValues, Vector

from vecfleet.errors import BadRequest
from vecfleet.names import MAX_CHARS
from vecfleet.records import Record, Sparse
from vecfleet.stores import rules
from vecfleet.stores.value_text import floats, integers, pack

_PUNCTUATION_BYTES = len('{"id":,"values":[],"sparseValues":{"indices":,"values":},"metadata":},')
_ENVELOPE_BYTES = len('{"vectors":[],"namespace":""}') + 6 * MAX_CHARS  # a control character is written \u0001
# Proxies commonly take 8 KB of request line; the documented limit of 1,000 ids would need more.
MAX_QUERY_BYTES = 6_500


def to_vector(record: Record) -> Vector:
    """Return the record as the SDK takes it. Raises BadRequest for values that JSON would drop: NaN, the infinities."""
    sparse = None
    if record.sparse is not None and len(record.sparse):
        sparse = to_sparse(record.sparse)
    elif not record.values:
        raise BadRequest(f"the record {record.id!r} has neither values nor sparse values")
    metadata = dict(record.metadata) or None
    for key, value in record.metadata.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise BadRequest(f"the metadata field {key!r} of the record {record.id!r} is not a finite number")
    return Vector(record.id, as_list(floats(record.values)) if record.values else [], sparse, metadata)


def to_sparse(sparse: Sparse) -> SparseValues:
    """Return sparse values as the SDK takes them. Raises BadRequest for values that are no numbers."""
    return SparseValues(as_list(integers(sparse.indices)), as_list(floats(sparse.values)))


def as_list(text: bytes) -> list[Any]:
    """Return JSON text of an array in place of the list that the SDK's types ask for."""
    return cast(list[Any], orjson.Fragment(text))


def values_text(record: Record) -> list[Any] | None:
    """Return the record's values for a query, or None if it has none."""
    return as_list(floats(record.values)) if record.values else None


def to_record(vector: Vector) -> Record:
    """Return the record in the SDK's answer."""
    sparse = None
    if vector.sparse_values is not None and vector.sparse_values.indices:
        indices = np.array(vector.sparse_values.indices, "<u4").tobytes()
        sparse = Sparse(indices, pack(vector.sparse_values.values))
    return Record(vector.id, pack(vector.values), sparse, rules.normal_metadata(vector.metadata))


def request_bytes(record: Record) -> int:
    """Return the most bytes that this record takes in the JSON of an upsert."""
    size = _PUNCTUATION_BYTES + len(orjson.dumps(record.id)) + rules.metadata_bytes(record.metadata)
    if record.values:
        size += len(floats(record.values))
    if record.sparse is not None and len(record.sparse):
        size += len(integers(record.sparse.indices)) + len(floats(record.sparse.values))
    return size


def body_bytes(records: Sequence[Record]) -> int:
    """Return the most bytes that an upsert request of these records takes."""
    return _ENVELOPE_BYTES + sum(map(request_bytes, records))


def query_sized(ids: Sequence[str], most: int) -> list[list[str]]:
    """Split the ids into requests of at most `most` whose URL stays short enough, percent-encoding counted."""
    requests: list[list[str]] = []
    size = 0
    for id in ids:
        length = len("&ids=") + len(quote_plus(id))
        if not requests or len(requests[-1]) == most or size + length > MAX_QUERY_BYTES:
            requests.append([])
            size = 0
        requests[-1].append(id)
        size += length
    return requests
