"""The fate of a record: placed, with the digest of what its target will give back, or parked with a reason."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrations.mapping import MARK, MetadataMap
from migrations.plan import PlannedMove, Policies
from migrations.routing import Owner, Ownership, Router
from orchestrator.core.model import ParkedRecord
from vecfleet.digests import record_digest
from vecfleet.records import Record, Sparse
from vecfleet.stores.base import IndexInfo, Kind, Limits
from vecfleet.stores.memory import MemoryIndex
from workers.placing import Placed, Placer, place_all

DIMENSION = 4
VALUES = np.arange(DIMENSION, dtype="<f4").tobytes()
SPARSE = Sparse(np.array([1], "<u4").tobytes(), np.array([0.5], "<f4").tobytes())
TARGET = "creator_ana_twin_t"
FIXED = PlannedMove(source="s", records=1, to=TARGET, creator="ana", twin="t")
BY_OWNER = PlannedMove(source="__default__", records=1)


def index(kind: Kind = Kind.DENSE, limits: Limits | None = None) -> MemoryIndex:
    dimension = None if kind is Kind.SPARSE else DIMENSION
    return MemoryIndex(IndexInfo("brain", kind, dimension, "cosine", host="brain.local"), limits or Limits())


def placer(
    move: PlannedMove = FIXED,
    target: MemoryIndex | None = None,
    router: Router | None = None,
    prefix: str = "",
    **policies: Any,
) -> Placer:
    return Placer(move.source, move, router or Router(), Policies(**policies), target or index(), prefix)


def record(id: str = "r", values: bytes = VALUES, sparse: Sparse | None = None, **metadata: Any) -> Record:
    return Record(id, values, sparse, metadata)


def placed(given_placer: Placer, given_record: Record) -> Placed:
    answer = given_placer.place(given_record)
    assert isinstance(answer, Placed), answer
    return answer


def test_a_record_goes_to_its_target_with_where_it_came_from_and_whose_it_is() -> None:
    one = placed(placer(), record(text="hello"))
    assert (one.target, one.owner) == (TARGET, Owner("ana", "t"))
    assert one.record.metadata == {"text": "hello", "migrated_from": "s", "creator_id": "ana", "twin_id": "t"}
    assert one.record.values == VALUES


def test_the_digest_is_that_of_what_the_target_gives_back() -> None:
    # Given metadata that no store gives back as it was sent
    target = index()
    one = placed(placer(target=target), record(count=7, nothing=None, big=2**53))

    # When it is written and read back, then the digest is the one foretold
    target.upsert(TARGET, [one.record])
    assert record_digest(target.fetch(TARGET, ["r"]).records["r"]) == one.digest
    assert "nothing" not in target.fetch(TARGET, ["r"]).records["r"].metadata


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5).filter(lambda key: key[0] != "$"),
        st.one_of(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
            st.booleans(),
            st.integers(-(2**53), 2**53),
            st.floats(allow_nan=False, allow_infinity=False),
            st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), max_size=3),
            st.none(),
        ),
        max_size=5,
    )
)
def test_whatever_its_metadata_a_placed_record_comes_back_with_the_digest_foretold(metadata: dict[str, Any]) -> None:
    target = index()
    one = placed(placer(target=target, conflicts="overwrite"), Record("r", VALUES, metadata=metadata))
    target.upsert(TARGET, [one.record])
    assert record_digest(target.fetch(TARGET, ["r"]).records["r"]) == one.digest


def test_the_answer_is_the_same_on_every_read() -> None:
    given_record = record(text="hello", count=7)
    assert placer().place(given_record) == placer().place(given_record)
    assert given_record.metadata == {"text": "hello", "count": 7}


def test_without_enrichment_a_record_stays_as_it_is() -> None:
    assert placed(placer(enrich=False), record(text="hello")).record == record(text="hello")


def test_with_a_prefix_its_id_at_the_target_differs_from_the_one_at_the_source() -> None:
    one = placed(placer(prefix="s:"), record("r1"))
    assert (one.source_id, one.record.id) == ("r1", "s:r1")
    assert placer(prefix="s:").target_id("r1") == "s:r1"


UNKNOWN = Router(Ownership())


@pytest.mark.parametrize(
    ("given_placer", "given_record", "reason"),
    [
        (placer(), record(values=VALUES[:-4]), "it has 3 dimensions, the target has 4"),
        (placer(), record(values=b"", sparse=SPARSE), "it has 0 dimensions, the target has 4"),
        (placer(target=index(Kind.SPARSE)), record(), "it has no sparse values, and the target holds nothing else"),
        (placer(), record(count=2**53 + 1), "a number in its metadata cannot be kept exactly"),
        (placer(), record(count=-(2**60)), "a number in its metadata cannot be kept exactly"),
        (placer(), record(score=math.nan), "a number in its metadata cannot be kept exactly"),
        (placer(), record(score=math.inf), "a number in its metadata cannot be kept exactly"),
        (placer(numbers="float64"), record(count=2**70), "its metadata cannot be written as JSON"),
        (placer(), record(text="half a character: \ud83d"), "its metadata cannot be written as JSON"),
        (placer(), record(text="x" * 40_000), "its metadata would be over 40,000 bytes"),
        (placer(), record(text="x" * 39_950), "its metadata would be over 40,000 bytes"),
        (
            placer(metadata_map=MetadataMap(drop=("secret",))),
            record(secret="x" * 39_900),
            "its metadata would be over 40,000 bytes; 39,9",
        ),
        (placer(metadata_map=MetadataMap(rename={"a": "b"})), record(a=1.0, b=2.0), "'b' already holds another value"),
        (placer(), record(creator_id="ben"), "its metadata key 'creator_id' already holds another value"),
        (placer(prefix="p" * 10), record("r" * 510), "its prefixed id would be over 512 characters"),
        (placer(BY_OWNER, router=UNKNOWN), record(), "no owner"),
        (placer(BY_OWNER, router=UNKNOWN), record(creator_id="x_twin"), "its owner's name cannot be a namespace"),
    ],
)
def test_what_cannot_be_sent_is_parked_alone_with_its_reason(
    given_placer: Placer, given_record: Record, reason: str
) -> None:
    # Given a batch of which one record cannot be sent
    others = {f"other-{number}": record(f"other-{number}", creator_id="ana", twin_id="t") for number in range(2)}
    if given_placer.target.info.kind is Kind.SPARSE:
        others = {id: record(id, b"", SPARSE, creator_id="ana", twin_id="t") for id in others}

    # When the batch is placed, then that one is parked, with a reason that holds no text of it, and the others go on
    went, parked = place_all(given_placer, {**others, given_record.id: given_record})
    assert set(went) == set(others)
    assert [one.record_id for one in parked] == [given_record.id]
    assert reason in parked[0].reason
    assert "half a character" not in parked[0].reason


def test_numbers_may_become_what_the_target_makes_of_them_where_the_plan_says_so() -> None:
    one = placed(placer(numbers="float64"), record(count=2**53 + 1))
    assert one.digest == record_digest(index().normalise(one.record))


def test_a_hybrid_record_keeps_its_sparse_values() -> None:
    assert placed(placer(target=index(Kind.HYBRID)), record(sparse=SPARSE)).record.sparse == SPARSE


def test_orphans_go_to_review_where_the_plan_says_so() -> None:
    router = Router(Ownership(), review_namespace="review")
    one = placed(placer(BY_OWNER, router=router), record())
    assert (one.target, one.owner, one.record.metadata["needs_review"]) == ("review", None, True)


def test_records_of_one_batch_may_go_to_many_targets() -> None:
    records = {creator: record(creator, creator_id=creator) for creator in ("ana", "ben")}
    went, parked = place_all(placer(BY_OWNER), records)
    assert {one.target for one in went.values()} == {"creator_ana", "creator_ben"}
    assert parked == []


def test_a_map_changes_the_record_before_it_is_enriched_and_the_move_knows_what_it_made() -> None:
    # Given a map and a record without an owner's keys
    asked = MetadataMap(set={"year": 2024}, drop=("secret",), rename={"text": "body"})
    given_placer = placer(metadata_map=asked)
    target = index()

    # When it is placed and read back
    one = placed(given_placer, record(text="hello", secret="s"))
    target.upsert(TARGET, [one.record])
    there = target.fetch(TARGET, ["r"]).records["r"]

    # Then the digest is the one foretold, and the move knows the record as its own
    assert record_digest(there) == one.digest
    added = {"migrated_from": "s", "creator_id": "ana", "twin_id": "t"}
    seen = {key: value for key, value in there.metadata.items() if key != MARK}
    assert seen == {"year": 2024.0, "body": "hello"} | added
    origin = given_placer.origin(there, TARGET)
    assert origin is not None and placed(given_placer, origin).digest == one.digest


def test_what_a_map_drops_may_be_what_makes_a_record_small_enough() -> None:
    given_up = placer(enrich=False, metadata_map=MetadataMap(drop=("secret",), undo="none"))
    one = placed(given_up, record(text="hello", secret="x" * 50_000))
    assert one.record.metadata == {"text": "hello"}
    assert not given_up.leads_back


def test_a_parked_record_is_named_by_its_id_at_the_source() -> None:
    answer = placer(prefix="s:").place(record("r1", creator_id="ben"))
    assert isinstance(answer, ParkedRecord) and answer.record_id == "r1"
