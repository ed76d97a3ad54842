"""The way back gives every record as it was, whatever its metadata held before."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations.enriching import Conflict, ConflictPolicy, change, enrich
from migrations.mapping import MetadataMap
from migrations.plan import Policies
from migrations.reversing import Backward
from migrations.routing import Owner, Routed
from vecfleet.records import Metadata, Record

KEYS = st.sampled_from(["needs_review", "migrated_from", "creator_id", "twin_id", "_vecfleet_prev", "text"])
VALUES = st.one_of(st.booleans(), st.just(1.0), st.sampled_from(["s", "ana", "t", "{}", '{"creator_id":"x"}']))
ROUTES = (
    Routed("creator_ana_twin_t", Owner("ana", "t")),
    Routed("by_hand", None),
    Routed("review", None, "review"),
)


POLICIES: tuple[ConflictPolicy, ...] = ("fail", "keep", "overwrite")


@given(metadata=st.dictionaries(KEYS, VALUES), routed=st.sampled_from(ROUTES), policy=st.sampled_from(POLICIES))
def test_there_and_back_a_record_is_what_it_was(metadata: Metadata, routed: Routed, policy: ConflictPolicy) -> None:
    record = Record("r", b"", metadata=metadata)
    there = enrich(record, "s", routed, policy)
    if isinstance(there, Conflict):
        assert policy == "fail" and there.key != "migrated_from"
    else:
        assert Backward(("s", "t", "ana"), review="review").take_back(there, routed.target) == ("s", record)


def test_the_owner_that_a_record_named_by_itself_stays_where_names_were_kept() -> None:
    # Given a namespace of a tenant's name, which a plan with a map took along under that name
    asked = MetadataMap(rename={"a": "b"})
    record = Record("r", b"", metadata={"creator_id": "ana", "twin_id": "t", "a": "x"})
    routed = Routed("creator_ana_twin_t", None)
    there = change(record, "creator_ana_twin_t", routed, Policies(metadata_map=asked))
    assert isinstance(there, Record)
    backward = Backward(("creator_ana_twin_t",), None, asked, owners=False)
    assert backward.take_back(there, routed.target) == ("creator_ana_twin_t", record)


@pytest.mark.parametrize("namespace", ["creator_ana_twin_t", "by_hand"])
def test_a_mark_for_review_of_ones_own_comes_back_from_anywhere(namespace: str) -> None:
    there = Record("r", b"", metadata={"needs_review": True, "migrated_from": "s"})
    assert Backward(("s",), review=None).take_back(there, namespace) == (
        "s",
        Record("r", b"", metadata={"needs_review": True}),
    )
