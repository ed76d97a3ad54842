"""Digests: equal digests show that two records, or two sets of records, are the same.

A record's canonical form is a byte string in which every field has a tag and a length, so that no two different records
share one. These count as the same: metadata in any key order, sparse values in any index order, an empty field and an
absent one. Anything else counts as different, `true` and `1.0` included. Text is not Unicode-normalised, and float32
values are compared as bits. Take digests of records as the store gives them back (`Index.normalise`).

The digest of a set is its count and the sum of its records' digests modulo 2**128. The order does not matter, and a
record that is there twice does not cancel itself, as it would with exclusive-or.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import xxhash

from vecfleet.canonical import field, length, utf8
from vecfleet.records import Metadata, Record, Sparse
from vecfleet.structs import Struct

DIGEST_VERSION = 1  # stored beside every digest; raised whenever the canonical form changes
DIGEST_BYTES = 16

_MODULUS = 1 << (8 * DIGEST_BYTES)


def record_digest(record: Record) -> int:
    """Return the fast digest of a record, 128 bits: for tallies. It detects accidents, not attackers."""
    return xxhash.xxh3_128_intdigest(_canonical(record))


def record_sha256(record: Record) -> bytes:
    """Return the slow digest of a record, 32 bytes: for exports and the audit trail."""
    return hashlib.sha256(_canonical(record)).digest()


def id_digest(id: str) -> int:
    """Return the fast digest of an id alone, 128 bits."""
    return xxhash.xxh3_128_intdigest(utf8(id))


def differing_parts(one: Record, other: Record) -> tuple[str, ...]:
    """Return which of values, sparse values and metadata differ between two records; ids aside."""
    parts = {
        "values": (Record("", one.values), Record("", other.values)),
        "sparse values": (Record("", b"", one.sparse), Record("", b"", other.sparse)),
        "metadata": (Record("", b"", None, one.metadata), Record("", b"", None, other.metadata)),
    }
    return tuple(name for name, (this, that) in parts.items() if record_digest(this) != record_digest(that))


def differing_keys(one: Metadata, other: Metadata) -> list[str]:
    """Return the keys that one side lacks, or whose values differ, in order."""

    def same(key: str) -> bool:
        return key in one and key in other and field(key, one[key]) == field(key, other[key])

    return sorted(key for key in {*one, *other} if not same(key))


@dataclass(frozen=True, slots=True)
class Tally:
    """A set of records in two numbers: their count, and the sum of their digests modulo 2**128."""

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
        """Return the tally stored as `count` and `digest_bytes` (16 bytes, big-endian)."""
        return cls(count, int.from_bytes(digest))

    @property
    def digest_bytes(self) -> bytes:
        return self.digest.to_bytes(DIGEST_BYTES)


def _canonical(record: Record) -> bytes:
    id = utf8(record.id)
    parts = [b"%cI" % DIGEST_VERSION, length(len(id)), id]
    if record.values:
        parts += (b"V", length(len(record.values)), record.values)
    if record.sparse is not None and len(record.sparse):
        parts += (b"S", length(len(record.sparse)), *_sorted(record.sparse))
    if record.metadata:
        parts += (b"M", length(len(record.metadata)), *_fields(record.metadata))
    return b"".join(parts)


def _fields(metadata: Metadata) -> list[bytes]:
    if isinstance(metadata, Struct):
        return metadata.canonical
    return [field(key, metadata[key]) for key in sorted(metadata)]  # by code point: the order of UTF-8 bytes


def _sorted(sparse: Sparse) -> tuple[bytes, bytes]:
    import numpy as np  # not above: commands that only add up digests would wait for it

    indices = np.frombuffer(sparse.indices, "<u4")
    if bool(np.all(indices[:-1] <= indices[1:])):
        return sparse.indices, sparse.values
    order = np.argsort(indices, kind="stable")
    return indices[order].tobytes(), np.frombuffer(sparse.values, "<f4")[order].tobytes()
