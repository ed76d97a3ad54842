"""The metadata filter language: `$eq $ne $gt $gte $lt $lte $in $nin $exists $and $or`, compiled to a predicate.

A field outside the namespace's filterable schema matches nothing: it is not in the service's metadata index.
"""

import operator
from collections.abc import Callable, Mapping

from emulator.errors import Refusal, invalid
from emulator.records import Record

Fields = Mapping[str, object]
Predicate = Callable[[Fields], bool]
Filter = Callable[[Record], bool]

SET_VALUES = 10_000
MAX_DEPTH = 50  # our own limit, to protect the interpreter's stack
_ORDERED: Mapping[str, Callable[[float, float], bool]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}


def compile_filter(expression: object, filterable: frozenset[str] | None = None) -> Filter:
    """Make a test of records. Raises the service's 400 when the expression is no filter."""
    predicate = _expression(expression, filterable)
    return lambda record: predicate(record.fields())


def _expression(expression: object, filterable: frozenset[str] | None, depth: int = 0) -> Predicate:
    if not isinstance(expression, Mapping):
        raise invalid("The filter must be an object")
    if depth > MAX_DEPTH:
        raise invalid(f"The filter is nested more than {MAX_DEPTH} levels deep")
    tests = [_clause(key, value, filterable, depth) for key, value in expression.items()]
    return lambda fields: all(test(fields) for test in tests)


def _clause(key: str, value: object, filterable: frozenset[str] | None, depth: int) -> Predicate:
    if key in ("$and", "$or"):
        if not isinstance(value, list) or not value:
            raise invalid(f"the {key} operator must be followed by a non-empty list of filters")
        tests = [_expression(part, filterable, depth + 1) for part in value]
        if key == "$and":
            return lambda fields: all(test(fields) for test in tests)
        return lambda fields: any(test(fields) for test in tests)
    if key.startswith("$"):
        raise invalid(f"{key} is not a valid operator")
    if filterable is not None and key not in filterable:
        _conditions(key, value)
        return lambda fields: False
    conditions = _conditions(key, value)
    return lambda fields: all(test(fields) for test in conditions)


def _conditions(key: str, value: object) -> list[Predicate]:
    if not isinstance(value, Mapping):
        value = {"$eq": value}
    if not value:
        raise invalid(f"the filter on field '{key}' has no condition")
    return [_condition(key, name, operand) for name, operand in value.items()]


def _condition(key: str, name: str, operand: object) -> Predicate:
    if name in ("$eq", "$ne"):
        wanted = _scalar(name, operand)
        if name == "$eq":
            return lambda fields: key in fields and _holds(fields[key], wanted)
        return lambda fields: key in fields and not _holds(fields[key], wanted)
    if name in _ORDERED:
        if isinstance(operand, bool) or not isinstance(operand, (int, float)):
            raise invalid(f"the {name} operator must be followed by a number, got {operand!r} instead")
        bound, compare = float(operand), _ORDERED[name]

        def ordered(fields: Fields) -> bool:
            value = fields.get(key)
            return isinstance(value, float) and compare(value, bound)

        return ordered
    if name in ("$in", "$nin"):
        wanted_set = _set(name, operand)
        if name == "$in":
            return lambda fields: key in fields and bool(_tokens(fields[key]) & wanted_set)
        return lambda fields: key in fields and not _tokens(fields[key]) & wanted_set
    if name == "$exists":
        if not isinstance(operand, bool):
            raise invalid("the $exists operator must be followed by a boolean")
        return lambda fields: (key in fields) is operand
    raise invalid(f"{name} is not a valid operator")


def _scalar(name: str, operand: object) -> tuple[type, object]:
    token = _token(operand)
    if token is None:
        raise invalid(f"the {name} operator must be followed by a string, boolean or a number, got {operand!r} instead")
    return token


def _set(name: str, operand: object) -> frozenset[tuple[type, object]]:
    if not isinstance(operand, list):
        raise invalid(f"the {name} operator must be followed by a list of strings, booleans or numbers")
    if len(operand) > SET_VALUES:
        raise Refusal(400, f"the {name} operator may be followed by at most {SET_VALUES} values, got {len(operand)}")
    tokens = [_scalar(name, item) for item in operand]
    return frozenset(tokens)


def _token(value: object) -> tuple[type, object] | None:
    """Return a value that tells `true` from `1.0`, which Python calls equal."""
    if isinstance(value, bool):
        return bool, value
    if isinstance(value, (int, float)):
        return float, float(value)
    if isinstance(value, str):
        return str, value
    return None


def _tokens(value: object) -> frozenset[tuple[type, object]]:
    values = value if isinstance(value, list) else [value]
    return frozenset(token for token in map(_token, values) if token is not None)


def _holds(value: object, wanted: tuple[type, object]) -> bool:
    """Compare; a list of strings equals each string in it."""
    return wanted in _tokens(value)
