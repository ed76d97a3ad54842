"""google.protobuf.Struct to and from plain Python values.

Encoding is written out by hand: the library builds a message object for every value, at several times the cost.
"""

import struct as packing
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

_SCALARS = frozenset(("string_value", "number_value", "bool_value"))


def decode_struct(message: Any) -> dict[str, object]:
    fields = message.fields
    return {key: _decode_value(fields[key]) for key in fields}  # its `items()` is written in Python, and slower


def _decode_value(value: Any) -> object:
    kind = value.WhichOneof("kind")
    if kind in _SCALARS:
        return getattr(value, kind)
    if kind == "list_value":
        return [_decode_value(item) for item in value.list_value.values]
    if kind == "struct_value":
        return decode_struct(value.struct_value)
    return None


def encode_struct(fields: Mapping[str, object]) -> bytes:
    """Encode flat metadata (strings, numbers, booleans, lists of strings) as a Struct's wire bytes."""
    parts: list[bytes] = []
    for key, value in fields.items():
        parts.append(_block(b"\x0a", _key(key) + _block(b"\x12", _encode_value(value))))
    return b"".join(parts)


@lru_cache(maxsize=1024)
def _key(key: str) -> bytes:
    return _block(b"\x0a", key.encode())


def _encode_value(value: object) -> bytes:
    if isinstance(value, str):
        return _block(b"\x1a", value.encode())
    if isinstance(value, bool):
        return b"\x20\x01" if value else b"\x20\x00"
    if isinstance(value, (int, float)):
        return b"\x11" + packing.pack("<d", value)
    if isinstance(value, list):
        return _block(b"\x32", b"".join([_block(b"\x0a", _encode_value(item)) for item in value]))
    raise TypeError(f"metadata does not hold values of type {type(value).__name__}")


def _block(tag: bytes, content: bytes) -> bytes:
    """Encode a length-delimited field."""
    size = len(content)
    return tag + (_SHORT[size] if size < 0x80 else _varint(size)) + content


def _varint(number: int) -> bytes:
    head = bytearray()
    while number > 0x7F:
        head.append(number & 0x7F | 0x80)
        number >>= 7
    head.append(number)
    return bytes(head)


_SHORT = [bytes([number]) for number in range(0x80)]
