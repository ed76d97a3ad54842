"""Metadata maps: taken back they give the record as it was, and applied twice they change nothing more."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations.mapping import MARK, MetadataMap
from vecfleet import structs
from vecfleet.enriching import Conflict, ConflictPolicy
from vecfleet.records import Metadata

KEYS = ("a", "b", "c", "d", "e")
PLAIN = st.one_of(
    st.sampled_from(["x", "y", "", "x" * 200, 0.0, -0.0, 1.0, 7.5, True, False]),
    st.lists(st.text(max_size=2), max_size=2),
)
VALUES = PLAIN | st.integers(-(2**53), 2**53)
MARKS = st.sampled_from(["somebody's", "{}", '{"map":"another","was":{"a":1}}'])
POLICIES: tuple[ConflictPolicy, ...] = ("fail", "keep", "overwrite")


@st.composite
def maps(draw: st.DrawFn) -> MetadataMap:
    """Every operation over few keys, so that they meet: chains, swaps, keys that are dropped and read."""
    set_: dict[str, Any] = {}
    template: dict[str, str] = {}
    pairs: dict[str, dict[str, str]] = {"rename": {}, "copy": {}}
    for new in draw(st.permutations(KEYS)):
        match draw(st.sampled_from(["set", "rename", "copy", "template", "", ""])):
            case "set":
                set_[new] = draw(VALUES)
            case "template":
                template[new] = f"{{{draw(st.sampled_from(KEYS))}}}/{{{draw(st.sampled_from(KEYS))}}}"
            case "":
                pass
            case part:
                old = draw(st.sampled_from([key for key in KEYS if key != new]))
                pairs[part].setdefault(old, new)
    drop = draw(st.lists(st.sampled_from(KEYS), max_size=2, unique=True))
    return MetadataMap(set_, tuple(drop), pairs["rename"], pairs["copy"], template)


def records(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(
        lambda fields, mark: fields | mark,
        st.dictionaries(st.sampled_from((*KEYS, "other")), values, max_size=6),
        st.fixed_dictionaries({}, optional={MARK: MARKS}),
    )


def exact(metadata: Metadata) -> dict[str, tuple[type, str]]:
    """Tell 1 from 1.0 and True, and 0.0 from -0.0."""
    return {key: (type(value), repr(value)) for key, value in metadata.items()}


def seen(metadata: Metadata) -> dict[str, tuple[type, str]]:
    return exact({key: value for key, value in metadata.items() if key != MARK})


def applied(asked: MetadataMap, metadata: Metadata, policy: ConflictPolicy = "fail") -> Metadata:
    made = asked.applied(metadata, policy)
    assert not isinstance(made, Conflict), made
    return made


@given(maps(), records(VALUES), st.sampled_from(POLICIES))
def test_taken_back_a_record_is_what_it_was(
    asked: MetadataMap, metadata: dict[str, Any], policy: ConflictPolicy
) -> None:
    made = asked.applied(metadata, policy)
    if isinstance(made, Conflict):
        assert policy == "fail" and made.key in metadata
    else:
        back = asked.undone(made)
        assert back is not None and exact(back) == exact(metadata)


@given(maps(), records(VALUES), st.sampled_from(POLICIES))
def test_applied_to_what_it_made_it_changes_nothing_more_and_both_can_be_taken_back(
    asked: MetadataMap, metadata: dict[str, Any], policy: ConflictPolicy
) -> None:
    first = asked.applied(metadata, policy)
    if not isinstance(first, Conflict):
        second = applied(asked, first, "fail")
        assert seen(second) == seen(first)
        back = asked.undone(second)
        assert back is not None and exact(back) == exact(first)


@given(maps(), maps(), records(VALUES))
def test_of_two_maps_one_after_the_other_each_is_taken_back_by_itself(
    one: MetadataMap, other: MetadataMap, metadata: dict[str, Any]
) -> None:
    first = applied(one, metadata, "overwrite")
    second = applied(other, first, "overwrite")
    back = other.undone(second)
    assert back is not None and exact(back) == exact(first)
    if one.digest != other.digest:
        assert one.undone(second) is None


@given(maps(), records(PLAIN), st.sampled_from(POLICIES))
def test_metadata_in_the_form_of_the_wire_become_the_same(
    asked: MetadataMap, metadata: dict[str, Any], policy: ConflictPolicy
) -> None:
    plain = asked.applied(metadata, policy)
    read = asked.applied(structs.read(structs.written(metadata)), policy)
    if isinstance(plain, Conflict) or isinstance(read, Conflict):
        assert plain == read
    else:
        assert structs.read(structs.written(plain)) == structs.read(structs.written(read))
        assert not any(type(value) is int for value in read.values())  # as every number of the wire


def test_every_operation_reads_the_record_as_its_source_holds_it() -> None:
    asked = MetadataMap(
        set={"env": "prod"},
        drop=("secret",),
        rename={"a": "b", "b": "a"},
        copy={"secret": "kept"},
        template={"title": "{a} of {b}: {n}, {seen}, {tags} {{}}"},
    )
    record = {"a": "x", "b": "y", "secret": "s", "env": "dev", "n": 7.0, "seen": True, "tags": ["p", "q"]}
    made = {key: value for key, value in applied(asked, record).items() if key != MARK}
    assert made == {
        "a": "y",
        "b": "x",
        "kept": "s",
        "env": "prod",
        "n": 7.0,
        "seen": True,
        "tags": ["p", "q"],
        "title": "x of y: 7, true, p, q {}",
    }


def test_what_lacks_a_key_that_is_read_gets_nothing_for_it() -> None:
    asked = MetadataMap(rename={"a": "b"}, copy={"c": "d"}, template={"e": "{a} {f}"})
    assert seen(applied(asked, {"b": "stays", "f": "x"})) == seen({"b": "stays", "f": "x"})


@pytest.mark.parametrize(
    ("policy", "becomes"), [("keep", {"a": "x", "b": "y"}), ("overwrite", {"b": "x"}), ("fail", None)]
)
def test_a_new_name_that_is_taken_is_for_the_policy_to_decide(policy: ConflictPolicy, becomes: Any) -> None:
    made = MetadataMap(rename={"a": "b"}).applied({"a": "x", "b": "y"}, policy)
    assert made == Conflict("b") if becomes is None else seen(made) == seen(becomes)  # type: ignore[arg-type]


def test_only_what_cannot_be_read_back_travels() -> None:
    # Given a map whose renamed text is long
    asked = MetadataMap(set={"env": "prod"}, drop=("secret",), rename={"text": "body"}, template={"t": "{text}!"})
    made = applied(asked, {"text": "x" * 10_000, "secret": "s"})
    # Then its mark holds the dropped value, and no second copy of the text
    assert made[MARK] == f'{{"map":"{asked.digest}","was":{{"secret":"s"}}}}'


def test_what_somebody_changed_since_stays_when_the_map_is_taken_back() -> None:
    asked = MetadataMap(set={"env": "prod"}, drop=("secret",), rename={"a": "b"}, copy={"c": "d"})
    made = dict(applied(asked, {"a": "x", "c": "z", "secret": "s", "env": "dev"}))
    changed = made | {"b": "newer", "d": "newer too", "secret": "another", "env": "test", "more": 1.0}
    assert asked.undone(changed) == {
        "a": "newer",
        "c": "z",
        "d": "newer too",
        "secret": "another",
        "env": "test",
        "more": 1.0,
    }


def test_what_does_not_travel_leaves_no_mark_not_even_of_an_earlier_map() -> None:
    first = applied(MetadataMap(drop=("secret",)), {"secret": "s", "a": "x"})
    given_up = applied(MetadataMap(drop=("secret",), undo="none"), first)
    assert given_up == {"a": "x"}
    assert MetadataMap(drop=("secret",), undo="none").undone(given_up) is None


def test_a_store_that_keeps_integers_as_floats_does_not_count_as_somebodys_change() -> None:
    asked = MetadataMap(set={"year": 2024})
    made = dict(applied(asked, {"year": 1999.0}))
    assert asked.undone(made | {"year": 2024.0}) == {"year": 1999.0}


@pytest.mark.parametrize(
    "mark", ["{", "[]", '{"map":"%s","was":[]}', '{"map":"%s","gone":{}}', '{"map":"x %s"}', 7.0, "%s"]
)
def test_a_mark_that_is_somebody_elses_is_not_ours_to_take_back(mark: Any) -> None:
    asked = MetadataMap(drop=("a",))
    forged = mark % asked.digest if isinstance(mark, str) and "%s" in mark else mark
    assert asked.undone({MARK: forged}) is None


def test_filterable_fields_follow_the_map_there_and_back() -> None:
    asked = MetadataMap(set={"env": "prod"}, drop=("secret",), rename={"a": "b"}, copy={"c": "d"})
    there = asked.fields({"a": {"filterable": False}, "c": {"filterable": True}, "secret": {"filterable": True}})
    assert there == {
        "b": {"filterable": False},
        "c": {"filterable": True},
        "d": {"filterable": True},
        "env": {"filterable": True},
    }
    assert asked.fields(there, backward=True) == {
        "a": {"filterable": False},
        "c": {"filterable": True},
        "secret": {"filterable": True},
    }
