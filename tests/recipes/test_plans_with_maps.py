"""A plan with a metadata map: refused where it makes no sense, shown before it is applied, taken back by a reverse."""

from pathlib import Path
from typing import Any

import pytest
from planning_world import NOW, World, fill

from migrations.creators import Grouping
from migrations.estimating import Prices
from migrations.mapping import MARK, MetadataMap
from migrations.plan import Plan, Policies
from migrations.previewing import preview
from migrations.recipes import Common, CreatorsOptions, IndexOptions, plan_creators, plan_index
from migrations.reversing import plan_reverse, way_back
from vecfleet.errors import BadPlan

DROPPED = MetadataMap(drop=("secret",), rename={"text": "body"})
FOR_GOOD = MetadataMap(drop=("secret",), undo="none")


def plan(world: World, asked: MetadataMap | None, grouping: Grouping | None = None, **policies: Any) -> Plan:
    common = Common(policies=Policies(metadata_map=asked, **policies))
    if grouping is not None:
        return plan_creators(world, CreatorsOptions(index="brain", grouping=grouping, common=common), now=NOW)
    return plan_index(world, IndexOptions(source="brain", target="delphi", common=common), now=NOW)


@pytest.fixture
def brain(world: World) -> World:
    index = world.index("brain")
    fill(index, "prod", [f"p-{n:02}" for n in range(30)], {"text": "hello", "secret": "s"})
    fill(index, "test", ["t-1", "t-2"], {"text": "hello", "body": "taken", "secret": "s"})
    return world


def test_the_digest_of_a_plan_covers_its_map(brain: World) -> None:
    plans = [plan(brain, asked) for asked in (None, DROPPED, FOR_GOOD, MetadataMap(drop=("secret",)))]
    assert len({made.digest for made in plans}) == len(plans)


def test_a_map_that_can_be_taken_back_has_each_record_say_where_it_came_from(brain: World) -> None:
    made = plan(brain, DROPPED)
    assert made.policies.enrich
    (warning,) = (warning for warning in made.warnings if "stay in each record" in warning)
    assert warning.startswith("the values of 'secret' stay in each record that has them, under '_vecfleet_map'")


def test_a_key_that_no_record_looked_at_has_is_told_with_those_that_are_there(brain: World) -> None:
    """A key that was typed wrong was planned in silence, and nothing was renamed."""
    asked = MetadataMap(rename={"txet": "body"}, template={"title": "{headline}"}, drop=("nokey", "secret"))
    told = [warning for warning in plan(brain, asked).warnings if "looked at has" in warning]
    assert [warning.partition(" looked at has ")[2] for warning in told] == [
        "'headline', 'nokey', 'txet', which the metadata map reads or drops; they have 'body', 'secret', 'text'"
    ]


def test_a_map_that_cannot_be_taken_back_says_so_and_adds_nothing(brain: World) -> None:
    made = plan(brain, FOR_GOOD)
    assert not made.policies.enrich
    assert any("cannot be taken back" in warning for warning in made.warnings)
    assert way_back(made) == "`vecfleet plan index delphi brain`, which keeps the metadata as the map left them"
    with pytest.raises(BadPlan, match="values that it dropped or replaced did not travel"):
        plan_reverse(brain, made, ["prod"], prices=Prices(), now=NOW)


def test_keys_that_the_plan_writes_itself_are_not_for_a_map(brain: World) -> None:
    asked = MetadataMap(set={"creator_id": "x"})
    with pytest.raises(BadPlan, match="changes keys that this plan writes itself: 'creator_id'"):
        plan(brain, asked, Grouping(creator="ana"))
    # But where names are kept it writes none, and only says what hangs on it
    assert any("by which a tenant's records are known" in warning for warning in plan(brain, asked).warnings)


def test_an_application_that_writes_to_both_sides_does_not_know_the_map(brain: World) -> None:
    with pytest.raises(BadPlan, match="does not know the metadata map"):
        plan(brain, DROPPED, writers="dual")


def test_ten_records_are_shown_before_and_after_from_every_namespace(brain: World, tmp_path: Path) -> None:
    shown = preview(brain, plan(brain, DROPPED), tmp_path)
    assert [(record.namespace, record.id) for record in shown] == [
        *(("prod", f"p-{n:02}") for n in range(8)),
        *(("test", f"t-{n}") for n in (1, 2)),
    ]
    assert shown[0].before == {"text": "hello", "secret": "s"}
    assert shown[0].after is not None and {key: shown[0].after[key] for key in shown[0].after if key != MARK} == {
        "body": "hello"
    }
    assert (shown[-1].after, shown[-1].parked) == (None, "its metadata key 'body' already holds another value")
    assert preview(brain, plan(brain, None), tmp_path) == []


def test_a_reverse_plan_takes_the_map_back_and_shows_what_becomes_of_records(brain: World, tmp_path: Path) -> None:
    made = plan(brain, MetadataMap(drop=("secret",)))
    target = brain.index("delphi")
    mapped = MetadataMap(drop=("secret",)).applied({"text": "hello", "secret": "s"}, "fail")
    assert isinstance(mapped, dict)
    fill(target, "prod", ["p-1"], mapped | {"migrated_from": "prod"})
    fill(target, "test", ["t-1"], {"text": "written by somebody since", "migrated_from": "test"})

    back = plan_reverse(brain, made, ["prod", "test"], prices=Prices(), now=NOW)

    assert back.policies.metadata_map == made.policies.metadata_map
    one, other = preview(brain, back, tmp_path)
    assert one.after == {"text": "hello", "secret": "s"}
    assert other.parked == "it lacks the mark of its metadata map: it was written anew since"
