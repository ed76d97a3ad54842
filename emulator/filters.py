"""The metadata filter language: `$eq $ne $gt $gte $lt $lte $in $nin $exists $and $or`, compiled to a predicate.

A field outside the namespace's filterable schema matches nothing: it is not in the service's metadata index. A document
index filters its text fields by their words instead: `$match_phrase $match_all $match_any`.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from emulator.document_schema import DocumentFields
from emulator.errors import Refusal, invalid
from emulator.records import Record
from emulator.text import has_phrase, words

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
_BY_WORDS: Mapping[str, Callable[[list[str], list[str]], bool]] = {
    "$match_phrase": has_phrase,
    "$match_all": lambda text, wanted: set(wanted) <= set(text),
    "$match_any": lambda text, wanted: not set(wanted).isdisjoint(text),
}


@dataclass(frozen=True)
class Scope:
    """The fields that a filter may name: of a namespace with a schema (None: every one), of a document index."""

    filterable: frozenset[str] | None = None
    document: DocumentFields | None = None


EVERY_FIELD = Scope()


def compile_filter(expression: object, scope: Scope = EVERY_FIELD) -> Filter:
    """Make a test of records. Raises the service's 400 when the expression is no filter."""
    predicate = _expression(expression, scope)
    return lambda record: predicate(record.fields())


def matches_words(expression: object) -> bool:
    """Say whether a filter looks into texts anywhere."""
    if isinstance(expression, Mapping):
        return any(key in _BY_WORDS or matches_words(value) for key, value in expression.items())
    return isinstance(expression, list) and any(map(matches_words, expression))


def _expression(expression: object, scope: Scope, depth: int = 0) -> Predicate:
    if not isinstance(expression, Mapping):
        raise invalid("The filter must be an object")
    if depth > MAX_DEPTH:
        raise invalid(f"The filter is nested more than {MAX_DEPTH} levels deep")
    tests = [_clause(key, value, scope, depth) for key, value in expression.items()]
    return lambda fields: all(test(fields) for test in tests)


def _clause(key: str, value: object, scope: Scope, depth: int) -> Predicate:
    if key in ("$and", "$or"):
        if not isinstance(value, list) or not value:
            raise invalid(f"the {key} operator must be followed by a non-empty list of filters")
        tests = [_expression(part, scope, depth + 1) for part in value]
        if key == "$and":
            return lambda fields: all(test(fields) for test in tests)
        return lambda fields: any(test(fields) for test in tests)
    if key.startswith("$"):
        raise invalid(f"{key} is not a valid operator")
    if scope.document and (scope.document.searched(key) or matches_words(value)):
        conditions = _word_conditions(key, value, scope.document)
        return lambda fields: all(test(fields) for test in conditions)
    if scope.filterable is not None and key not in scope.filterable:
        _conditions(key, value)
        return lambda fields: False
    conditions = _conditions(key, value)
    return lambda fields: all(test(fields) for test in conditions)


def _word_conditions(key: str, value: object, document: DocumentFields) -> list[Predicate]:
    text = document.texts.get(key)
    if text is None or not text.stored:
        raise invalid(f"Field '{key}' is no full-text search field; {', '.join(_BY_WORDS)} cannot be used on it")
    if not isinstance(value, Mapping) or not value or not all(name in _BY_WORDS for name in value):
        raise invalid(f"Field '{key}' is searched, not filtered: it takes {', '.join(_BY_WORDS)} only")
    if not text.whole_words:
        raise Refusal(501, f"The emulator matches whole words only, and field '{key}' has stems or ngrams")
    return [_word_condition(key, name, operand) for name, operand in value.items()]


def _word_condition(key: str, name: str, operand: object) -> Predicate:
    if not isinstance(operand, str) or not words(operand):
        raise invalid(f"the {name} operator must be followed by a text with a word in it, got {operand!r} instead")
    wanted, matches = words(operand), _BY_WORDS[name]
    return lambda fields: matches(words(str(fields.get(key, ""))), wanted)


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
