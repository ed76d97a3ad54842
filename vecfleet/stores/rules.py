"""Pinecone's rules for a record: its form once stored, its bill, and reasons to refuse it.

Shared by the stores that behave like it. Facts: Pinecone's data-modeling and understanding-cost pages.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from vecfleet.errors import BadRequest
from vecfleet.names import MAX_CHARS
from vecfleet.records import FLOAT32_BYTES, Metadata, MetadataValue, Record
from vecfleet.stores.base import IndexInfo, Kind, Limits
from vecfleet.structs import Struct

FETCHES_PER_READ_UNIT = 10  # records; a request costs one read unit at least
BYTES_PER_WRITE_UNIT = 1_000
DOCUMENTS_REMEDY = "embed its texts yourself into an index whose vectors are your own; or leave it where it is"
MIN_QUERY_UNITS = 0.25
MIN_WRITE_UNITS = 5.0  # for a write request, and the whole price of deleting a namespace


def normalise(record: Record) -> Record:
    """Return the record as it comes back: nulls dropped, numbers as float64, empty sparse values as none."""
    sparse = record.sparse if record.sparse is not None and len(record.sparse) else None
    metadata = normal_metadata(record.metadata)
    if sparse is record.sparse and metadata is record.metadata:
        return record
    return Record(record.id, record.values, sparse, metadata)


def check_numbers(records: Sequence[Record]) -> None:
    """Raise BadRequest for numbers that no JSON can hold: NaN and the infinities."""
    import numpy as np  # by whoever writes records: a plan needs the rules alone

    with np.errstate(over="ignore", invalid="ignore"):
        for record in records:
            if record.values and not _finite(np.frombuffer(record.values, "<f4")):
                raise BadRequest(f"the record {record.id!r} has values that are no finite numbers")
    for record in records:
        if isinstance(record.metadata, Struct):  # its numbers are finite
            continue
        for key, value in record.metadata.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise BadRequest(f"the metadata field {key!r} of the record {record.id!r} is not a finite number")


def _finite(values: Any) -> bool:
    """Say whether every value is a finite number.

    The sum of their squares takes a fifth of the time of a look at each, and is not finite if any value is not. If the
    sum itself overflows, each value is looked at.
    """
    return math.isfinite(values.dot(values)) or bool((abs(values) < math.inf).all())


def normal_metadata(metadata: Mapping[str, Any] | None) -> Metadata:
    """Return metadata as it comes back: the same mapping if it is so already."""
    if not metadata:
        return {}
    if isinstance(metadata, Struct):
        return metadata
    if not any(value is None or type(value) is int for value in metadata.values()):
        return metadata
    return {
        key: _as_float(value) if type(value) is int else value for key, value in metadata.items() if value is not None
    }


def billed_bytes(record: Record) -> int:
    """Return the size of a record as Pinecone bills it: id, metadata, 4 bytes a value, 8 a sparse value."""
    sparse = 8 * len(record.sparse) if record.sparse is not None else 0
    return len(record.id) + metadata_bytes(record.metadata) + len(record.values) + sparse


def metadata_bytes(metadata: Metadata) -> int:
    """Return the bytes of metadata as JSON; 0 if there is none. Raises BadRequest for content that is no JSON."""
    if not metadata:
        return 0
    if isinstance(metadata, Struct):
        return metadata.json_bytes
    try:
        return len(orjson.dumps(metadata if isinstance(metadata, dict) else dict(metadata)))
    except orjson.JSONEncodeError as error:
        raise BadRequest(f"metadata cannot be written as JSON: {error}") from error


def fetch_units(records: int) -> float:
    """Return the read units of one fetch that found so many records."""
    return max(1.0, records / FETCHES_PER_READ_UNIT)


def write_units(size: float) -> float:
    """Return the write units of one upsert or delete, by billed bytes; overwritten records come on top."""
    return max(MIN_WRITE_UNITS, size / BYTES_PER_WRITE_UNIT)


def may_be_name(name: str, *, ascii_only: bool = True) -> bool:
    """Say whether an id or a namespace can be called so."""
    return 1 <= len(name) <= MAX_CHARS and (name.isascii() or not ascii_only) and "\0" not in name


def check_name(what: str, name: str, *, ascii_only: bool = True) -> None:
    """Raise BadRequest for a name that can be no id and no namespace."""
    if not may_be_name(name, ascii_only=ascii_only):
        characters = "ASCII characters" if ascii_only else "characters"
        raise BadRequest(f"{what} has 1 to {MAX_CHARS} {characters}; {name[:40]!r} does not")


def check_dimension(record: Record, info: IndexInfo) -> None:
    """Raise BadRequest for a dense record of another dimension than the index."""
    if record.values and info.dimension is not None and len(record.values) != FLOAT32_BYTES * info.dimension:
        raise BadRequest(f"the record {record.id!r} has {record.dimension} values, not {info.dimension}")


def check_record(record: Record, info: IndexInfo, limits: Limits) -> None:
    """Raise BadRequest for a record that does not fit the index."""
    check_name("an id", record.id, ascii_only=limits.ascii_ids)
    dense, sparse = bool(record.values), record.sparse is not None and len(record.sparse) > 0
    if not dense and not sparse:
        raise BadRequest(f"the record {record.id!r} has neither values nor sparse values")
    check_dimension(record, info)
    if dense == (info.kind is Kind.SPARSE):
        raise BadRequest(f"the record {record.id!r} does not fit an index of kind {info.kind}")
    if sparse and info.kind not in (Kind.SPARSE, Kind.HYBRID):
        raise BadRequest(f"the record {record.id!r} has sparse values; the index takes none")
    for key, value in record.metadata.items():
        texts = isinstance(value, list) and all(isinstance(item, str) for item in value)
        if key.startswith("$") or not (value is None or texts or isinstance(value, str | bool | int | float)):
            raise BadRequest(f"the metadata field {key!r} of the record {record.id!r} cannot be stored")
        if isinstance(value, float) and not math.isfinite(value):
            raise BadRequest(f"the metadata field {key!r} of the record {record.id!r} is not a finite number")
    if metadata_bytes(record.metadata) > limits.metadata_bytes:
        raise BadRequest(f"the metadata of the record {record.id!r} is over {limits.metadata_bytes:,} bytes")


def _as_float(value: int) -> MetadataValue:
    try:
        return float(value)
    except OverflowError:
        return value  # no store takes it: its upsert fails with the reason
