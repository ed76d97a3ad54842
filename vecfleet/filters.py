"""Metadata filters as Pinecone writes them, matched here against records as they were read.

`$eq $ne $gt $gte $lt $lte $in $nin $exists $and $or`. As in the service, a record without a field matches no condition
on it but `{"$exists": false}`, a list matches by each of its texts, and `true` is not `1`. Different from the service:
every key counts, also one that the namespace's schema leaves out; and a filter without a condition is refused, at any
depth, for it matches every record.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any

from vecfleet.errors import BadInput
from vecfleet.records import Metadata

Matches = Callable[[Metadata], bool]
_Token = tuple[type, Any]

MAX_DEPTH = 50
SET_VALUES = 10_000
_ORDERED: Mapping[str, Callable[[float, float], bool]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}


def compile_filter(expression: object) -> Matches:
    """Return a test of a record's metadata. Raises BadInput for what is no filter; no message holds a value of it."""
    return _expression(expression, 0)


def keys_of(expression: object) -> list[str]:
    """Return the metadata keys that a filter names, sorted, and none of its values."""
    if isinstance(expression, Mapping):
        own = {key for key in expression if not key.startswith("$")}
        return sorted(own.union(*(keys_of(expression.get(name)) for name in ("$and", "$or"))))
    if isinstance(expression, list):
        return sorted(set[str]().union(*map(keys_of, expression)))
    return []


def _expression(expression: object, depth: int) -> Matches:
    if not isinstance(expression, Mapping):
        raise _unusable("a filter is an object")
    if not expression:
        raise _unusable("a filter without a condition matches every record")
    if depth > MAX_DEPTH:
        raise _unusable(f"a filter is nested more than {MAX_DEPTH} levels deep")
    return _all([_clause(key, value, depth) for key, value in expression.items()])


def _clause(key: object, value: object, depth: int) -> Matches:
    if not isinstance(key, str):
        raise _unusable("a filter's key is no text")
    if key in ("$and", "$or"):
        if not isinstance(value, list) or not value:
            raise _unusable(f"{key} takes a list of filters that is not empty")
        tests = [_expression(part, depth + 1) for part in value]
        return _all(tests) if key == "$and" else lambda metadata: any(test(metadata) for test in tests)
    if key.startswith("$"):
        raise _unusable(f"{key} is no operator between filters")
    conditions = value if isinstance(value, Mapping) else {"$eq": value}
    if not conditions:
        raise _unusable(f"the filter on {key!r} has no condition")
    return _all([_condition(key, name, operand) for name, operand in conditions.items()])


def _all(tests: list[Matches]) -> Matches:
    return lambda metadata: all(test(metadata) for test in tests)


def _condition(key: str, name: str, operand: object) -> Matches:
    if name in ("$eq", "$ne", "$in", "$nin"):
        wanted = _set(name, operand) if name in ("$in", "$nin") else frozenset({_scalar(name, operand)})
        holds = name in ("$eq", "$in")
        return lambda metadata: key in metadata and wanted.isdisjoint(_tokens(metadata[key])) is not holds
    if name in _ORDERED:
        token = _token(operand)
        if token is None or token[0] is not float:
            raise _unusable(f"{name} takes a number")
        bound, compare = token[1], _ORDERED[name]

        def is_ordered(metadata: Metadata) -> bool:
            found = _token(metadata.get(key))
            return found is not None and found[0] is float and compare(found[1], bound)

        return is_ordered
    if name == "$exists":
        if not isinstance(operand, bool):
            raise _unusable("$exists takes true or false")
        return lambda metadata: (key in metadata) is operand
    raise _unusable(f"{name} is no operator")


def _scalar(name: str, operand: object) -> _Token:
    token = _token(operand)
    if token is None:
        raise _unusable(f"{name} takes texts, numbers, true and false")
    return token


def _set(name: str, operand: object) -> frozenset[_Token]:
    if not isinstance(operand, list) or len(operand) > SET_VALUES:
        raise _unusable(f"{name} takes a list of at most {SET_VALUES:,} values")
    return frozenset(_scalar(name, value) for value in operand)


def _token(value: object) -> _Token | None:
    """Return a value that tells `true` from `1`, which Python calls equal. Numbers are float64, as the service's."""
    if isinstance(value, bool | str):
        return type(value), value
    if isinstance(value, int | float):
        try:
            return float, float(value)
        except OverflowError:  # no metadata holds such a number
            return None
    return None


def _tokens(value: object) -> frozenset[_Token]:
    values = value if isinstance(value, list) else [value]
    return frozenset(token for token in map(_token, values) if token is not None)


def _unusable(message: str) -> BadInput:
    return BadInput(message, next_step='write it as Pinecone does: {"source_id": {"$eq": "doc-7"}}')
