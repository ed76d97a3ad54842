"""Namespace names: parsing is the exact inverse of building, and no two tenants share a namespace."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecfleet import names
from vecfleet.errors import BadName
from vecfleet.names import Tenant

AWKWARD = ["x", "x_twin", "twin", "twin_y", "_twin", "twin_", "a.1", "a", "creator_x", "", "z" * 512, "é", "名前"]
PAIRS = list(product(AWKWARD, [None, *AWKWARD]))
ALPHABET = st.text(alphabet="_twinx.é\0", max_size=14)
PIECES = st.lists(st.sampled_from(["creator_", "_twin_", "_twin", "twin_", "_", "x", "y"]), max_size=5).map("".join)


def built(creator: str, twin: str | None) -> str | None:
    try:
        return names.build(creator, twin)
    except BadName:
        return None


@pytest.mark.parametrize(("creator", "twin"), PAIRS)
def test_a_name_parses_back_to_the_pair_it_was_built_from_or_is_refused_with_a_sentence(
    creator: str, twin: str | None
) -> None:
    try:
        name = names.build(creator, twin)
    except BadName as refusal:
        assert refusal.message and refusal.next_step
    else:
        assert names.parse(name) == Tenant(creator, twin)
        assert len(name) <= names.MAX_CHARS


def test_no_two_pairs_share_a_namespace() -> None:
    taken = [name for creator, twin in PAIRS if (name := built(creator, twin)) is not None]

    assert len(taken) == len(set(taken))
    assert len(taken) > 20


@given(st.one_of(ALPHABET, PIECES), st.one_of(st.none(), ALPHABET, PIECES))
def test_building_any_pair_parses_back_or_is_refused(creator: str, twin: str | None) -> None:
    name = built(creator, twin)

    assert name is None or names.parse(name) == Tenant(creator, twin)


@given(st.one_of(ALPHABET, PIECES).map(lambda rest: "creator_" + rest))
def test_whatever_parses_builds_back_to_the_same_name(namespace: str) -> None:
    tenant = names.parse(namespace)

    assert tenant is None or names.build(tenant.creator, tenant.twin) == namespace


def test_the_two_tenants_that_would_share_a_namespace_cannot_both_have_one() -> None:
    assert names.build("x", "twin_y") == "creator_x_twin_twin_y"
    with pytest.raises(BadName, match="nor end in _twin"):
        names.build("x_twin", "y")


@pytest.mark.parametrize(
    "namespace", ["", "__default__", "public", "creator_", "creator_x_twin", "creator_x_twin_", "Creator_x", "x"]
)
def test_other_names_are_no_tenants(namespace: str) -> None:
    assert names.parse(namespace) is None


def test_a_creator_is_not_matched_by_prefix() -> None:
    assert names.belongs_to("creator_a", "a")
    assert names.belongs_to("creator_a_twin_t", "a")
    assert names.belongs_to("creator_a_twin_t", "a", "t")
    assert not names.belongs_to("creator_ab", "a")
    assert not names.belongs_to("creator_ab_twin_t", "a")
    assert not names.belongs_to("creator_a_twin_tt", "a", "t")
    assert not names.belongs_to("creator_a", "a", "t")
    assert not names.belongs_to("public", "a")


def test_the_default_namespace_has_one_spelling() -> None:
    assert names.canonical("") == names.canonical("__default__") == names.DEFAULT
    assert names.canonical("public") == names.PUBLIC


@pytest.mark.parametrize("name", ["support_bot", "abc", "a1_2", "a" * 64])
def test_semantic_twin_names_are_taken(name: str) -> None:
    names.check_semantic_twin_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "ab", "a" * 65, "1abc", "_abc", "Abc", "a-b-c", "a__b", "abc_", "abc\n", "été", "default", "system", "null"],
)
def test_other_twin_names_are_refused_with_a_sentence(name: str) -> None:
    with pytest.raises(BadName) as refusal:
        names.check_semantic_twin_name(name)
    assert refusal.value.next_step


def test_a_misspelt_name_is_answered_by_the_nearest_ones() -> None:
    assert names.meant("prd", ["prod", "staging"]) == "; did you mean 'prod'?"
    assert (
        names.meant("coach-tset", ["coach-test", "coach-best", "x"]) == "; did you mean 'coach-test' or 'coach-best'?"
    )
    assert names.meant("5698a809", ["5698a809-87a5-4169-ab9b", "x"]) == "; did you mean '5698a809-87a5-4169-ab9b'?"
    assert names.meant("prod", ["x"]) == names.meant("prod", []) == ""
