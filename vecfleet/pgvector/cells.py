"""One metadata value in one column: the values the column can hold, and the value they read as. Pure.

A value goes into its column only if it comes back exactly as it was; any other stays in the table's JSON.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson

from vecfleet.pgvector.tables import Column

# Marks a value that a record cannot hold as it is (an object, a mixed list, null): it travels as JSON text.
AS_JSON = "#json"
# Marks a key of the JSON that is the name of a column which holds something too.
BESIDE = "#metadata"
JSONB_VERSION = b"\x01"

_TEXTS = frozenset({"text", "varchar", "bpchar"})
_INTEGERS: Mapping[str, int] = {"int2": 2**15, "int4": 2**31, "int8": 2**63}
EXACT_INTEGER = 2**53
# From here on Postgres writes a float of JSON without an exponent, and it would be read as an integer.
_LONG_FLOAT = 1e16
_TIMES = frozenset({"timestamp", "timestamptz"})
_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,5}[1-9]|\.[1-9])?(\+00)?")
_MANY_DIGITS = re.compile(rb"\d{16}")


class Unfit(Exception):
    """The column cannot hold this value exactly."""


@dataclass(frozen=True, slots=True)
class Cells:
    """Conversion of values into a column and out of it. `wire`: the type by which the driver packs and unpacks it."""

    column: Column
    key: str
    wire: str
    pack: Callable[[Any], Any]
    unpack: Callable[[Any], Any]
    as_text: bool = False  # read as `column::text`
    filler: Any = None  # for a column that must hold something when the record has nothing


def cells_of(column: Column, key: str) -> Cells:
    """Return the conversion for this column; a column of an unknown type is read as text and left empty."""
    kind = column.type
    if kind in _TEXTS:
        return Cells(column, key, "text", _text_packer(column.size), _same, filler="")
    if kind in _INTEGERS:
        return Cells(column, key, kind, _integer_packer(_INTEGERS[kind]), number, filler=0)
    if kind in ("float4", "float8"):
        return Cells(column, key, kind, _single if kind == "float4" else _double, _same, filler=0.0)
    if kind == "bool":
        return Cells(column, key, kind, _flag, _same, filler=False)
    if kind == "_text":
        return Cells(column, key, "text[]", _texts, _same, filler=[])
    if kind == "jsonb":
        return Cells(column, key, "bytea", _pack_json, _json, filler=JSONB_VERSION + b"{}")
    if kind in _TIMES:
        zone = UTC if kind == "timestamptz" else None
        epoch = datetime(1970, 1, 1, tzinfo=zone)
        return Cells(column, key, kind, _time_packer(kind), _same, as_text=True, filler=epoch)
    return Cells(column, key, "text", _nothing_fits, _same, as_text=True)


def plain(value: Any) -> bool:
    """Say whether a record's metadata can hold this value as it is."""
    return isinstance(value, str | bool | int | float) or (
        isinstance(value, list) and all(isinstance(item, str) for item in value)
    )


def fits_json(value: Any) -> bool:
    """Say whether JSONB gives back exactly this: it knows no NUL, no sign of zero, no long floats."""
    if isinstance(value, str):
        return "\0" not in value and _is_utf8(value)
    if isinstance(value, list):
        return all(isinstance(item, str) and fits_json(item) for item in value)
    if isinstance(value, float):
        return abs(value) < _LONG_FLOAT and not (value == 0.0 and np.signbit(value))
    return True


def dump(value: Any) -> bytes:
    """Return the value as JSON for JSONB. Raises Unfit if JSONB would change it."""
    if not fits_json(value):
        raise Unfit
    if type(value) is int:  # JSONB keeps every digit, orjson only 64 bits
        return json.dumps(value).encode()
    return orjson.dumps(spelled(value))


def spelled(value: Any) -> Any:
    """Return a whole number as an integer, as people and programs write it: shown JSONB keeps 7 and 7.0 apart."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def load(text: bytes) -> Any:
    """Return the JSON with its integers as they are, however long; every other number is a float64."""
    return json.loads(text) if _MANY_DIGITS.search(text) else orjson.loads(text)


def as_json_text(value: Any) -> str:
    """Return the one spelling of a value that travels as JSON text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def stays_in_json(value: Any) -> bool:
    """Say whether JSONB gives this back with the same spelling, all the way down."""
    if isinstance(value, dict):
        return all(fits_json(key) and stays_in_json(inner) for key, inner in value.items())
    if isinstance(value, list):
        return all(map(stays_in_json, value))
    return fits_json(value)


def number(value: Any) -> Any:
    """Return an integer as the float64 that it equals; one that equals none as it is: the plan's policy decides."""
    if type(value) is not int:
        return value
    try:
        as_float = float(value)
    except OverflowError:
        return value
    return as_float if as_float == value else value


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _same(value: Any) -> Any:
    return value


def _pack_json(value: Any) -> bytes:
    return JSONB_VERSION + dump(value)


def _json(value: bytes) -> Any:
    return number(load(bytes(value[len(JSONB_VERSION) :])))


def _nothing_fits(value: Any) -> Any:
    raise Unfit


def _text_packer(most: int | None) -> Callable[[Any], Any]:
    def pack(value: Any) -> Any:
        if not isinstance(value, str) or not fits_json(value) or (most is not None and len(value) > most):
            raise Unfit
        return value

    return pack


def _integer_packer(beyond: int) -> Callable[[Any], Any]:
    def pack(value: Any) -> Any:
        if type(value) is not float or not value.is_integer() or not fits_json(value):
            raise Unfit
        if not -beyond <= value < beyond or abs(value) > EXACT_INTEGER:
            raise Unfit
        return int(value)

    return pack


def _double(value: Any) -> Any:
    if type(value) is not float:
        raise Unfit
    return value


def _single(value: Any) -> Any:
    with np.errstate(over="ignore"):
        if type(value) is not float or float(np.float32(value)) != value:
            raise Unfit
    return value


def _flag(value: Any) -> Any:
    if not isinstance(value, bool):
        raise Unfit
    return value


def _texts(value: Any) -> Any:
    if not isinstance(value, list) or not fits_json(value):
        raise Unfit
    return value


def _time_packer(kind: str) -> Callable[[Any], Any]:
    zoned = kind == "timestamptz"

    def pack(value: Any) -> Any:
        if not isinstance(value, str) or not _TIME.fullmatch(value) or value.endswith("+00") is not zoned:
            raise Unfit
        try:
            return datetime.fromisoformat(value + ":00" if zoned else value)
        except ValueError as error:
            raise Unfit from error

    return pack
