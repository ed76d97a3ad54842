"""Recipe `index`: everything into another index, as it is or regrouped, or refused with the reason."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from planning_world import NOW, SEEDS, World, fill

from migrations.creators import Grouping
from migrations.estimating import Prices
from migrations.idsources import count_ids, find_ids
from migrations.index import require_room
from migrations.plan import NewIndex, Plan, PlannedMove, Policies
from migrations.recipes import Common, IndexOptions, plan_index
from migrations.reversing import plan_reverse, way_back
from vecfleet.errors import BadInput, BadPlan, NotFound
from vecfleet.stores.base import Kind, ReadNodes

SOURCE, TARGET = "digital-twin-brain", "digital-twin-serverless"
AWS = NewIndex(cloud="aws", region="us-east-1")


def plan(world: World, **options: Any) -> Plan:
    return plan_index(world, IndexOptions(**{"source": SOURCE, "target": TARGET} | options), now=NOW)


def test_every_namespace_keeps_its_name_and_nothing_is_added_to_its_records(world: World) -> None:
    # Given the seeds' index, and no other
    world.seeded(SOURCE)

    # When it is planned into another index
    made = plan(world)

    # Then all of it goes there under the same names, into an index to be created beside the source
    assert {move.source: move.to for move in made.moves} == {name: name for name in SEEDS}
    assert made.policies.enrich is False
    assert made.create_target == NewIndex(cloud="aws", region="us-east-1")
    assert (made.target.index, made.target.dimension, made.target.metric) == (TARGET, 8, "cosine")


def test_namespaces_may_be_regrouped_on_the_way(world: World) -> None:
    world.seeded(SOURCE)
    made = plan(world, grouping=Grouping(creator="sainath.no.1"), new=NewIndex(cloud="gcp", region="europe-west4"))
    assert all((move.to or "").startswith("creator_sainath.no.1_twin_") for move in made.moves)
    assert made.policies.enrich is True
    assert made.create_target == NewIndex(cloud="gcp", region="europe-west4")


def test_where_the_application_writes_to_both_sides_it_is_said_what_our_client_does_not(world: World) -> None:
    world.seeded(SOURCE)
    dual = Common(policies=Policies(writers="dual"))
    said = "the application itself must write to both sides of these"

    assert any(said in warning for warning in plan(world, common=dual).warnings)
    owned = plan(world, grouping=Grouping(creator="sainath.no.1"), common=dual)
    assert not any(said in warning for warning in owned.warnings)
    with pytest.raises(BadPlan, match="knows no prefixes"):
        plan(world, common=Common(policies=Policies(writers="dual", collisions="prefix")))


def test_an_index_that_exists_is_used_as_it_is(world: World) -> None:
    world.seeded(SOURCE)
    world.index(TARGET)
    assert plan(world).create_target is None


@pytest.mark.parametrize(
    ("described", "sentence"),
    [
        ({"dimension": 16}, "dimension: 'digital-twin-brain' has 8, 'digital-twin-serverless' has 16"),
        ({"metric": "dotproduct"}, "metric: "),
        ({"kind": Kind.HYBRID}, "kind: 'digital-twin-brain' is dense, 'digital-twin-serverless' is hybrid"),
        ({"kind": Kind.DOCUMENT}, "embeds its text again"),
        ({"kind": Kind.POD}, "could not be verified"),
        ({"ready": False}, "is not ready yet"),
    ],
)
def test_an_index_that_cannot_take_the_records_as_they_are_is_refused(
    world: World, described: dict[str, Any], sentence: str
) -> None:
    world.seeded(SOURCE)
    world.index(TARGET, **described)
    with pytest.raises(BadPlan, match=sentence):
        plan(world)


def test_all_mismatches_are_said_at_once(world: World) -> None:
    world.seeded(SOURCE)
    world.index(TARGET, dimension=16, metric="euclidean")
    with pytest.raises(BadPlan, match=r"(?s)dimension.*metric"):
        plan(world)


def test_a_document_index_is_refused_as_a_source_with_its_sentence(world: World) -> None:
    world.index(SOURCE, kind=Kind.DOCUMENT)
    with pytest.raises(BadPlan, match="cannot be copied unchanged"):
        plan(world)


def test_a_source_without_a_place_needs_one_to_be_named(world: World) -> None:
    fill(world.index(SOURCE, cloud=None, region=None), "a", ["1"])
    with pytest.raises(BadInput, match="are unknown"):
        plan(world)
    assert plan(world, new=AWS).create_target == AWS


def test_a_target_that_holds_records_is_refused_unless_told_what_happens_to_common_ids(world: World) -> None:
    fill(world.index(SOURCE), "a", ["1", "2"])
    fill(world.index(TARGET), "a", ["2"])
    with pytest.raises(BadPlan, match="1 target not empty"):
        plan(world)
    made = plan(world, common=Common(policies=Policies(collisions="skip")))
    assert any("1 id would arrive in 'a' more than once: '2'" in warning for warning in made.warnings)


def test_shards_that_cannot_hold_the_records_are_refused(world: World) -> None:
    assert "t1:3x2" in refusal(lambda: require_room(ReadNodes("t1", shards=2, replicas=2), 501e9))
    require_room(ReadNodes("t1", shards=3, replicas=2), 501e9)
    # And a plan asks for it
    world.seeded(SOURCE)
    assert plan(world, new=AWS.model_copy(update={"read_capacity": ReadNodes("b1", 1, 1)})).create_target is not None


def refusal(act: Callable[[], None]) -> str:
    with pytest.raises(BadInput) as caught:
        act()
    return str(caught.value.next_step)


def test_a_missing_source_is_refused(world: World) -> None:
    with pytest.raises(NotFound):
        plan(world)


def test_a_pod_index_is_refused_without_an_id_source_and_planned_with_one(world: World, tmp_path: Path) -> None:
    # Given a pod index, which cannot list
    pod = world.index(SOURCE, kind=Kind.POD, cloud=None, region=None)
    fill(pod, "twin_a", ["1", "2"])
    fill(pod, "", ["3"])

    # When it is planned without ids, then it is refused with that sentence
    with pytest.raises(BadPlan, match=r"cannot list their ids: a plan needs an id source \(--ids FILE\)"):
        plan(world, new=AWS)

    # When a file gives the ids, then the plan names the file, and the target is no pod index
    (tmp_path / "ids.csv").write_text("namespace,id\ntwin_a,2\ntwin_a,1\n,3\ntwin_a,1\n")
    made = plan(world, new=AWS, ids=find_ids(tmp_path, ["ids.csv"]))
    assert [(move.source, move.records, move.ids_file) for move in made.moves] == [
        ("twin_a", 2, "ids.csv"),
        ("__default__", 1, "ids.csv"),
    ]
    assert made.target.kind is Kind.DENSE

    # When its writers are to go on, then it is refused: no pass would find what they add
    with pytest.raises(BadPlan, match=r"stop them \(--writers freeze\)"):
        delta = Common(policies=Policies(writers="delta"))
        plan(world, new=AWS, ids=find_ids(tmp_path, ["ids.csv"]), common=delta)


def test_ids_come_from_a_table_or_from_a_file_for_each_namespace(tmp_path: Path) -> None:
    # Given a table for two namespaces and a plain file for a third
    (tmp_path / "ids.csv").write_text("id,namespace\nb,one\na,one\n,one\n2,two\n")
    (tmp_path / "three.txt").write_text("x\n\ny \r\nx\n")

    # When both are given
    found = find_ids(tmp_path, ["ids.csv", "three=three.txt"])

    # Then each namespace has its ids, once and in byte order
    assert found.counts == {"one": 2, "two": 1, "three": 2}
    assert {name: found.ids(name) for name in found.files} == {"one": ["a", "b"], "two": ["2"], "three": ["x", "y "]}
    assert count_ids(tmp_path, found.files) == found


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["ids.csv", "one=one.txt"], "two files give ids of the namespace 'one'"),
        (["none.csv"], "there is no file"),
        (["one.txt"], "has no column namespace"),
        (["../ids.csv"], "not under the folder"),
    ],
)
def test_an_id_source_that_cannot_be_used_is_refused(tmp_path: Path, given: list[str], sentence: str) -> None:
    (tmp_path / "ids.csv").write_text("namespace,id\none,a\n")
    (tmp_path / "one.txt").write_text("a\n")
    with pytest.raises(BadInput, match=sentence):
        find_ids(tmp_path, given)


def test_the_way_back_takes_along_only_what_the_plan_itself_moved(world: World) -> None:
    """It led every namespace of the target back, those too that never came from there."""
    world.seeded(SOURCE)
    # Given a part of the index, which goes into an index that holds others already
    fill(world.index(TARGET), "others", ["o-1"], {})
    names = sorted(SEEDS)[:2]
    made = plan(world, common=Common(only=tuple(names)))
    chosen = " ".join(f"--namespace {name}" for name in names)
    assert way_back(made, 7) == f"`vecfleet plan index {TARGET} {SOURCE} {chosen}`"

    # Then the reverse plan, which cannot tell where its records came from, leads to that
    with pytest.raises(BadPlan) as refused:
        plan_reverse(world, made, names, prices=Prices(), now=NOW)
    assert chosen in str(refused.value.next_step)

    # And of a whole index in one that was made for it there is nothing to choose
    whole = made.model_copy(update={"create_target": NewIndex(), "left_alone": ()})
    assert way_back(whole) == f"`vecfleet plan index {TARGET} {SOURCE}`"
    # And of very many namespaces none is named
    many = tuple(PlannedMove(source=f"n{n}", records=1, to=f"n{n}") for n in range(1_000))
    assert "for each of the 1,000 names in the plan" in way_back(made.model_copy(update={"moves": many}))
