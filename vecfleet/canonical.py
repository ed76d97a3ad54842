"""The canonical form of one metadata field: tagged and with lengths, so that no two different fields share one.

Digests of records are computed from this form (`vecfleet.digests` says which records count as the same).
"""

import struct
from functools import lru_cache

from vecfleet.records import MetadataValue

length = struct.Struct("<I").pack
"""A length of up to 4 GB, in 4 bytes."""
_number = struct.Struct("<d").pack


def field(key: str, value: MetadataValue) -> bytes:
    """Return the canonical form of a field. Raises TypeError for a value that metadata cannot hold."""
    if isinstance(value, str):
        text = utf8(value)
        return _head(key, b"s") + length(len(text)) + text
    if isinstance(value, bool):
        return _head(key, b"t" if value else b"f")
    if isinstance(value, float):
        return _head(key, b"n") + _number(value)
    if isinstance(value, int):
        return _head(key, b"") + _integer(value)
    if isinstance(value, list):
        parts = [_head(key, b"l"), length(len(value))]
        for item in value:
            text = utf8(item)
            parts += (length(len(text)), text)
        return b"".join(parts)
    raise TypeError(f"metadata holds text, numbers, booleans and lists of text; not {type(value).__name__}")


def utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")  # a lone surrogate is refused elsewhere, but needs a digest here


@lru_cache(maxsize=4_096)  # the records of an index share a few dozen keys
def _head(key: str, tag: bytes) -> bytes:
    name = utf8(key)
    return length(len(name)) + name + tag


def _integer(value: int) -> bytes:
    """Return the float64 that the integer equals. An integer that equals none (past 2**53) keeps all its digits."""
    try:
        number = float(value)
    except OverflowError:
        number = 0.0
    if number == value:
        return b"n" + _number(number)
    digits = str(value).encode()
    return b"i" + length(len(digits)) + digits
