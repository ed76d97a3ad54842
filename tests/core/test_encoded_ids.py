"""Ids of any characters become ASCII and come back, whatever they look like."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vecfleet.errors import BadRequest
from vecfleet.records import Record
from vecfleet.stores.base import IndexInfo, Kind
from vecfleet.stores.encoded_ids import EncodedIds, decode, encode
from vecfleet.stores.memory import MemoryStore

# Any text, and texts that are made of what encoded ones are made of.
TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.text("~0123456789abcdefé\x7f\U0010ffff}")
INDEX = IndexInfo("shop", Kind.DENSE, 1, "cosine", host="shop.local")
ONE = b"\0\0\x80\x3f"


@given(TEXTS)
@example("caf~0000e9")
@example("~")
@example("~~00007e")
@example("\x7f")
def test_every_id_comes_back_from_ascii(id: str) -> None:
    assert encode(id).isascii()
    assert decode(encode(id)) == id


@given(TEXTS, TEXTS)
@example("café", "caf~0000e9")
@example("\x7f", "é")
@example("a}", "aé")
def test_no_two_ids_become_one_and_their_order_is_kept(one: str, other: str) -> None:
    assert (encode(one) == encode(other)) == (one == other)
    assert (encode(one).encode() < encode(other).encode()) == (one.encode() < other.encode())
    assert encode(one + other) == encode(one) + encode(other)


@given(st.text(st.characters(max_codepoint=ord("}"))))
def test_an_id_of_ascii_below_the_tilde_stays_as_it_is(id: str) -> None:
    assert encode(id) == id


def test_the_form_is_the_one_that_the_pages_state() -> None:
    assert encode("café") == "caf~0000e9"
    assert encode("日本") == "~0065e5~00672c"
    assert encode("a~b") == "a~00007eb"


@given(st.text("~0123456789abcdefgé", max_size=20))
def test_a_text_is_decoded_only_if_an_id_is_encoded_as_it(text: str) -> None:
    try:
        id = decode(text)
    except BadRequest as refusal:
        assert "is not an encoded one" in refusal.message
        assert not re.fullmatch(r"(?:[^~é]|~00007[ef]|~0000[89a-f][0-9a-f])*", text)
    else:
        assert encode(id) == text


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    store.create(INDEX)
    return store


def test_an_index_is_seen_with_the_ids_of_the_other_side(store: MemoryStore) -> None:
    raw, seen = store.open(INDEX), EncodedIds(store).open(INDEX)

    seen.upsert("n", [Record(id, ONE) for id in ("a", "zoë", "~0000eb")])

    assert raw.list_ids("n").ids == ["a", "zo~0000eb", "~00007e0000eb"]
    assert seen.list_ids("n").ids == ["a", "zoë", "~0000eb"]
    assert seen.list_ids("n", prefix="zoë").ids == ["zoë"]
    assert {id: record.id for id, record in seen.fetch("n", ["zoë", "zo~0000eb"]).records.items()} == {"zoë": "zoë"}
    assert {match.id for match in seen.query("n", Record("", ONE), 9).matches} == {"a", "zoë", "~0000eb"}
    assert seen.info is raw.info and EncodedIds(store).name == store.name
    seen.delete("n", ["zoë"])
    assert raw.list_ids("n").ids == ["a", "~00007e0000eb"]


def test_an_index_that_was_not_encoded_is_refused_with_what_to_do(store: MemoryStore) -> None:
    store.open(INDEX).upsert("n", [Record("a~b", ONE)])

    with pytest.raises(BadRequest, match="'a~b' is not an encoded one") as refusal:
        EncodedIds(store).open(INDEX).list_ids("n")

    assert "--encode-ids" in str(refusal.value.next_step)


def test_an_encoded_id_that_is_too_long_is_refused_before_anything_is_sent(store: MemoryStore) -> None:
    seen = EncodedIds(store).open(INDEX)

    with pytest.raises(BadRequest, match="525 characters"):
        seen.upsert("n", [Record("a", ONE), Record("é" * 75, ONE)])

    assert store.open(INDEX).list_ids("n").ids == []
