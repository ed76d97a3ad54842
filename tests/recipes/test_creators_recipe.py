"""Recipe `creators`: whose each namespace becomes, and everything that is said before it is planned."""

from pathlib import Path
from typing import Any

import pytest
from planning_world import NOW, SEEDS, World, fill

from migrations.answers import TwinRow
from migrations.creators import Grouping, Row, read_list
from migrations.ownership import OwnershipSnapshot, understand
from migrations.plan import Plan, PlannedMove, Policies
from migrations.recipes import Common, CreatorsOptions, plan_creators
from vecfleet.errors import BadInput, BadName, BadPlan, NotFound

INDEX = "digital-twin-brain"


def look_up(*twins: tuple[str, str], twin_key: Any = "id") -> OwnershipSnapshot:
    return understand("file", [TwinRow(id, creator, f"name of {id}") for id, creator in twins], [], twin_key=twin_key)


def plan(world: World, grouping: Grouping, **common: Any) -> Plan:
    options = CreatorsOptions(index=INDEX, grouping=grouping, common=Common(**common))
    return plan_creators(world, options, now=NOW)


def targets(made: Plan) -> dict[str, str | None]:
    return {move.source: move.to for move in made.moves}


def test_one_creator_for_all_gets_every_namespace_as_a_twin_of_the_old_name(world: World) -> None:
    # Given the seeds' index: 805 vectors in 30 namespaces
    world.seeded()

    # When it is planned for one creator
    made = plan(world, Grouping(creator="sainath.no.1"))

    # Then 30 namespaces become 30, and each count is exact
    assert {move.source: move.records for move in made.moves} == SEEDS
    assert made.records == 805
    for move in made.moves:
        twin = "default" if move.source == "__default__" else move.source
        assert (move.to, move.creator, move.twin) == (f"creator_sainath.no.1_twin_{twin}", "sainath.no.1", twin)
    assert made.warnings == () and made.left_alone == ()
    assert made.digest == made.computed_digest()


def test_records_that_would_be_parked_for_what_they_hold_are_foreseen(world: World) -> None:
    # Given records that hold another twin, among others
    index = world.index(INDEX)
    fill(index, "t-1", ["a", "b", "c"])
    fill(index, "t-2", ["d", "e"], {"twin_id": "another"})
    # When it is planned, then the plan warns of them and names the option that moves them
    [warning] = plan(world, Grouping(creator="ana")).warnings
    assert warning.startswith("of 5 records looked at, 2 hold another value under 'twin_id' already: ")
    assert "will be parked" in warning and "`--conflicts keep`" in warning
    # And there is nothing to warn of with that option
    assert plan(world, Grouping(creator="ana"), policies=Policies(conflicts="keep")).warnings == ()


def test_planning_writes_nothing(world: World) -> None:
    index = world.seeded()
    before = list(index.namespaces())
    plan(world, Grouping(creator="sainath.no.1"))
    assert list(index.namespaces()) == before


def test_by_ownership_a_namespace_goes_to_the_creator_of_the_twin_it_is_named_after(world: World) -> None:
    # Given two namespaces named after twins of different creators
    index = world.index(INDEX)
    fill(index, "t-1", ["a"])
    fill(index, "t-2", ["a", "b"])

    # When they are planned by ownership
    made = plan(world, Grouping(snapshot=look_up(("t-1", "ana"), ("t-2", "ben"))))

    # Then each goes to its own, and the plan remembers the answers' digest
    assert targets(made) == {"t-1": "creator_ana_twin_t-1", "t-2": "creator_ben_twin_t-2"}
    assert made.ownership is not None and made.ownership.twins == 2
    assert made.ownership.digest.startswith("sha256:")


def test_twins_may_be_called_by_name(world: World) -> None:
    fill(world.index(INDEX), "t-1", ["a"])
    made = plan(world, Grouping(snapshot=look_up(("t-1", "ana"), twin_key="name")))
    assert targets(made) == {"t-1": "creator_ana_twin_name of t-1"}


def test_twins_may_be_numbered(world: World) -> None:
    # Given namespaces of one creator, by the order of their names
    index = world.index(INDEX)
    for name in ("b", "a", "c", ""):
        fill(index, name, ["1"])
    made = plan(world, Grouping(creator="ana", twin_key="sequence"))
    assert targets(made) == {
        "a": "creator_ana_twin_001",
        "b": "creator_ana_twin_002",
        "c": "creator_ana_twin_003",
        "__default__": "creator_ana_twin_default",
    }
    # And those of a look-up, for each creator by the order of the twins' ids, whatever order they are told in
    twins = (("c", "ben"), ("a", "ana"), ("b", "ben"))
    by_look_up = plan(
        world, Grouping(snapshot=look_up(*twins, twin_key="sequence"), twin_key="sequence", default="skip")
    )
    assert targets(by_look_up) == {
        "a": "creator_ana_twin_001",
        "b": "creator_ben_twin_001",
        "c": "creator_ben_twin_002",
    }
    again = look_up(*reversed(twins), twin_key="sequence")
    assert by_look_up.ownership is not None and again.ref.digest == by_look_up.ownership.digest


def test_no_number_is_given_twice(world: World) -> None:
    # Given that a plan numbered a twin, and another namespace came since
    index = world.index(INDEX)
    fill(index, "creator_ana_twin_001", ["1"])
    fill(index, "new", ["2"])
    # Then no second plan numbers that creator's twins, by whatever collisions
    for grouping in (
        Grouping(creator="ana", twin_key="sequence"),
        Grouping(snapshot=look_up(("new", "ana"), twin_key="sequence")),
    ):
        with pytest.raises(BadPlan, match=r"numbered already: 'creator_ana_twin_001'.*--list"):
            plan(world, grouping, policies=Policies(collisions="skip"))
    # And another creator's numbers are no matter
    assert targets(plan(world, Grouping(creator="ben", twin_key="sequence"))) == {"new": "creator_ben_twin_001"}


def test_what_cannot_name_twins_so_is_refused() -> None:
    with pytest.raises(BadInput, match="only a look-up knows what a twin is called"):
        Grouping(creator="ana", twin_key="name")
    with pytest.raises(BadInput, match="a list says itself"):
        Grouping(rows=(Row("a", "ana", "x"),), twin_key="sequence")


def test_an_explicit_list_decides_and_a_line_may_be_creator_wide(world: World) -> None:
    index = world.index(INDEX)
    for name in ("", "old", "t-1"):
        fill(index, name, ["only-" + name])
    rows = (Row("", "ana", "legacy"), Row("old", "ben"), Row("t-1", "cleo", "coach"))
    made = plan(world, Grouping(rows=rows))
    assert targets(made) == {
        "__default__": "creator_ana_twin_legacy",
        "old": "creator_ben",
        "t-1": "creator_cleo_twin_coach",
    }


def test_a_line_of_the_list_wins_over_the_look_up(world: World) -> None:
    fill(world.index(INDEX), "t-1", ["a"])
    made = plan(world, Grouping(snapshot=look_up(("t-1", "ana")), rows=(Row("t-1", "ben", "new"),)))
    assert targets(made) == {"t-1": "creator_ben_twin_new"}


def test_tenant_namespaces_public_empty_and_skipped_ones_are_left_alone(world: World) -> None:
    # Given namespaces that are where they should be, an empty one, and one that is not wanted
    index = world.index(INDEX)
    for name in ("creator_ana", "creator_ana_twin_x", "public", "creator_", "unwanted"):
        fill(index, name, ["a"])
    index.create_namespace("empty", None)

    # When the index is planned
    made = plan(world, Grouping(creator="ana"), skip=("unwanted",))

    # Then only the name that merely looks like a tenant's is moved
    assert targets(made) == {"creator_": "creator_ana_twin_creator_"}
    assert made.left_alone == ("creator_ana", "creator_ana_twin_x", "empty", "public", "unwanted")
    assert any("empty" in warning for warning in made.warnings)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("split", [PlannedMove(source="__default__", records=2)]),
        ("delete", []),
        ("skip", []),
    ],
)
def test_the_default_namespace_is_split_or_left_alone(world: World, rule: Any, expected: Any) -> None:
    index = world.index(INDEX)
    fill(index, "", ["a", "b"])
    fill(index, "t-1", ["a"])
    made = plan(world, Grouping(snapshot=look_up(("t-1", "ana")), default=rule))
    assert [move for move in made.moves if move.source == "__default__"] == expected
    assert ("__default__" in made.left_alone) is (rule != "split")


def test_a_split_is_looked_into_before_it_is_planned(world: World) -> None:
    # Given a default namespace with orphans, a conflict, and an owner whom only a record's metadata names
    index = world.index(INDEX)
    fill(index, "", ["lost-1", "lost-2"])
    fill(index, "", ["moved"], {"twin_id": "t-1", "creator_id": 7.0, "migrated_from": "elsewhere"})
    fill(index, "", ["own"], {"creator_id": "zoe", "twin_id": "z"})
    grouping = Grouping(snapshot=look_up(("t-1", "ana")), default="split")

    # When it is planned, then the reviewer is told
    parked = plan(world, grouping).warnings
    assert any("of the 4 records of '__default__', 2 have no owner to go to" in warning for warning in parked)
    assert any("1 hold another value under 'creator_id' already: they will be parked" in warning for warning in parked)
    # and that no policy lets a record say it came from elsewhere
    brought = "1 hold another value under 'migrated_from' already: it is overwritten and remembered"
    assert any(brought in warning for warning in parked)
    reviewed = plan(world, grouping, policies=Policies(orphans="review", conflicts="overwrite")).warnings
    assert any("2 have no owner: they go to 'review'" in warning for warning in reviewed)
    assert any("it is overwritten and remembered" in warning for warning in reviewed)

    # When that owner's namespace holds records already, then the target is not empty
    fill(index, "creator_zoe_twin_z", ["there"])
    with pytest.raises(BadPlan, match="not empty"):
        plan(world, grouping)


def test_to_have_the_default_namespace_deleted_takes_a_command_of_its_own(world: World) -> None:
    index = world.index(INDEX)
    fill(index, "", ["a", "b"])
    fill(index, "t-1", ["a"])
    made = plan(world, Grouping(creator="ana", default="delete"))
    assert made.left_alone == ("__default__",)
    assert "__default__ (2 records) is left alone" in made.warnings[0]
    assert "`vecfleet plan export INDEX --namespace __default__`" in made.warnings[0]


def test_with_several_owners_an_option_must_decide_about_the_default_namespace(world: World) -> None:
    fill(world.index(INDEX), "", ["a"])
    with pytest.raises(BadPlan, match="no option decides about __default__"):
        plan(world, Grouping(snapshot=look_up(("t-1", "ana"))))


@pytest.mark.parametrize("taken", ["default", "creator_ana_twin_default"])
def test_the_default_namespace_does_not_become_a_twin_that_exists(world: World, taken: str) -> None:
    index = world.index(INDEX)
    fill(index, "", ["a"])
    fill(index, taken, ["b"])
    with pytest.raises(BadPlan, match="has a twin 'default' already"):
        plan(world, Grouping(creator="ana"), policies=Policies(collisions="skip"))


def test_unowned_namespaces_stop_the_plan_unless_told_otherwise(world: World) -> None:
    # Given a namespace nobody is known to own, beside one that somebody owns
    index = world.index(INDEX)
    fill(index, "t-1", ["a"])
    fill(index, "stray", ["b"])
    snapshot = look_up(("t-1", "ana"))

    # When nothing is said of it, then the plan is refused
    with pytest.raises(BadPlan, match="nobody is known to own 'stray'"):
        plan(world, Grouping(snapshot=snapshot))

    # When it is skipped, then it is left alone
    skipped = plan(world, Grouping(snapshot=snapshot, unowned="skip"))
    assert "stray" in skipped.left_alone and "stray" not in targets(skipped)

    # When it is reviewed, then each of its records goes by its owner or to review
    reviewed = plan(world, Grouping(snapshot=snapshot, unowned="review"))
    assert targets(reviewed)["stray"] is None
    assert reviewed.policies.orphans == "review"
    assert any("goes to 'review'" in warning for warning in reviewed.warnings)


def test_every_problem_is_said_at_once(world: World) -> None:
    # Given a name that is not ASCII and one that is too long (in memory: renamed), a stray skip, two spellings
    index = world.index(INDEX)
    fill(index, "n" * 500, ["a"])
    fill(index, "", ["a"])

    # When they are planned
    rows = (
        Row("", "ana", "x"),
        Row("__default__", "ben", "y"),
        Row("gone", "ana", "z"),
        Row("n" * 500, "ana_twin", "n"),
    )
    with pytest.raises(BadPlan) as refusal:
        plan(world, Grouping(rows=rows), skip=("nowhere",))

    # Then each problem has its line
    said = refusal.value.message
    for sentence in ("two spellings", "'gone'", "'nowhere'", "_twin"):
        assert sentence in said
    assert refusal.value.exit_code == 2


def test_names_that_cannot_be_encoded_are_refused(world: World) -> None:
    fill(world.index(INDEX), "n" * 500, ["a"])
    with pytest.raises(BadPlan, match="the limit is 512"):
        plan(world, Grouping(creator="sainath.no.1"))


@pytest.mark.parametrize(
    "contradiction",
    [
        {},
        {"creator": "ana", "rows": (Row("a", "b"),)},
        {"creator": "ana", "default": "split"},
        {"rows": (Row("a", "b"),), "default": "twin"},
    ],
)
def test_contradicting_options_are_refused_before_anything_is_read(contradiction: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as refusal:
        Grouping(**contradiction)
    assert refusal.value.next_step


def test_a_creator_who_could_be_mistaken_for_a_twin_is_refused() -> None:
    with pytest.raises(BadName):
        Grouping(creator="x_twin")


def test_two_sources_with_a_common_id_into_one_target_are_refused_or_warned_of(world: World) -> None:
    # Given two namespaces to be consolidated that both hold the id `b`
    index = world.index(INDEX)
    fill(index, "one", ["a", "b"])
    fill(index, "two", ["b", "c"])
    rows = (Row("one", "ana", "x"), Row("two", "ana", "x"))

    # When ids may not collide, then the plan is refused, naming the id
    with pytest.raises(BadPlan, match="1 id would arrive in 'creator_ana_twin_x' more than once: 'b'"):
        plan(world, Grouping(rows=rows))

    # When they may, then it is a warning
    made = plan(world, Grouping(rows=rows), policies=Policies(collisions="skip"))
    assert any("'b'; what happens to them: skip" in warning for warning in made.warnings)
    assert made.may_share("creator_ana_twin_x")


def test_a_target_that_is_not_empty_is_refused_or_warned_of(world: World) -> None:
    index = world.index(INDEX)
    fill(index, "t", ["a", "b"])
    fill(index, "creator_ana_twin_t", ["b", "z"])
    with pytest.raises(BadPlan, match=r"1 target not empty \(2 records there\)"):
        plan(world, Grouping(creator="ana"))
    made = plan(world, Grouping(creator="ana"), policies=Policies(collisions="identical"))
    assert any("not empty" in warning for warning in made.warnings)
    assert any("1 id would arrive" in warning for warning in made.warnings)


def test_a_chain_and_a_cycle_are_refused(world: World) -> None:
    index = world.index(INDEX)
    fill(index, "creator_a", ["1"])
    fill(index, "creator_b", ["2"])
    skip = {"policies": Policies(collisions="skip")}
    with pytest.raises(BadPlan, match="one after the other"):
        plan(world, Grouping(rows=(Row("creator_a", "b"), Row("creator_b", "c"))), **skip)
    with pytest.raises(BadPlan, match="take each other's names"):
        plan(world, Grouping(rows=(Row("creator_a", "b"), Row("creator_b", "a"))), **skip)


def test_a_namespace_that_is_to_become_itself_is_left_out_with_a_warning(world: World) -> None:
    index = world.index(INDEX)
    fill(index, "creator_a", ["1"])
    fill(index, "old", ["2"])
    made = plan(world, Grouping(rows=(Row("creator_a", "a"), Row("old", "b"))))
    assert targets(made) == {"old": "creator_b"}
    assert any("already where they should be: 'creator_a'" in warning for warning in made.warnings)


def test_old_and_new_namespaces_together_must_fit_the_quota(world: World) -> None:
    world.seeded()
    with pytest.raises(BadPlan, match="would hold 60 namespaces"):
        plan(world, Grouping(creator="ana"), namespace_quota=59)
    assert plan(world, Grouping(creator="ana"), namespace_quota=60).records == 805


def test_owners_who_might_not_have_records_only_bring_a_warning_about_the_quota(world: World) -> None:
    index = world.index(INDEX)
    fill(index, "", ["a", "b", "c"])
    snapshot = look_up(*((f"t-{number}", "ana") for number in range(50)))
    made = plan(world, Grouping(snapshot=snapshot, default="split"), namespace_quota=3)
    assert any("may come to hold 4 namespaces" in warning for warning in made.warnings)
    enough = plan(world, Grouping(snapshot=snapshot, default="split"), namespace_quota=4).warnings
    assert not any("quota" in warning for warning in enough)


def test_sources_that_filter_by_different_fields_need_one_to_be_named(world: World) -> None:
    # Given two namespaces with different filterable fields for one target
    index = world.index(INDEX)
    fill(index, "one", ["a"], schema={"fields": {"lang": {"filterable": True}}})
    fill(index, "two", ["b"])
    rows = (Row("one", "ana", "x"), Row("two", "ana", "x"))

    # When none is named, then the plan is refused; when one is, the plan says so
    with pytest.raises(BadPlan, match="filter by different fields: 'one', 'two'"):
        plan(world, Grouping(rows=rows))
    assert plan(world, Grouping(rows=rows), schema_from="one").schema_from == "one"
    with pytest.raises(BadPlan, match="which is no source"):
        plan(world, Grouping(rows=rows), schema_from="three")


def test_a_missing_index_and_an_empty_one_are_refused_with_a_sentence(world: World) -> None:
    with pytest.raises(NotFound, match="there is no index"):
        plan(world, Grouping(creator="ana"))
    world.index(INDEX)
    with pytest.raises(BadPlan, match="holds nothing to move"):
        plan(world, Grouping(creator="ana"))


def test_a_list_is_read_from_csv_and_yaml_alike(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("namespace,creator,twin\n,ana,legacy\nold,ben,\n")
    (tmp_path / "list.yaml").write_text(
        "- {namespace: '', creator: ana, twin: legacy}\n- {namespace: old, creator: ben}\n"
    )
    expected = (Row("", "ana", "legacy"), Row("old", "ben", None))
    assert read_list(tmp_path, "list.csv") == expected
    assert read_list(tmp_path, "list.yaml") == expected


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.csv", "namespace,creator\nx,y\n", "has no column twin"),
        ("a.csv", "namespace,creator,twin\nx,y\n", "another number of fields"),
        ("a.csv", "namespace,creator,twin\nx,,z\n", "names no creator for 'x'"),
        ("a.csv", "namespace,creator,twin\n", "lists no namespace"),
        ("a.yaml", "{namespace: x}", "must be a list"),
        ("a.yaml", "- {namespace: x, owner: y}", "must be a list"),
        ("a.yaml", "!!python/name:os.system", "is not YAML"),
    ],
)
def test_a_list_that_cannot_be_understood_is_refused(tmp_path: Path, name: str, content: str, sentence: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(BadInput, match=sentence):
        read_list(tmp_path, name)


@pytest.mark.parametrize(
    "name", ["../outside.csv", "/etc/hosts", "a/../../outside.csv", "C:\\x.csv", "..\\outside.csv"]
)
def test_a_file_outside_the_root_is_never_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "outside.csv").write_text("namespace,creator,twin\nx,y,z\n")
    (tmp_path / "root").mkdir()
    with pytest.raises(BadInput, match="not under the folder"):
        read_list(tmp_path / "root", name)


def test_a_link_that_leads_out_of_the_root_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside.csv").write_text("namespace,creator,twin\nx,y,z\n")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link.csv").symlink_to(tmp_path / "outside.csv")
    with pytest.raises(BadInput, match="not under the folder"):
        read_list(tmp_path / "root", "link.csv")
