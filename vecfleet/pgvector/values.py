"""Vectors in Postgres's binary form, to and from the float32 bytes of a record. No Python float is made on the way.

pgvector's binary form is the dimension and an unused field, two bytes each, then the numbers, big-endian: four bytes
each in `vector`, two in `halfvec`.
"""

import struct

import numpy as np
import orjson

from vecfleet.errors import BadRequest

VECTOR, HALFVEC = "vector", "halfvec"
# pgvector indexes `vector` up to here, and `halfvec` up to twice as many dimensions.
MAX_INDEXED_VECTOR, MAX_INDEXED_HALFVEC = 2_000, 4_000
MAX_DIMENSION = 16_000

_head = struct.Struct(">HH").pack
_HEAD_BYTES = 4


def type_for(dimension: int) -> str:
    """Return `halfvec` if only that can be indexed; if nothing can be, nothing is gained by losing bits."""
    return HALFVEC if MAX_INDEXED_VECTOR < dimension <= MAX_INDEXED_HALFVEC else VECTOR


def to_wire(values: bytes, kind: str) -> bytes:
    """Return little-endian float32 bytes as the binary form of `vector` or `halfvec`.

    Raises BadRequest for a number that a `halfvec` cannot hold.
    """
    if kind == HALFVEC:
        halves = _halves(values)
        return _head(halves.size, 0) + halves.view("<u2").astype(">u2").tobytes()
    numbers = np.frombuffer(values, "<u4")
    return _head(numbers.size, 0) + numbers.astype(">u4").tobytes()


def from_wire(sent: bytes, kind: str) -> bytes:
    """Return the binary form of `vector` or `halfvec` as little-endian float32 bytes."""
    if kind == HALFVEC:
        halves = np.frombuffer(sent, ">u2", offset=_HEAD_BYTES).astype("<u2").view("<f2")
        return halves.astype("<f4").tobytes()
    return np.frombuffer(sent, ">u4", offset=_HEAD_BYTES).astype("<u4").tobytes()


def as_text(values: bytes) -> str:
    """Return float32 bytes as text: the fewest digits of each number, which Postgres reads with no float64 between."""
    return orjson.dumps(np.frombuffer(values, "<f4"), option=orjson.OPT_SERIALIZE_NUMPY).decode()


def as_stored(values: bytes, kind: str) -> bytes:
    """Return these values as they come back: unchanged from a `vector`, the nearest halves from a `halfvec`.

    A value that no half can hold stays: its upsert says so.
    """
    if kind != HALFVEC:
        return values
    try:
        return _halves(values).astype("<f4").tobytes()
    except BadRequest:
        return values


def _halves(values: bytes) -> "np.ndarray[tuple[int], np.dtype[np.float16]]":
    with np.errstate(over="ignore"):
        halves = np.frombuffer(values, "<f4").astype("<f2")
    if not np.isfinite(halves).all():
        raise BadRequest("a value is beyond 65,504, which is the largest that a halfvec can hold")
    return halves
