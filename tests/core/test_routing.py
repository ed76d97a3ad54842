"""Routing: the first rule that answers places a record, and the answer is always the same."""

from typing import Any

import pytest

from migrations.plan import PlannedMove, Split
from migrations.routing import ByKey, Owner, Ownership, Routed, Router, Unrouted
from vecfleet.records import Record

COACH = Owner("ana", "coach")
OWNERSHIP = Ownership(
    twins={"t-1": Owner("ana", "t-1"), "t-2": COACH},
    sources={"doc-1": Owner("ben", "t-9"), "r-7": Owner("cleo", "t-8")},
)
BY_OWNER = PlannedMove(source="__default__", records=1)


def record(id: str = "r", **metadata: Any) -> Record:
    return Record(id, b"\0" * 4, metadata=metadata)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (record(creator_id="zoe", twin_id="x"), Routed("creator_zoe_twin_x", Owner("zoe", "x"), "metadata")),
        (record(creator_id="zoe"), Routed("creator_zoe", Owner("zoe"), "metadata")),
        (record(creator_id="zoe", twin_id=""), Routed("creator_zoe", Owner("zoe"), "metadata")),
        (record(creator_id=42.0, twin_id=7), Routed("creator_42_twin_7", Owner("42", "7"), "metadata")),
        (record(creator_id="zoe", source_id="doc-1"), Routed("creator_zoe", Owner("zoe"), "metadata")),
        # The look-up calls twin t-2 by its name, so its records join it there; another creator's claim to it does not.
        (record(creator_id="ana", twin_id="t-2"), Routed("creator_ana_twin_coach", COACH, "metadata")),
        (record(creator_id="zoe", twin_id="t-2"), Routed("creator_zoe_twin_t-2", Owner("zoe", "t-2"), "metadata")),
        (record(twin_id="t-1"), Routed("creator_ana_twin_t-1", Owner("ana", "t-1"), "twin")),
        (record(twin_id="t-1", source_id="doc-1"), Routed("creator_ana_twin_t-1", Owner("ana", "t-1"), "twin")),
        (record(source_id="doc-1"), Routed("creator_ben_twin_t-9", Owner("ben", "t-9"), "source")),
        (record("r-7", source_id="doc-1"), Routed("creator_ben_twin_t-9", Owner("ben", "t-9"), "source")),
        (record("r-7"), Routed("creator_cleo_twin_t-8", Owner("cleo", "t-8"), "record")),
        (record("r-7", creator_id="", twin_id="gone"), Routed("creator_cleo_twin_t-8", Owner("cleo", "t-8"), "record")),
    ],
)
def test_the_first_rule_that_answers_places_the_record(given: Record, expected: Routed) -> None:
    assert Router(OWNERSHIP).route(given, BY_OWNER) == expected


def test_a_fixed_target_wins_over_everything_the_record_says() -> None:
    move = PlannedMove(source="t-1", records=1, to="creator_ana_twin_t-1", creator="ana", twin="t-1")
    routed = Router(OWNERSHIP).route(record(creator_id="zoe"), move)
    assert routed == Routed("creator_ana_twin_t-1", Owner("ana", "t-1"), "move")


def test_a_namespace_that_keeps_its_name_names_no_owner() -> None:
    assert Router().route(record(), PlannedMove(source="a", records=1, to="a")) == Routed("a", None, "move")


@pytest.mark.parametrize(
    "stray",
    [record(), record(twin_id="gone"), record(creator_id=True), record(creator_id=1.5), record(creator_id=["a"])],
)
def test_an_orphan_is_parked_or_goes_to_review(stray: Record) -> None:
    # Given a record that no rule places
    # When orphans are parked, then it has no target and a reason
    parked = Router(OWNERSHIP).route(stray, BY_OWNER)
    assert isinstance(parked, Unrouted) and "no owner" in parked.reason

    # When orphans are reviewed, then it goes there, marked
    reviewed = Router(OWNERSHIP, review_namespace="review").route(stray, BY_OWNER)
    assert reviewed == Routed("review", None, "review")
    assert isinstance(reviewed, Routed) and reviewed.needs_review


@pytest.mark.parametrize("creator", ["é", "x_twin", "a_twin_b", "x" * 600])
def test_an_owner_whose_name_cannot_be_a_namespace_is_never_guessed_at(creator: str) -> None:
    outcome = Router(review_namespace="review").route(record(creator_id=creator), BY_OWNER)
    assert isinstance(outcome, Unrouted) and "cannot be a namespace" in outcome.reason


def test_the_key_by_which_a_record_names_its_source_is_configurable() -> None:
    router = Router(OWNERSHIP, lookup_key="document")
    routed = router.route(record(document="doc-1", source_id="other"), BY_OWNER)
    assert routed == Routed("creator_ben_twin_t-9", Owner("ben", "t-9"), "source")


SPLIT = PlannedMove(source="all", records=1, template="team-{value}")


def by_key(template: str = "team-{value}", otherwise: str | None = None) -> Router:
    moves = [SPLIT.model_copy(update={"template": template})]
    return Router(by_key=ByKey.of(Split(key="team", otherwise=otherwise), moves))


@pytest.mark.parametrize(
    ("value", "target"),
    [
        ("red", "team-red"),
        ("x y", "team-x y"),
        (7, "team-7"),
        (7.0, "team-7"),
        (-2.5, "team--2.5"),
        (True, "team-true"),
    ],
)
def test_a_record_goes_where_its_value_leads(value: object, target: str) -> None:
    assert by_key().route(record(team=value, creator_id="zoe"), SPLIT) == Routed(target, None, "value")


def test_a_value_may_lead_into_a_tenants_namespace() -> None:
    routed = by_key("creator_{value}_twin_all").route(record(team="ana"), SPLIT)
    assert routed == Routed("creator_ana_twin_all", Owner("ana", "all"), "value")


@pytest.mark.parametrize("stray", [record(), record(team="")])
def test_a_record_without_a_value_is_parked_or_goes_elsewhere(stray: Record) -> None:
    assert by_key().route(stray, SPLIT) == Unrouted("it has no 'team' in its metadata")
    assert by_key(otherwise="rest").route(stray, SPLIT) == Routed("rest", None, "otherwise")


@pytest.mark.parametrize("value", [["a", "b"], float("nan"), "grün", "x" * 600, "nul\0"])
def test_a_value_that_makes_no_name_is_parked_and_not_repeated_in_the_reason(value: object) -> None:
    parked = by_key(otherwise="rest").route(record(team=value), SPLIT)
    assert isinstance(parked, Unrouted) and "'team'" in parked.reason
    assert str(value) not in parked.reason
