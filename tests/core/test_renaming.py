"""New names are the same on every run, for every name, and never two sources' by accident."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations.renaming import Naming, Pair, Template, glob, matches, parsed
from vecfleet.errors import BadInput

# Few characters, so that globs often match; with those that mean something in a glob, a pair or a template.
TEXTS = st.text(alphabet="ab-*?\\={}1é\n", max_size=8)
NAMES = st.text(alphabet="ab-*\\={}", min_size=1, max_size=8)
GLOBS = st.text(alphabet="ab-*?", min_size=1, max_size=8)
VALUES = st.text(alphabet="ab-", min_size=1, max_size=4)
TEMPLATES = st.lists(st.sampled_from(["a", "b-", "{{", "}}", "{value}"]), min_size=1, max_size=5).map("".join)


def escaped(name: str) -> str:
    return re.sub(r"([\\*?=])", r"\\\1", name)


@given(text=GLOBS, name=st.text(alphabet="ab-\n", max_size=12))
def test_a_glob_matches_what_trying_every_way_would(text: str, name: str) -> None:
    every_way = "".join({"*": "(.*?)", "?": "(.)"}.get(char, re.escape(char)) for char in text)
    expected = re.fullmatch(every_way, name, re.DOTALL)
    found = glob(text).fullmatch(name)
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        # Then it also divides the name alike: each wildcard, from the left, stands for as little as will do
        assert found.groups() == expected.groups()


@given(name=NAMES, other=NAMES)
def test_an_escaped_name_matches_itself_and_nothing_else(name: str, other: str) -> None:
    assert bool(glob(escaped(name)).fullmatch(other)) == (name == other)


def test_a_glob_of_many_wildcards_takes_no_time_on_a_name_that_it_nearly_matches() -> None:
    assert matches("*a" * 30 + "b", ["a" * 500]) == set()


@given(old=TEXTS, new=TEXTS)
def test_every_pair_is_either_understood_or_refused_with_a_next_step(old: str, new: str) -> None:
    try:
        pair = Pair.read(f"{old}={new}")
    except BadInput as error:
        assert error.next_step
    else:
        assert Pair.read(str(pair)) == pair


@given(old=NAMES, new=NAMES)
def test_a_pair_of_plain_names_gives_the_new_one(old: str, new: str) -> None:
    pair = Pair.read(f"{escaped(old)}={new.replace('{', '{{').replace('}', '}}')}")
    template = pair.renamed(old)
    assert template is not None and template.name == new


@given(text=TEMPLATES, value=VALUES)
def test_a_template_is_read_as_it_was_written(text: str, value: str) -> None:
    template = parsed(text)
    assert parsed(template.text) == template
    assert template.of(value) == text.replace("{value}", value).replace("{{", "{").replace("}}", "}")
    assert template.may_be(template.of(value))


@given(one=TEMPLATES, other=TEMPLATES, values=st.tuples(VALUES, VALUES))
def test_templates_that_give_one_name_are_known_to_meet(one: str, other: str, values: tuple[str, str]) -> None:
    first, second = parsed(one), parsed(other)
    assert first.may_meet(second) == second.may_meet(first)
    if first.of(values[0]) == second.of(values[1]):
        assert first.may_meet(second)


@pytest.mark.parametrize("text", ["{", "a}", "{0}", "{b}", "{value", "{100}"])
def test_a_brace_that_makes_no_place_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="makes no place"):
        parsed(text)


@pytest.mark.parametrize("text", ["a", "=a", "a=", "a\\=b"])
def test_what_is_no_pair_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="lacks its new name"):
        Pair.read(text)


def test_a_place_for_a_wildcard_that_is_not_there_is_refused() -> None:
    with pytest.raises(BadInput, match=r"asks for \{2\}"):
        Pair.read("tenant-*=t/{2}")


PAIRS = st.lists(
    st.builds(lambda old, new: Pair(old, new), GLOBS, st.sampled_from(["x", "y-{value}", "z"])), max_size=4
).map(tuple)


@given(pairs=PAIRS, namespaces=st.sets(st.text(alphabet="ab-", min_size=1, max_size=4), max_size=8), value=VALUES)
def test_names_are_the_same_on_every_run_and_two_sources_share_none_unless_that_was_asked_for(
    pairs: tuple[Pair, ...], namespaces: set[str], value: str
) -> None:
    for keeps_others in (False, True):
        naming = Naming(pairs=pairs, keeps_others=keeps_others, key="k")
        there = sorted(namespaces)
        templates = naming.templates(there)
        # Deterministic, whatever the order, and total
        assert templates == naming.templates(there[::-1])
        matched = {name for pair in pairs for name in matches(pair.old, there)}
        assert set(templates) == (namespaces if keeps_others else matched)
        # Injective, unless somebody is told
        names = [template.of(value) for template in templates.values()]
        if len(set(names)) < len(names):
            assert any("would come together" in said for said in naming.objections("i", there, there))
        assert not any(
            "would come together" in said for said in Naming(pairs=pairs, merges=True).objections("i", there, there)
        )


def objections(*pairs: str, namespaces: str = "a ab b", **options: object) -> list[str]:
    naming = Naming(pairs=tuple(map(Pair.read, pairs)), keeps_others=False, **options)  # type: ignore[arg-type]
    return naming.objections("shop", namespaces.split(), namespaces.split())


@pytest.mark.parametrize(
    ("pairs", "options", "sentence"),
    [
        (["nope=x"], {}, "no namespace of the index 'shop' matches 'nope'; it holds 'a', 'ab', 'b'"),
        (["a*={1}1", "ab=x"], {}, "'ab=x' comes too late"),
        (["a=x", "b=x"], {}, "records of 'a', 'b' would come together in 'x'"),
        (["a={value}", "b=x"], {"key": "k"}, "records of 'a', 'b' would come together in 'x'"),
        (["a=1{value}", "b=2{value}"], {"key": "k", "otherwise": "rest"}, "'a', 'b' would come together in 'rest'"),
        (["a=1{value}"], {}, "and none is named: `plan namespaces … --by KEY`"),
        (["a=x"], {"key": "k"}, "nothing is split by 'k'"),
        (["a=x"], {"otherwise": "rest"}, "--else is for records that lack a key"),
    ],
)
def test_what_cannot_be_meant_is_said(pairs: list[str], options: dict[str, object], sentence: str) -> None:
    assert any(sentence in said for said in objections(*pairs, **options))


def test_what_can_be_meant_is_not_objected_to() -> None:
    assert objections("ab=x", "a*=y{1}", "b={{{value}}}", key="k", otherwise="rest") == []
    assert objections("a=x", "b=x", merges=True) == []
    # A source's own records may come together
    assert objections("a=t{value}", key="k", otherwise="t1") == []


def test_the_default_namespace_has_its_one_spelling() -> None:
    assert matches("", ["__default__", "a"]) == {"__default__"}
    assert Naming(pairs=(Pair("__default__", "x"),)).templates(["__default__"]) == {"__default__": Template(("x",))}
