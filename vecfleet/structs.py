"""Metadata in protobuf form (`google.protobuf.Struct`), read and written by hand, each field kept as it came.

A field that nobody changes is passed on as its bytes. Its value, its canonical form and its size as JSON are made once
for all records that share it, and for a long text once for its record. Unusual spelling is not read at all: the caller
reads it another way.
"""

import math
import struct
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from vecfleet import canonical
from vecfleet.errors import BadRequest
from vecfleet.records import Metadata, MetadataValue

# The tag of a field that has a length: its number, shifted by three, and 2.
ONE, TWO, THREE, FOUR = b"\x0a", b"\x12", b"\x1a", b"\x22"
# The kinds of a google.protobuf.Value: null, number (fixed64), text, true, false, list.
_NULL, _NUMBER, _TEXT, _TRUE, _FALSE, _LIST = b"\x08\x00", b"\x11", b"\x1a", b"\x20\x01", b"\x20\x00", b"\x32"
_FIELD, _KEY, _VALUE, _ITEM = ONE[0], ONE[0], TWO[0], ONE[0]
_double = struct.Struct("<d")
_MOST_BITS = 63
LONGEST_SHORT = 0x7F
"""The longest length that fits one byte."""

# The size of a number that has no JSON: more than anything has.
_NO_JSON = 1 << 40

# Fields that records share are short. One of 127 bytes is kept as about 700 here, all of them as 3 MB at most.
_SHARED = 4_096


class NotPlain(Exception):
    """Bytes that are no Struct as every library writes it, or that hold values metadata cannot."""


class Field(NamedTuple):
    """One field: its value, the bytes of its entry in a Struct, its canonical form and its size."""

    value: MetadataValue
    wire: bytes
    canonical: bytes
    json_bytes: int  # with its colon and a comma


class Struct(Mapping[str, MetadataValue]):
    """Metadata that remember how they were written. Read-only; every number is a finite float."""

    __slots__ = ("_fields", "json_bytes")

    def __init__(self, fields: dict[str, Field]) -> None:
        self._fields = fields
        self.json_bytes = sum([field.json_bytes for field in fields.values()]) + 1 if fields else 0
        """Of all of it as JSON; 0 where there is none."""

    def __getitem__(self, key: str) -> MetadataValue:
        value = self._fields[key].value
        return list(value) if type(value) is list else value  # the field is shared: nobody may change it

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __contains__(self, key: object) -> bool:
        return key in self._fields

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self._fields else default

    def __repr__(self) -> str:
        return repr(dict(self))

    def with_fields(self, added: Mapping[str, MetadataValue], removed: Collection[str] = ()) -> Metadata:
        """Return these metadata without the removed keys, and with those added; their numbers are finite floats.

        Half a character makes them a plain dict, which no store takes.
        """
        kept = {key: field for key, field in self._fields.items() if key not in removed} if removed else self._fields
        try:
            return Struct(kept | {key: _added(key, value) for key, value in added.items()})
        except UnicodeEncodeError:
            return {**{key: self[key] for key in kept}, **added}

    @property
    def wire(self) -> bytes:
        return b"".join([field.wire for field in self._fields.values()])

    @property
    def wire_bytes(self) -> int:
        return sum([len(field.wire) for field in self._fields.values()])

    @property
    def canonical(self) -> list[bytes]:
        """The canonical forms of its fields, by key."""
        return [self._fields[key].canonical for key in sorted(self._fields)]


def read(body: bytes) -> Metadata:
    """Return the metadata of a Struct, without its nulls. Raises NotPlain.

    A number that is none (no service sends one) makes them a plain dict. A sender that must not send it finds it there.
    """
    fields: dict[str, Field] = {}
    at, end = 0, len(body)
    try:
        while at < end:
            if body[at] != _FIELD:
                raise NotPlain
            size = body[at + 1]
            if size <= LONGEST_SHORT:
                stop = at + 2 + size
                key, field = _shared(body[at:stop])
            else:
                size, begin = number(body, at + 1)
                stop = begin + size
                key, field = _field(body[at:stop], begin - at)
            if stop > end:
                raise NotPlain
            if field is not None:
                fields[key] = field
            else:
                fields.pop(key, None)
            at = stop
    except (IndexError, UnicodeDecodeError) as error:
        raise NotPlain from error
    metadata = Struct(fields)
    return metadata if metadata.json_bytes < _NO_JSON else dict(metadata)


@lru_cache(maxsize=_SHARED)
def _shared(entry: bytes) -> tuple[str, Field | None]:
    return _field(entry, 2)


def _field(entry: bytes, at: int) -> tuple[str, Field | None]:
    """Return the key and field of an entry whose key begins at `at`; None for a null, which the service drops."""
    if entry[at] != _KEY:
        raise NotPlain
    size, at = number(entry, at + 1)
    key = entry[at : at + size].decode()
    at += size
    if entry[at] != _VALUE:
        raise NotPlain
    size, at = number(entry, at + 1)
    if at + size != len(entry):
        raise NotPlain
    kind = entry[at : at + 1]
    value: MetadataValue
    if kind == _TEXT:
        value = _text(entry, at)
    elif kind == _NUMBER and size == 1 + _double.size:
        value = float(_double.unpack_from(entry, at + 1)[0])
    elif kind == _LIST:
        value = _texts(entry, at)
    elif (rest := entry[at:]) in (_TRUE, _FALSE):
        value = rest == _TRUE
    elif rest == _NULL:
        return key, None
    else:
        raise NotPlain
    return key, Field(value, entry, canonical.field(key, value), _json_bytes(key, value))


def _text(body: bytes, at: int) -> str:
    """Return the text whose tag is at `at`, and which ends where the body does."""
    size, at = number(body, at + 1)
    if at + size != len(body):
        raise NotPlain
    return body[at:].decode()


def _texts(body: bytes, at: int) -> list[str]:
    """Return the list whose tag is at `at`. Only texts are read: a number would read as an empty text."""
    size, at = number(body, at + 1)
    if at + size != len(body):
        raise NotPlain
    texts = []
    while at < len(body):
        if body[at] != _ITEM:
            raise NotPlain
        size, at = number(body, at + 1)
        item = body[at : at + size]
        if len(item) != size or item[:1] != _TEXT:
            raise NotPlain
        texts.append(_text(item, 0))
        at += size
    return texts


def _json_bytes(key: str, value: MetadataValue) -> int:
    if type(value) is float and not math.isfinite(value):
        return _NO_JSON
    return len(orjson.dumps({key: value})) - 1


def number(body: bytes, at: int) -> tuple[int, int]:
    """Return a varint, and where it ends. Raises IndexError if the body ends first, or no length is that large."""
    byte = body[at]
    if byte <= LONGEST_SHORT:
        return byte, at + 1
    total = byte & LONGEST_SHORT
    shift = 7
    while True:
        at += 1
        byte = body[at]
        total |= (byte & LONGEST_SHORT) << shift
        if byte <= LONGEST_SHORT:
            return total, at + 1
        shift += 7
        if shift > _MOST_BITS:
            raise IndexError


def _added(key: str, value: MetadataValue) -> Field:
    if isinstance(value, bool) or (isinstance(value, str) and len(value) <= LONGEST_SHORT):
        return _shared_made(key, value)
    return _made(key, value)


@lru_cache(maxsize=_SHARED, typed=True)  # to Python 1.0 equals True
def _shared_made(key: str, value: str | bool) -> Field:
    return _made(key, value)


def _made(key: str, value: MetadataValue) -> Field:
    return Field(value, write(key, value), canonical.field(key, value), _json_bytes(key, value))


def written(metadata: Metadata) -> bytes:
    """Return a Struct of these metadata, without nulls. Raises BadRequest for values that a service does not take."""
    if isinstance(metadata, Struct):
        return metadata.wire
    return b"".join([write(key, value) for key, value in metadata.items() if value is not None])


def write(key: str, value: MetadataValue) -> bytes:
    """Return an entry of a Struct. Raises BadRequest for a value that metadata cannot hold."""
    head, kind, body = _key(key), b"", b""
    if isinstance(value, str):
        body = value.encode()
        kind = _TEXT + varint(len(body))
    else:
        body = _value(key, value)
    size = len(kind) + len(body)
    size_of_value = varint(size)
    return b"".join((ONE, varint(len(head) + len(size_of_value) + size), head, size_of_value, kind, body))


def _value(key: str, value: MetadataValue) -> bytes:
    if isinstance(value, bool):
        return _TRUE if value else _FALSE
    if isinstance(value, int | float):
        return _NUMBER + _double.pack(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return sized(_LIST, b"".join([sized(ONE, sized(_TEXT, item.encode())) for item in value]))
    raise BadRequest(f"the metadata field {key!r} is neither text, number, true or false, nor a list of texts")


@lru_cache(maxsize=4_096)  # the records of an index share a few dozen keys
def _key(key: str) -> bytes:
    """Return the start of an entry: its key, and the number of the field that its value is in."""
    return sized(ONE, key.encode()) + TWO


def sized(tag: bytes, body: bytes) -> bytes:
    """Return a field that has a length."""
    return tag + varint(len(body)) + body


@lru_cache(maxsize=65_536)  # lengths, most of them short
def varint(number: int) -> bytes:
    written = bytearray()
    while number > LONGEST_SHORT:
        written.append(number & LONGEST_SHORT | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)
