"""The filter language as a table."""

import functools

import pytest

from emulator.errors import Refusal
from emulator.filters import Scope, compile_filter
from emulator.records import Record, clean_fields, pack_metadata

FIELDS = {"year": 2019, "genre": "drama", "tags": ["a", "b"], "public": True, "one": 1, "empty": ""}
RECORD = Record("r", b"", None, pack_metadata(clean_fields(FIELDS, "r")))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ({}, True),
        ({"genre": "drama"}, True),
        ({"genre": {"$eq": "comedy"}}, False),
        ({"genre": {"$ne": "comedy"}}, True),
        ({"absent": {"$ne": "x"}}, False),
        ({"year": 2019.0}, True),
        ({"year": {"$gt": 2018, "$lte": 2019}}, True),
        ({"year": {"$gte": 2020}}, False),
        ({"genre": {"$lt": 5}}, False),
        ({"public": True}, True),
        ({"public": 1}, False),
        ({"one": True}, False),
        ({"tags": "a"}, True),
        ({"tags": {"$in": ["z", "b"]}}, True),
        ({"tags": {"$nin": ["z"]}}, True),
        ({"tags": {"$nin": ["a"]}}, False),
        ({"genre": {"$in": []}}, False),
        ({"absent": {"$exists": False}}, True),
        ({"absent": {"$exists": True}}, False),
        ({"empty": {"$exists": True}}, True),
        ({"$and": [{"genre": "drama"}, {"year": 2019}]}, True),
        ({"$or": [{"genre": "comedy"}, {"year": {"$lt": 2000}}]}, False),
        ({"$or": [{"genre": "comedy"}, {"$and": [{"public": True}, {"tags": "b"}]}]}, True),
    ],
)
def test_what_matches(expression: dict[str, object], expected: bool) -> None:
    assert compile_filter(expression)(RECORD) is expected


@pytest.mark.parametrize(
    "expression",
    [
        [],
        {"$not": {"a": 1}},
        {"$and": []},
        {"$and": {"a": 1}},
        {"a": {"$regex": "x"}},
        {"a": {"$gt": "x"}},
        {"a": {"$gt": True}},
        {"a": {"$in": "x"}},
        {"a": {"$in": [["x"]]}},
        {"a": {"$in": list(range(10_001))}},
        {"a": {"$exists": 1}},
        {"a": {}},
        {"a": None},
        functools.reduce(lambda inner, _: {"$and": [inner]}, range(400), dict[str, object](a=1)),
    ],
)
def test_what_is_no_filter(expression: object) -> None:
    with pytest.raises(Refusal) as refusal:
        compile_filter(expression)
    assert refusal.value.status == 400


def test_a_field_outside_the_schema_matches_nothing() -> None:
    assert not compile_filter({"genre": "drama"}, Scope(frozenset(["year"])))(RECORD)
    assert compile_filter({"year": 2019}, Scope(frozenset(["year"])))(RECORD)
    assert compile_filter({"$or": [{"genre": "drama"}, {"year": 2019}]}, Scope(frozenset(["year"])))(RECORD)
