"""google.protobuf.Struct to and from plain Python values.

Encoding is written out by hand: the library builds a message object for every value, at several times the cost.
"""

import struct as packing
from collections.abc import Mapping
from typing import Any


def decode_struct(message: Any) -> dict[str, object]:
    return {key: _decode_value(value) for key, value in message.fields.items()}


def _decode_value(value: Any) -> object:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            return value.number_value
        case "bool_value":
            return value.bool_value
        case "list_value":
            return [_decode_value(item) for item in value.list_value.values]
        case "struct_value":
            return decode_struct(value.struct_value)
    return None


def encode_struct(fields: Mapping[str, object]) -> bytes:
    """Flat metadata (strings, numbers, booleans, lists of strings) as a Struct's wire bytes."""
    parts: list[bytes] = []
    for key, value in fields.items():
        entry = _block(0x0A, key.encode()) + _block(0x12, _encode_value(value))
        parts.append(_block(0x0A, entry))
    return b"".join(parts)


def _encode_value(value: object) -> bytes:
    match value:
        case str():
            return _block(0x1A, value.encode())
        case bool():
            return b"\x20\x01" if value else b"\x20\x00"
        case int() | float():
            return b"\x11" + packing.pack("<d", value)
        case list():
            return _block(0x32, b"".join(_block(0x0A, _encode_value(item)) for item in value))
    raise TypeError(f"metadata does not hold values of type {type(value).__name__}")


def _block(tag: int, content: bytes) -> bytes:
    """A length-delimited field."""
    size, head = len(content), bytearray([tag])
    while size > 0x7F:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    return bytes(head) + content
