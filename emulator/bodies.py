"""Lines of a request or a file, and members of a JSON body, each checked for its type."""

from collections.abc import Mapping
from typing import Any

import orjson

from emulator.errors import invalid

Body = Mapping[str, object]


def object_of_line(line: bytes) -> dict[str, Any]:
    """Return the JSON object that one of several lines is."""
    try:
        body = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise invalid(f"Each line must be a JSON object: {error}") from None
    if not isinstance(body, dict):
        raise invalid("Each line must be a JSON object")
    return body


def object_in(body: Body, name: str) -> Body | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, dict):
        raise invalid(f"{name} must be an object")
    return value


def integer_in(body: Body, name: str, default: int | None = None) -> int:
    value = body.get(name, default)
    if type(value) is not int:
        raise invalid(f"{name} must be an integer" if name in body else f"{name} is required")
    return value


def flag_in(body: Body, name: str) -> bool:
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise invalid(f"{name} must be true or false")
    return value


def strings_in(body: Body, name: str) -> list[str]:
    """Return a list of strings; an absent one is empty."""
    value = body.get(name) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise invalid(f"{name} must be a list of strings")
    return value


def token_in(body: Body, name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise invalid(f"{name} must be a string")
    return value
