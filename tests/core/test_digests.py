"""Digests: equal for the same record however it is written down, different for anything else."""

import random
import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecfleet import digests
from vecfleet.digests import Tally, record_digest, record_sha256
from vecfleet.records import MetadataValue, Record, Sparse


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def sparse(entries: dict[int, float]) -> Sparse:
    return Sparse(struct.pack(f"<{len(entries)}I", *entries), floats(*entries.values()))


PLAIN = Record("a", floats(0.1, 0.2), None, {"k": "v"})

DIFFERENT: list[Record] = [
    PLAIN,
    replace(PLAIN, id="b"),
    replace(PLAIN, id=""),
    replace(PLAIN, values=floats(0.1, 0.3)),
    replace(PLAIN, values=floats(0.1)),
    replace(PLAIN, values=b""),
    replace(PLAIN, values=floats(0.0, 0.2)),
    replace(PLAIN, values=floats(-0.0, 0.2)),
    replace(PLAIN, sparse=sparse({1: 0.5})),
    replace(PLAIN, sparse=sparse({1: 0.25})),
    replace(PLAIN, sparse=sparse({2: 0.5})),
    replace(PLAIN, metadata={}),
    replace(PLAIN, metadata={"k": ""}),
    replace(PLAIN, metadata={"k": []}),
    replace(PLAIN, metadata={"k": ["v"]}),
    replace(PLAIN, metadata={"k": ["v", ""]}),
    replace(PLAIN, metadata={"k": ["a", "b"]}),
    replace(PLAIN, metadata={"k": ["b", "a"]}),
    replace(PLAIN, metadata={"k": ["ab"]}),
    replace(PLAIN, metadata={"k": True}),
    replace(PLAIN, metadata={"k": False}),
    replace(PLAIN, metadata={"k": 1.0}),
    replace(PLAIN, metadata={"k": 0.0}),
    replace(PLAIN, metadata={"k": "1"}),
    replace(PLAIN, metadata={"k": "true"}),
    replace(PLAIN, metadata={"k": 2**53 + 1}),
    replace(PLAIN, metadata={"k": float(2**53)}),
    replace(PLAIN, metadata={"k": 10**400}),
    replace(PLAIN, metadata={"k": "é"}),
    replace(PLAIN, metadata={"k": "e\u0301"}),
    replace(PLAIN, metadata={"k": "v", "l": "w"}),
    replace(PLAIN, metadata={"kv": ""}),
    replace(PLAIN, metadata={"": "kv"}),
]

SAME: list[tuple[str, Record, Record]] = [
    ("a whole number in either type", replace(PLAIN, metadata={"k": 1}), replace(PLAIN, metadata={"k": 1.0})),
    ("sparse values without entries and none", replace(PLAIN, sparse=Sparse(b"", b"")), PLAIN),
    (
        "sparse values in another order",
        replace(PLAIN, sparse=sparse({7: 0.5, 1: 0.25, 4_200_000_000: 1.0})),
        replace(PLAIN, sparse=sparse({1: 0.25, 7: 0.5, 4_200_000_000: 1.0})),
    ),
    (
        "metadata keys in another order",
        replace(PLAIN, metadata={"b": "1", "a": "2", "é": "3", "😀": "4", "\uffff": "5"}),
        replace(PLAIN, metadata={"\uffff": "5", "😀": "4", "é": "3", "a": "2", "b": "1"}),
    ),
]


@pytest.mark.parametrize("digest", [record_digest, record_sha256])
def test_records_that_differ_have_different_digests(digest) -> None:  # type: ignore[no-untyped-def]
    assert len({digest(record) for record in DIFFERENT}) == len(DIFFERENT)


@pytest.mark.parametrize(("one", "other"), [pair[1:] for pair in SAME], ids=[pair[0] for pair in SAME])
def test_one_record_written_down_in_two_ways_has_one_digest(one: Record, other: Record) -> None:
    assert record_digest(one) == record_digest(other)
    assert record_sha256(one) == record_sha256(other)


def test_the_canonical_form_is_this_one_until_the_version_is_raised() -> None:
    """Stored digests outlive a release: a change of the canonical form must raise DIGEST_VERSION."""
    record = Record(
        "id-é", floats(0.1, -0.0), sparse({9: 1.5, 2: 0.5}), {"z": "ü", "n": 7.0, "b": True, "l": ["x", "y"], "a": 3}
    )
    form = (
        b"\x01I\x05\0\0\0id-\xc3\xa9"
        b"V\x08\0\0\0" + floats(0.1, -0.0) + b"S\x02\0\0\0" + struct.pack("<2I2f", 2, 9, 0.5, 1.5) + b"M\x05\0\0\0"
        b"\x01\0\0\0an" + struct.pack("<d", 3) + b"\x01\0\0\0bt"
        b"\x01\0\0\0ll\x02\0\0\0\x01\0\0\0x\x01\0\0\0y"
        b"\x01\0\0\0nn" + struct.pack("<d", 7) + b"\x01\0\0\0zs\x02\0\0\0\xc3\xbc"
    )

    assert digests.DIGEST_VERSION == 1
    assert digests._canonical(record) == form


def test_half_a_character_has_a_digest_too() -> None:
    assert record_digest(replace(PLAIN, metadata={"k": "\ud83d"})) != record_digest(PLAIN)


def test_metadata_of_another_type_has_no_digest() -> None:
    nested: dict[str, MetadataValue] = {"k": {"nested": 1}}  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="not dict"):
        record_digest(replace(PLAIN, metadata=nested))


ids = st.lists(st.text(max_size=8), max_size=30)


@given(ids, st.randoms())
def test_a_tally_does_not_depend_on_the_order(listed: list[str], chance: random.Random) -> None:
    shuffled = list(listed)
    chance.shuffle(shuffled)

    assert Tally.of_ids(shuffled) == Tally.of_ids(listed)


@given(ids, ids)
def test_tallies_add_and_subtract_like_the_sets_they_stand_for(some: list[str], more: list[str]) -> None:
    assert Tally.of_ids(some) + Tally.of_ids(more) == Tally.of_ids(some + more)
    assert Tally.of_ids(some + more) - Tally.of_ids(more) == Tally.of_ids(some)


def test_a_record_that_is_there_twice_does_not_cancel_itself() -> None:
    twice = Tally.of([PLAIN, PLAIN])

    assert twice.count == 2
    assert twice.digest not in (0, Tally.of([PLAIN]).digest)


@given(ids)
def test_a_tally_survives_being_stored_as_sixteen_bytes(listed: list[str]) -> None:
    tally = Tally.of_ids(listed)

    assert len(tally.digest_bytes) == 16
    assert Tally.from_bytes(tally.count, tally.digest_bytes) == tally


def test_an_empty_tally_is_zero() -> None:
    assert Tally.of([]) == Tally() == Tally.of([PLAIN]) - Tally.of([PLAIN])
