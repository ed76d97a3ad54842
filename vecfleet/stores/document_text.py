"""A record as the JSON of a document, as an upsert and a bulk import of the service take it, and back.

Vectors are written as the shortest text of each float32. The service gives each back as the float64 that it equals, so
the same bits come back.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import orjson

from vecfleet.errors import BadRequest
from vecfleet.records import Record, Sparse
from vecfleet.stores import rules
from vecfleet.stores.documents import Layout
from vecfleet.stores.value_text import floats, integers, pack

ID = "_id"


def check(layout: Layout, record: Record) -> None:
    """Raise BadRequest, naming the record, if it can be no document."""
    why = layout.objection(record)
    if why is not None:
        raise BadRequest(f"the record {record.id!r} cannot be stored as a document: {why}")


def as_document(layout: Layout, record: Record) -> dict[str, Any]:
    """Return the record as a document. Raises BadRequest, naming the record, if it can be none."""
    check(layout, record)
    fields: dict[str, Any] = {ID: record.id}
    if record.values and layout.dense is not None:
        fields[layout.dense] = values(record.values)
    if record.sparse is not None and len(record.sparse) and layout.sparse is not None:
        fields[layout.sparse] = weights(record.sparse)
    return fields | {layout.name_of(key): value for key, value in record.metadata.items() if value is not None}


def write(layout: Layout, record: Record) -> bytes:
    """Return the JSON of a document, its id first. Raises BadRequest, naming the record, if it can be none."""
    try:
        return orjson.dumps(as_document(layout, record))
    except orjson.JSONEncodeError as error:
        raise BadRequest(f"the record {record.id!r} cannot be written as JSON: {error}") from error


def read(layout: Layout, record_id: str, fields: Mapping[str, msgspec.Raw]) -> Record:
    """Return the record that a document is.

    Raises ValueError, TypeError, KeyError, OverflowError or `struct.error` for one that cannot be read.
    """
    others = dict(fields)
    others.pop(ID, None)
    dense = others.pop(layout.dense, None) if layout.dense is not None else None
    sparse = others.pop(layout.sparse, None) if layout.sparse is not None else None
    metadata = {layout.key_of(name): _value(text) for name, text in others.items()}
    packed = pack(_value(dense)) if dense is not None else b""
    return Record(record_id, packed, _sparse(sparse), rules.normal_metadata(metadata))


def values(data: bytes) -> orjson.Fragment:
    return orjson.Fragment(floats(data))


def weights(sparse: Sparse) -> dict[str, orjson.Fragment]:
    return {"indices": orjson.Fragment(integers(sparse.indices)), "values": values(sparse.values)}


def _sparse(text: msgspec.Raw | None) -> Sparse | None:
    told = _value(text) if text is not None else None
    if not told or not told["indices"]:
        return None
    if len(told["indices"]) != len(told["values"]):
        raise ValueError("sparse values without their indices")
    return Sparse(np.array(told["indices"], "<u4").tobytes(), pack(told["values"]))


def _value(text: msgspec.Raw) -> Any:
    return orjson.loads(memoryview(text))
