"""Digests: when two records, or two sets of records, are the same.

A record's canonical form is a byte string in which every field has a tag and a length, so that no two different records
share one. What counts as the same: metadata in any key order, sparse values in any index order, an empty field and an
absent one. What counts as different: anything else, `true` and `1.0` included; text is not Unicode-normalised and
float32 values are compared as bits. Take digests of records as the store gives them back (`Index.normalise`).

A set is its count and the sum of its records' digests modulo 2**128: the order does not matter, and unlike with
exclusive-or, a record that is there twice does not cancel itself.
"""

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import xxhash

from vecfleet.records import Metadata, Record, Sparse

DIGEST_VERSION = 1  # stored beside every digest; raised whenever the canonical form changes
DIGEST_BYTES = 16

_MODULUS = 1 << (8 * DIGEST_BYTES)
_length = struct.Struct("<I").pack
_number = struct.Struct("<d").pack


def record_digest(record: Record) -> int:
    """The fast digest of a record, 128 bits: for tallies. It detects accidents, not attackers."""
    return xxhash.xxh3_128_intdigest(_canonical(record))


def record_sha256(record: Record) -> bytes:
    """The slow digest of a record, 32 bytes: for exports and the audit trail."""
    return hashlib.sha256(_canonical(record)).digest()


def id_digest(id: str) -> int:
    """The fast digest of an id alone, 128 bits."""
    return xxhash.xxh3_128_intdigest(_utf8(id))


def differing_parts(one: Record, other: Record) -> tuple[str, ...]:
    """In which of values, sparse values and metadata two records differ; ids aside."""
    parts = {
        "values": (Record("", one.values), Record("", other.values)),
        "sparse values": (Record("", b"", one.sparse), Record("", b"", other.sparse)),
        "metadata": (Record("", b"", None, one.metadata), Record("", b"", None, other.metadata)),
    }
    return tuple(name for name, (this, that) in parts.items() if record_digest(this) != record_digest(that))


@dataclass(frozen=True, slots=True)
class Tally:
    """A set of records in two numbers: how many, and the sum of their digests modulo 2**128."""

    count: int = 0
    digest: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.count + other.count, (self.digest + other.digest) % _MODULUS)

    def __sub__(self, other: "Tally") -> "Tally":
        return Tally(self.count - other.count, (self.digest - other.digest) % _MODULUS)

    @classmethod
    def of(cls, records: Iterable[Record]) -> Self:
        return cls.of_digests(map(record_digest, records))

    @classmethod
    def of_ids(cls, ids: Iterable[str]) -> Self:
        return cls.of_digests(map(id_digest, ids))

    @classmethod
    def of_digests(cls, digests: Iterable[int]) -> Self:
        count = total = 0
        for digest in digests:
            count += 1
            total += digest
        return cls(count, total % _MODULUS)

    @classmethod
    def from_bytes(cls, count: int, digest: bytes) -> Self:
        """The tally stored as `count` and `digest_bytes` (16 bytes, big-endian)."""
        return cls(count, int.from_bytes(digest))

    @property
    def digest_bytes(self) -> bytes:
        return self.digest.to_bytes(DIGEST_BYTES)


def _canonical(record: Record) -> bytes:
    id = _utf8(record.id)
    parts = [b"%cI" % DIGEST_VERSION, _length(len(id)), id]
    if record.values:
        parts += (b"V", _length(len(record.values)), record.values)
    if record.sparse is not None and len(record.sparse):
        parts += (b"S", _length(len(record.sparse)), *_sorted(record.sparse))
    if record.metadata:
        parts += (b"M", _length(len(record.metadata)))
        _add_metadata(parts, record.metadata)
    return b"".join(parts)


def _add_metadata(parts: list[bytes], metadata: Metadata) -> None:
    for key in sorted(metadata):  # by code point, which is the order of the UTF-8 bytes
        value = metadata[key]
        if isinstance(value, str):
            text = _utf8(value)
            parts += (_head(key, b"s"), _length(len(text)), text)
        elif isinstance(value, bool):
            parts.append(_head(key, b"t" if value else b"f"))
        elif isinstance(value, float):
            parts += (_head(key, b"n"), _number(value))
        elif isinstance(value, int):
            parts += (_head(key, b""), _integer(value))
        elif isinstance(value, list):
            parts += (_head(key, b"l"), _length(len(value)))
            for item in value:
                text = _utf8(item)
                parts += (_length(len(text)), text)
        else:
            raise TypeError(f"metadata holds text, numbers, booleans and lists of text; not {type(value).__name__}")


@lru_cache(maxsize=4_096)  # the records of an index share a few dozen keys
def _head(key: str, tag: bytes) -> bytes:
    name = _utf8(key)
    return _length(len(name)) + name + tag


def _integer(value: int) -> bytes:
    """As the float64 it equals; one that equals none (past 2**53) keeps its digits rather than be rounded."""
    try:
        number = float(value)
    except OverflowError:
        number = 0.0
    if number == value:
        return b"n" + _number(number)
    digits = str(value).encode()
    return b"i" + _length(len(digits)) + digits


def _sorted(sparse: Sparse) -> tuple[bytes, bytes]:
    import numpy as np  # not above: commands that only add digests up would wait for it

    indices = np.frombuffer(sparse.indices, "<u4")
    if bool(np.all(indices[:-1] <= indices[1:])):
        return sparse.indices, sparse.values
    order = np.argsort(indices, kind="stable")
    return indices[order].tobytes(), np.frombuffer(sparse.values, "<f4")[order].tobytes()


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")  # half a character is refused elsewhere; a digest it must have
