"""Enrichment: what is added can be taken off again, whatever was there before, and the caller's data is left alone."""

import copy
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations.enriching import PREVIOUS, Conflict, ConflictPolicy, enrich, restore
from migrations.routing import Owner, Routed
from vecfleet.digests import record_digest
from vecfleet.records import Record, Sparse

SOURCE = "5698a809"
TWIN = Routed("creator_ana_twin_t", Owner("ana", "t"))
CREATOR_WIDE = Routed("creator_ana", Owner("ana"))
UNOWNED = Routed("review", None, "review")
NO_OWNER = Routed("same", None)

VALUES = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["ana", "t", SOURCE, "{}", '{"creator_id":"x"}', "\ud800", "名前"]),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.lists(st.text(max_size=3), max_size=3),
)
KEYS = st.one_of(
    st.sampled_from(["creator_id", "twin_id", "migrated_from", "needs_review", PREVIOUS, "text"]), st.text(max_size=4)
)
METADATA = st.dictionaries(KEYS, VALUES, max_size=7)
ROUTES = st.sampled_from([TWIN, CREATOR_WIDE, UNOWNED, NO_OWNER])


FOREIGN = st.fixed_dictionaries(
    {"text": st.text(max_size=4)},
    optional={
        "migrated_from": VALUES,
        PREVIOUS: VALUES | st.sampled_from(['{"migrated_from":"bruno"}', '{"_vecfleet_prev":"{}"}', "null", "[1]"]),
        "creator_id": VALUES,
    },
)


def record(**metadata: Any) -> Record:
    return Record("r", b"\1\2\3\4", Sparse(b"\0\0\0\1", b"\0\0\0\2"), metadata)


@given(METADATA, ROUTES, st.sampled_from(["fail", "keep", "overwrite"]))
def test_restoring_what_was_enriched_gives_the_record_as_it_was(
    metadata: dict[str, Any], routed: Routed, policy: ConflictPolicy
) -> None:
    before = Record("r", b"\1\2\3\4", metadata=metadata)
    enriched = enrich(before, SOURCE, routed, policy)
    if isinstance(enriched, Conflict):
        assert policy == "fail" and enriched.key in metadata
    else:
        assert restore(enriched, SOURCE, routed).metadata == metadata


@given(FOREIGN, ROUTES, st.sampled_from(["fail", "keep", "overwrite"]))
def test_a_record_always_names_the_source_it_came_from_and_remembers_what_it_named_before(
    metadata: dict[str, Any], routed: Routed, policy: ConflictPolicy
) -> None:
    before = Record("r", b"\1\2\3\4", metadata=metadata)
    enriched = enrich(before, SOURCE, routed, policy)
    if isinstance(enriched, Conflict):
        assert enriched.key == "creator_id"
    else:
        assert enriched.metadata["migrated_from"] == SOURCE
        assert restore(enriched, SOURCE, routed) == before


@given(METADATA, ROUTES, st.sampled_from(["keep", "overwrite"]))
def test_enriching_twice_on_the_way_to_a_second_place_can_be_undone_twice(
    metadata: dict[str, Any], routed: Routed, policy: ConflictPolicy
) -> None:
    # Given a record that was migrated once and once again
    first = enrich(Record("r", b"", metadata=metadata), SOURCE, routed, policy)
    assert isinstance(first, Record)
    second = enrich(first, "elsewhere", TWIN, policy)
    assert isinstance(second, Record)

    # When both are undone, the last one first, then it is as it was
    assert restore(restore(second, "elsewhere", TWIN), SOURCE, routed).metadata == metadata


@given(METADATA, ROUTES, st.sampled_from(["fail", "keep", "overwrite"]))
def test_the_callers_record_is_never_changed(metadata: dict[str, Any], routed: Routed, policy: ConflictPolicy) -> None:
    held = copy.deepcopy(metadata)
    given_record = Record("r", b"", metadata=metadata)
    enriched = enrich(given_record, SOURCE, routed, policy)
    if isinstance(enriched, Record):
        restore(enriched, SOURCE, routed)
    assert metadata == held


@pytest.mark.parametrize(
    ("routed", "added"),
    [
        (TWIN, {"migrated_from": SOURCE, "creator_id": "ana", "twin_id": "t"}),
        (CREATOR_WIDE, {"migrated_from": SOURCE, "creator_id": "ana"}),
        (UNOWNED, {"migrated_from": SOURCE, "needs_review": True}),
        (NO_OWNER, {"migrated_from": SOURCE}),
    ],
)
def test_only_what_is_known_is_added_and_everything_else_stays(routed: Routed, added: dict[str, Any]) -> None:
    before = record(text="hello", tags=["a", "b"])
    enriched = enrich(before, SOURCE, routed, "fail")
    assert isinstance(enriched, Record)
    assert enriched.metadata == {"text": "hello", "tags": ["a", "b"], **added}
    assert (enriched.id, enriched.values, enriched.sparse) == (before.id, before.values, before.sparse)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("fail", Conflict("creator_id")),
        ("keep", {"creator_id": "zoe", "twin_id": "t", "migrated_from": SOURCE}),
        (
            "overwrite",
            {"creator_id": "ana", "twin_id": "t", "migrated_from": SOURCE, PREVIOUS: '{"creator_id":"zoe"}'},
        ),
    ],
)
def test_a_key_that_holds_something_else_is_a_conflict(policy: ConflictPolicy, expected: object) -> None:
    outcome = enrich(record(creator_id="zoe"), SOURCE, TWIN, policy)
    assert (outcome.metadata if isinstance(outcome, Record) else outcome) == expected


def test_a_key_that_holds_the_same_already_is_no_conflict_and_stays_when_undone() -> None:
    before = record(creator_id="ana")
    enriched = enrich(before, SOURCE, TWIN, "fail")
    assert isinstance(enriched, Record)
    assert restore(enriched, SOURCE, TWIN) == before


def test_undoing_touches_only_keys_that_still_hold_our_value() -> None:
    # Given a migrated record whose owner was corrected since
    enriched = enrich(record(text="a"), SOURCE, TWIN, "fail")
    assert isinstance(enriched, Record)
    corrected = enriched.with_metadata({**enriched.metadata, "creator_id": "ben", "text": "b"})

    # When it is undone, then the correction stays
    assert restore(corrected, SOURCE, TWIN).metadata == {"creator_id": "ben", "text": "b"}


def test_numbers_that_json_can_hardly_say_survive_the_way_there_and_back() -> None:
    for odd in (math.inf, -0.0, 2**70, 1e-310):
        enriched = enrich(record(creator_id=odd), SOURCE, TWIN, "overwrite")
        assert isinstance(enriched, Record)
        assert repr(restore(enriched, SOURCE, TWIN).metadata["creator_id"]) == repr(odd)


def test_a_restored_record_has_the_digest_it_had() -> None:
    before = record(creator_id="zoe", n=1.0, flag=True)
    enriched = enrich(before, SOURCE, TWIN, "overwrite")
    assert isinstance(enriched, Record)
    assert record_digest(enriched) != record_digest(before)
    assert record_digest(restore(enriched, SOURCE, TWIN)) == record_digest(before)
