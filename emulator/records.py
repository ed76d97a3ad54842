"""A stored record, and the rules a record must meet to be stored (docs.pinecone.io, database limits)."""

import math
import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import orjson

from emulator.errors import Refusal, invalid

ID_LENGTH = 512
IDS_PER_REQUEST = 1_000
RECORDS_PER_UPSERT = 1_000
METADATA_BYTES = 40 * 1024
SPARSE_ENTRIES = 2048
NON_ZERO = 1e-8
DEFAULT_NAMESPACE = "__default__"


class Sparse(NamedTuple):
    """Little-endian uint32 indices and float32 weights, equally many."""

    indices: bytes
    weights: bytes


class Record:
    """A stored record. It never changes: an update stores a new one, so backups and lagging readers may share it."""

    __slots__ = ("id", "metadata", "sparse", "values")

    def __init__(self, id: str, values: bytes, sparse: Sparse | None, metadata: bytes | None) -> None:
        self.id = id
        self.values = values  # little-endian float32, empty for sparse-only records
        self.sparse = sparse
        self.metadata = metadata  # JSON object, or None when there is none

    def fields(self) -> dict[str, object]:
        """Return the metadata as Python values."""
        return orjson.loads(self.metadata) if self.metadata else {}

    def billed_bytes(self) -> int:
        """Return the size that the service bills: id + metadata + 4 a dimension + 8 a sparse entry."""
        size = len(self.id) + len(self.values) + len(self.metadata or b"")
        return size + 2 * len(self.sparse.indices) if self.sparse else size


def check_id(id: object, what: str = "Vector ID") -> str:
    if not isinstance(id, str):
        raise invalid(f"{what} must be a string, got {type(id).__name__}")
    if not 1 <= len(id) <= ID_LENGTH:
        raise invalid(f"{what} must be between 1 and {ID_LENGTH} characters long, got {len(id)}")
    if not id.isascii() or "\0" in id:
        raise invalid(f"{what} must be ASCII without NUL, but got '{id[:80]}'")
    return id


def check_ids(ids: Sequence[object], what: str) -> list[str]:
    if not ids:
        raise invalid(f"A {what} must name at least one id")
    if len(ids) > IDS_PER_REQUEST:
        raise invalid(f"A {what} may name at most {IDS_PER_REQUEST} ids, got {len(ids)}")
    return [check_id(id) for id in ids]


def check_batch(count: int) -> None:
    if not 1 <= count <= RECORDS_PER_UPSERT:
        raise invalid(f"An upsert must hold 1 to {RECORDS_PER_UPSERT} vectors, got {count}")


def canonical_namespace(name: object) -> str:
    """Return the namespace's name; `""` and an absent one are `__default__`."""
    if name is None or name == "":
        return DEFAULT_NAMESPACE
    return check_id(name, "Namespace")


def pack_floats(numbers: object, what: str) -> bytes:
    """Pack JSON numbers as float32 bytes."""
    if not isinstance(numbers, list):
        raise invalid(f"{what} must be a list of numbers")
    try:
        packed = struct.pack(f"<{len(numbers)}f", *numbers)
    except (struct.error, OverflowError) as error:
        raise invalid(f"{what} must hold numbers within the range of a 32-bit float: {error}") from None
    return packed


@np.errstate(over="ignore")
def check_finite(values: bytes, what: str) -> float:
    """Refuse what is not a number; return the sum of the squares."""
    floats = np.frombuffer(values, "<f4")
    # The sum of squares is finite only if all are, and costs half; it may overflow though all are finite.
    squares = float(floats.dot(floats))
    if not math.isfinite(squares) and not np.isfinite(floats).all():
        raise invalid(f"{what} contains a value that is not a finite 32-bit float")
    return squares


def is_zero(values: bytes, squares: float) -> bool:
    """Say whether no value is far enough from zero for the service to store the vector."""
    return squares < NON_ZERO and not bool((np.abs(np.frombuffer(values, "<f4")) >= NON_ZERO).any())


def sparse_of(indices: Sequence[int], weights: bytes, what: str) -> Sparse | None:
    """Return sparse values in canonical order, or None when there are none."""
    if 4 * len(indices) != len(weights):
        raise invalid(f"{what}: sparse indices and values must have the same length")
    if not indices:
        return None
    if len(indices) > SPARSE_ENTRIES:
        raise invalid(f"{what}: sparse vectors may have at most {SPARSE_ENTRIES} non-zero values")
    try:
        keys = np.array(indices, dtype="<i8")
    except (ValueError, TypeError, OverflowError):
        raise invalid(f"{what}: sparse indices must be integers") from None
    if keys.ndim != 1 or keys.min() < 0 or keys.max() > 0xFFFFFFFF:
        raise invalid(f"{what}: sparse indices must be between 0 and 4294967295")
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    if (keys[1:] == keys[:-1]).any():
        raise invalid(f"{what}: sparse indices must be unique")
    check_finite(weights, what)
    return Sparse(keys.astype("<u4").tobytes(), np.frombuffer(weights, "<f4")[order].tobytes())


def clean_fields(fields: object, id: str) -> dict[str, object]:
    """Return metadata as the service keeps it: nulls dropped, numbers as float64, only flat values."""
    if not isinstance(fields, dict):
        raise invalid(f"Vector ID {id}: metadata must be an object")
    clean: dict[str, object] = {}
    for key, value in fields.items():
        if key.startswith("$"):
            raise invalid(f"Vector ID {id}: metadata keys may not start with '$', got '{key}'")
        if isinstance(value, (str, bool)):
            clean[key] = value
        elif isinstance(value, (int, float)):
            clean[key] = _number(value, key)
        elif isinstance(value, list) and all(isinstance(item, str) for item in value):
            clean[key] = value
        elif value is not None:
            raise invalid(
                "Metadata value must be a string, number, boolean or list of strings, "
                f"got '{orjson.dumps(value).decode()[:80]}' for field '{key}'"
            )
    return clean


def _number(value: int | float, key: str) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise invalid(f"Metadata value for field '{key}' must be a finite number")
    return number


def pack_metadata(fields: Mapping[str, object]) -> bytes | None:
    """Pack clean metadata as the bytes that a record holds."""
    if not fields:
        return None
    packed = orjson.dumps(fields)
    if len(packed) > METADATA_BYTES:
        raise invalid(
            f"Metadata size is {len(packed)} bytes, which exceeds the limit of {METADATA_BYTES} bytes per vector"
        )
    # A copy of exact size: orjson's own buffer stays several KB large, a third of a vector, as long as it lives.
    return bytes(memoryview(packed))


def too_large(size: int, limit: int) -> Refusal:
    return Refusal(413, f"Request size {size} bytes exceeds the maximum supported size of {limit} bytes (2 MB)")
