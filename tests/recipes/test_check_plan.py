"""Between planning and applying the world may change: each change that matters is an objection."""

from dataclasses import replace
from pathlib import Path

import pytest
from planning_world import NOW, World, fill

from migrations.answers import TwinRow
from migrations.creators import Grouping
from migrations.idsources import find_ids
from migrations.ownership import OwnershipSnapshot, understand
from migrations.plan import Plan, Policies
from migrations.recipes import (
    Common,
    CreatorsOptions,
    IndexOptions,
    check_plan,
    plan_creators,
    plan_index,
    survey_again,
)
from vecfleet.errors import NotFound
from vecfleet.stores.base import Kind

INDEX = "digital-twin-brain"


def answers(*twins: tuple[str, str]) -> OwnershipSnapshot:
    return understand("file", [TwinRow(id, creator, id) for id, creator in twins], [])


def one_creator(world: World, policies: Policies | None = None) -> Plan:
    common = Common(policies=policies or Policies())
    return plan_creators(world, CreatorsOptions(index=INDEX, grouping=Grouping(creator="ana"), common=common), now=NOW)


def objections(world: World, plan: Plan, ownership: OwnershipSnapshot | None = None) -> list[str]:
    return check_plan(plan, survey_again(world, plan, root=Path()), ownership)


def test_nothing_speaks_against_a_plan_while_nothing_changed(world: World) -> None:
    world.seeded()
    assert objections(world, one_creator(world)) == []


def test_a_source_that_is_gone_or_has_grown_is_an_objection(world: World) -> None:
    # Given a plan of three namespaces
    index = world.index(INDEX)
    for name in ("a", "b", "c"):
        fill(index, name, ["1"])
    plan = one_creator(world)

    # When one is deleted and one grows
    index.delete_namespace("a")
    fill(index, "b", ["2"])

    # Then both are said
    gone, grown = objections(world, plan)
    assert "gone" in gone and "'a'" in gone
    assert "'b' (1 when planned, 2 now)" in grown


def test_a_target_that_is_not_empty_any_more_is_an_objection(world: World) -> None:
    index = world.index(INDEX)
    fill(index, "a", ["1"])
    plan = one_creator(world)
    fill(index, "creator_ana_twin_a", ["9"])
    (objection,) = objections(world, plan)
    assert "1 target not empty" in objection


def test_a_name_that_leads_to_another_project_by_now_is_an_objection(world: World) -> None:
    # Given a plan of an index whose host tells its project
    index = world.index(INDEX, host=f"{INDEX}-ours1.svc.aped-4627-b74a.pinecone.io")
    fill(index, "a", ["1"])
    plan = one_creator(world)
    assert (plan.source.project, objections(world, plan)) == ("ours1", [])

    # When the keys of two accounts were crossed
    index.info = replace(index.info, host=f"{INDEX}-theirs1.svc.aped-4627-b74a.pinecone.io")

    (objection,) = set(objections(world, plan))
    assert objection == f"the plan was made for an index '{INDEX}' with project ours1; it has theirs1"


def test_a_missing_source_index_is_refused_and_a_missing_target_is_an_objection(world: World) -> None:
    # Given a plan between two indexes that exist
    fill(world.index(INDEX), "a", ["1"])
    world.index("other")
    plan = plan_index(world, IndexOptions(source=INDEX, target="other"), now=NOW)

    # When it is to be applied where the source, or where the target, is missing
    elsewhere, half = World(), World()
    fill(half.index(INDEX), "a", ["1"])

    # Then the one is refused and the other said
    with pytest.raises(NotFound, match="there is no index"):
        survey_again(elsewhere, plan, root=Path())
    assert objections(half, plan) == ["the target index 'other' is not there any more"]


def test_an_index_of_another_make_under_the_same_name_is_an_objection(world: World) -> None:
    # Given a plan for an index
    fill(world.index(INDEX), "a", ["1"])
    plan = one_creator(world)

    # When it is applied where that name is another index's
    other = World()
    fill(other.index(INDEX, dimension=16, metric="euclidean", kind=Kind.INTEGRATED), "a", ["1"])

    # Then every difference is said
    said = " ".join(objections(other, plan))
    for difference in ("kind dense", "dimension 8", "metric cosine"):
        assert difference in said


def test_a_target_to_be_created_may_be_there_by_now_if_it_fits(world: World) -> None:
    fill(world.index(INDEX), "a", ["1"])
    plan = plan_index(world, IndexOptions(source=INDEX, target="other"), now=NOW)
    assert objections(world, plan) == []
    world.index("other")
    assert objections(world, plan) == []


def test_an_owner_who_changed_since_is_an_objection(world: World) -> None:
    # Given a plan made by ownership
    fill(world.index(INDEX), "t-1", ["1"])
    grouping = Grouping(snapshot=answers(("t-1", "ana")))
    plan = plan_creators(world, CreatorsOptions(index=INDEX, grouping=grouping), now=NOW)

    # When the look-up answers the same, there is no objection; when otherwise or not at all, there is
    assert objections(world, plan, answers(("t-1", "ana"))) == []
    assert "answers otherwise" in objections(world, plan, answers(("t-1", "ben")))[0]
    assert "was not asked" in objections(world, plan)[0]


def test_a_target_that_split_records_may_reach_must_be_empty_too(world: World) -> None:
    # Given a plan that splits the default namespace among the twins of the look-up
    index = world.index(INDEX)
    fill(index, "", ["1"])
    snapshot = answers(("t-1", "ana"))
    grouping = Grouping(snapshot=snapshot, default="split")
    plan = plan_creators(world, CreatorsOptions(index=INDEX, grouping=grouping), now=NOW)

    # When one of those twins' namespaces is filled meanwhile, then that is an objection
    fill(index, "creator_ana_twin_t-1", ["2"])
    assert "1 target not empty" in objections(world, plan, snapshot)[0]


def test_a_pod_index_is_checked_by_its_id_file(world: World, tmp_path: Path) -> None:
    fill(world.index(INDEX, kind=Kind.POD), "a", ["1", "2"])
    ids = tmp_path / "ids.csv"
    ids.write_text("namespace,id\na,1\na,2\n")
    plan = plan_index(world, IndexOptions(source=INDEX, target="other", ids=find_ids(tmp_path, ["ids.csv"])), now=NOW)
    assert check_plan(plan, survey_again(world, plan, root=tmp_path)) == []
    ids.write_text("namespace,id\na,1\n")
    assert "2 when planned, 1 now" in check_plan(plan, survey_again(world, plan, root=tmp_path))[0]
