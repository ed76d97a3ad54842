"""Manifests (the packed ids of a batch), members (a bitmap over those ids) and short digests.

A short digest is the low 8 bytes of a record's digest: enough to see whether the record changed.
"""

import zlib
from collections.abc import Mapping, Sequence

# Ids are ASCII without NUL (documented limits of the service), so NUL separates them.
_SEPARATOR = "\0"
# Compression level 1: ids of one page share long prefixes, and higher levels save few bytes for their time.
_ZLIB_LEVEL = 1


def pack(ids: Sequence[str]) -> bytes:
    return zlib.compress(_SEPARATOR.join(ids).encode(), _ZLIB_LEVEL)


def unpack(manifest: bytes) -> list[str]:
    text = zlib.decompress(manifest).decode()
    return text.split(_SEPARATOR) if text else []


def members_of(ids: Sequence[str], chosen: set[str]) -> bytes | None:
    """Return a bitmap over `ids` that marks the `chosen` ones, or None if all are chosen."""
    if len(chosen) == len(ids):
        return None
    bits = bytearray((len(ids) + 7) // 8)
    for position, record_id in enumerate(ids):
        if record_id in chosen:
            bits[position // 8] |= 1 << position % 8
    return bytes(bits)


def select(ids: Sequence[str], members: bytes | None) -> list[str]:
    """Return the ids that a bitmap of `members_of` marks."""
    if members is None:
        return list(ids)
    return [record_id for position, record_id in enumerate(ids) if members[position // 8] >> position % 8 & 1]


_SHORT_BYTES = 8


def short(digest: int) -> int:
    return digest & 0xFFFF_FFFF_FFFF_FFFF


def pack_digests(ids: Sequence[str], digests: Mapping[str, int]) -> bytes:
    """Pack the short digests of the `ids` that are in `digests`, in the order of `ids`."""
    return b"".join(short(digests[record_id]).to_bytes(_SHORT_BYTES) for record_id in ids if record_id in digests)


def select_digests(ids: Sequence[str], members: bytes | None, packed: bytes | None) -> dict[str, int]:
    """Return the short digests that `pack_digests` packed, by id; empty if nothing is on record."""
    if packed is None:
        return {}
    starts = range(0, len(packed), _SHORT_BYTES)
    digests = (int.from_bytes(packed[start : start + _SHORT_BYTES]) for start in starts)
    return dict(zip(select(ids, members), digests, strict=True))
