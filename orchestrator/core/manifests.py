"""A manifest: the ids a batch was listed with, compact; members: which of them, one bit each; and short digests.

A short digest is the low 8 bytes of a record's digest: enough to see by itself whether a record changed.
"""

import zlib
from collections.abc import Mapping, Sequence

# Ids are ASCII without NUL (documented limits of the service), so NUL separates them.
_SEPARATOR = "\0"
# Level 1: ids of one page share long prefixes, and higher levels cost more time than they save bytes.
_ZLIB_LEVEL = 1


def pack(ids: Sequence[str]) -> bytes:
    return zlib.compress(_SEPARATOR.join(ids).encode(), _ZLIB_LEVEL)


def unpack(manifest: bytes) -> list[str]:
    text = zlib.decompress(manifest).decode()
    return text.split(_SEPARATOR) if text else []


def members_of(ids: Sequence[str], chosen: set[str]) -> bytes | None:
    """A bitmap over `ids` of those in `chosen`, or None where that is all of them."""
    if len(chosen) == len(ids):
        return None
    bits = bytearray((len(ids) + 7) // 8)
    for position, record_id in enumerate(ids):
        if record_id in chosen:
            bits[position // 8] |= 1 << position % 8
    return bytes(bits)


def select(ids: Sequence[str], members: bytes | None) -> list[str]:
    """The ids that a bitmap of `members_of` names."""
    if members is None:
        return list(ids)
    return [record_id for position, record_id in enumerate(ids) if members[position // 8] >> position % 8 & 1]


_SHORT_BYTES = 8


def short(digest: int) -> int:
    return digest & 0xFFFF_FFFF_FFFF_FFFF


def pack_digests(ids: Sequence[str], digests: Mapping[str, int]) -> bytes:
    """The short digests of those of `ids` that are in `digests`, in the order of `ids`."""
    return b"".join(short(digests[record_id]).to_bytes(_SHORT_BYTES) for record_id in ids if record_id in digests)


def select_digests(ids: Sequence[str], members: bytes | None, packed: bytes | None) -> dict[str, int]:
    """Short digest by id, of what `pack_digests` packed; empty where nothing is on record."""
    if packed is None:
        return {}
    starts = range(0, len(packed), _SHORT_BYTES)
    digests = (int.from_bytes(packed[start : start + _SHORT_BYTES]) for start in starts)
    return dict(zip(select(ids, members), digests, strict=True))
