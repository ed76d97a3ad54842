"""A metadata filter matches here what it matches in the emulator, which shares no code with it."""

import functools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import Refusal
from emulator.filters import compile_filter as compile_there
from emulator.records import Record, clean_fields, pack_metadata
from vecfleet.errors import BadInput
from vecfleet.filters import compile_filter, keys_of

KEYS = st.sampled_from(["a", "b", "c"])
TEXTS = st.sampled_from(["", "x", "1", "true"])
NUMBERS = st.sampled_from([0, 1, 1.0, -2.5, 2**53 + 1, 1e300])
SCALARS = TEXTS | NUMBERS | st.booleans()
METADATA = st.dictionaries(KEYS, SCALARS | st.lists(TEXTS, max_size=3))
ODD = st.none() | st.lists(SCALARS, max_size=2) | st.dictionaries(TEXTS, SCALARS, max_size=1)
CONDITION = (
    st.dictionaries(st.sampled_from(["$eq", "$ne"]), SCALARS | ODD, min_size=1)
    | st.dictionaries(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), NUMBERS | SCALARS, min_size=1)
    | st.dictionaries(st.sampled_from(["$in", "$nin"]), st.lists(SCALARS) | SCALARS, min_size=1)
    | st.dictionaries(st.sampled_from(["$exists", "$regex"]), st.booleans(), min_size=1)
)
LEAVES = st.dictionaries(KEYS, CONDITION | SCALARS | st.lists(TEXTS), min_size=1, max_size=2)
FILTERS = st.recursive(
    LEAVES, lambda inner: st.dictionaries(st.sampled_from(["$and", "$or"]), st.lists(inner, max_size=3), min_size=1)
)


@given(FILTERS, METADATA)
def test_the_emulator_answers_the_same(expression: dict[str, Any], metadata: dict[str, Any]) -> None:
    record = Record("r", b"", None, pack_metadata(clean_fields(metadata, "r")))
    try:
        expected = compile_there(expression)(record)
    except Refusal:
        with pytest.raises(BadInput):
            compile_filter(expression)
    else:
        assert compile_filter(expression)(metadata) is expected


@pytest.mark.parametrize(
    "expression",
    [
        {},
        {"$and": [{}]},
        {"$or": [{"a": 1}, {}]},
        [],
        "a",
        {1: "a"},
        {"a": {"$in": list(range(10_001))}},
        {"a": {"$gt": 10**400}},
        functools.reduce(lambda inner, _: {"$and": [inner]}, range(400), dict[str, object](a=1)),
    ],
)
def test_a_filter_of_everything_and_one_that_is_none_are_refused(expression: object) -> None:
    with pytest.raises(BadInput) as refused:
        compile_filter(expression)
    assert refused.value.next_step


def test_no_message_holds_a_value_of_the_filter() -> None:
    for expression in (
        {"a": {"$gt": "ana@example.org"}},
        {"a": ["ana@example.org"]},
        {"a": {"$in": "ana@example.org"}},
    ):
        with pytest.raises(BadInput) as refused:
            compile_filter(expression)
        assert "ana@" not in refused.value.message


def test_the_keys_of_a_filter_are_told_without_its_values() -> None:
    expression = {"$or": [{"b": "x"}, {"$and": [{"a": {"$exists": True}}, {"b": 1}]}], "c": {"$in": ["a", "z"]}}
    assert keys_of(expression) == ["a", "b", "c"]
