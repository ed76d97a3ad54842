"""Recipe `namespaces`: copied, renamed, merged and split as asked, or refused with everything that is wrong at once."""

from pathlib import Path
from typing import Any

import pytest
from planning_world import NOW, World, fill

from migrations.between import StoresOptions, plan_stores
from migrations.estimating import Prices
from migrations.namespaces import NamespacesOptions, naming_of, plan_namespaces, read_pairs
from migrations.plan import NewIndex, Plan, PlannedMove, Policies, read_plan, write_plan
from migrations.recipes import Common, ExportOptions, IndexOptions, check_plan, plan_export, plan_index, survey_again
from migrations.renaming import Naming, Pair
from migrations.reversing import plan_reverse, way_back
from vecfleet.errors import BadInput, BadPlan
from vecfleet.stores.memory import MemoryStore

SHOP, DEPOT = "shop", "depot"


@pytest.fixture
def shop(world: World) -> World:
    """An index of two tenants, of production, and of everybody's records, some of which name a team."""
    index = world.index(SHOP)
    fill(index, "prod", ["p1", "p2"])
    fill(index, "tenant-a", ["1"])
    fill(index, "tenant-b", ["1", "2"])
    fill(index, "all", ["r"], {"team": "red"})
    fill(index, "all", ["three"], {"team": 3.0})
    fill(index, "all", ["nobody's"])
    return world


def plan(world: World, *pairs: str, to: str | None = None, common: Common | None = None, **naming: Any) -> Plan:
    given: dict[str, Any] = {"merges": False, "key": None, "otherwise": None}
    options = NamespacesOptions(
        index=SHOP,
        target=to,
        naming=naming_of(tuple(map(Pair.read, pairs)), **given | naming),
        common=common or Common(),
    )
    return plan_namespaces(world, options, now=NOW)


def said(world: World, *pairs: str, **options: Any) -> str:
    with pytest.raises(BadPlan) as refused:
        plan(world, *pairs, **options)
    return refused.value.message


def routes(made: Plan) -> dict[str, str | None]:
    return {move.source: move.to or move.template for move in made.moves}


def test_one_namespace_is_copied_within_its_index_and_its_records_stay_as_they_are(shop: World) -> None:
    made = plan(shop, "prod=prod_v2")
    assert routes(made) == {"prod": "prod_v2"} and made.same_index and not made.policies.enrich
    assert made.left_alone == ("all", "tenant-a", "tenant-b")
    assert way_back(made, 7) == "`vecfleet plan reverse 7`"


def test_many_are_renamed_by_a_pattern_into_another_index(shop: World) -> None:
    made = plan(shop, "tenant-*=t/{1}", "prod=prod", to=DEPOT)
    assert routes(made) == {"tenant-a": "t/a", "tenant-b": "t/b", "prod": "prod"}
    assert made.create_target == NewIndex(cloud="aws", region="us-east-1")
    assert not made.policies.enrich


@pytest.mark.parametrize(
    ("pairs", "options"),
    [
        (["tenant-*=tenants"], {"merges": True, "common": Common(policies=Policies(collisions="identical"))}),
        (["all=team-{value}"], {"key": "team"}),
        (["prod=creator_ana_twin_prod"], {}),
        (["prod=tenant-a"], {"common": Common(policies=Policies(collisions="skip"))}),
    ],
)
def test_where_names_alone_do_not_say_where_a_record_came_from_it_says_so_itself(
    shop: World, pairs: list[str], options: dict[str, Any]
) -> None:
    assert plan(shop, *pairs, **options).policies.enrich


def test_a_tenants_namespace_is_known_for_its_tenants(shop: World) -> None:
    (move,) = plan(shop, "prod=creator_ana_twin_prod").moves
    assert (move.creator, move.twin) == ("ana", "prod")


def test_a_namespace_is_split_by_a_key_and_the_plan_says_what_lacks_it(shop: World, tmp_path: Path) -> None:
    parked = plan(shop, "all=team-{value}", key="team")
    elsewhere = plan(shop, "all=team-{value}", key="team", otherwise="rest")
    assert routes(parked) == routes(elsewhere) == {"all": "team-{value}"}
    assert any("1 will be parked" in warning and "no 'team'" in warning for warning in parked.warnings)
    assert any("1 lack 'team': they go to 'rest'" in warning for warning in elsewhere.warnings)
    # And it is read as it was written
    write_plan(elsewhere, tmp_path / "plan.yaml")
    assert read_plan(tmp_path / "plan.yaml") == elsewhere


def test_a_key_that_no_erasure_knows_is_named_where_it_makes_tenants_of_records(shop: World) -> None:
    said = "in the source `vecfleet forget` knows a tenant's records by their creator_id and twin_id, and not by 'team'"
    assert any(said in one for one in plan(shop, "all=creator_{value}", key="team").warnings)
    assert not any(said in one for one in plan(shop, "all=team-{value}", key="team").warnings)


def test_everything_that_is_wrong_is_said_at_once(shop: World) -> None:
    wrong = said(shop, "nope=x", "prod=spä ce", "tenant-*=x", f"all={'y' * 600}")
    assert "no namespace of the index 'shop' matches 'nope'; it holds 'all', 'prod', 'tenant-a', 'tenant-b'" in wrong
    assert "characters other than ASCII" in wrong and "has 600 characters" in wrong
    assert "records of 'tenant-a', 'tenant-b' would come together in 'x'" in wrong and "--merge" in wrong


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        (["prod=tenant-a"], "1 target not empty (1 record there): 'tenant-a'"),
        (["prod=tenant-a", "tenant-a=prod"], "are to take each other's names: 'prod', 'tenant-a'"),
        (["prod=tenant-a", "tenant-a=x"], "are the target of one move and the source of another: 'tenant-a'"),
        (["prod=prod"], "would keep its name in the same index"),
        (["tenant-?=a"], "would come together in 'a'"),
        (["tenant-a*=t{1}", "prod*={1}"], "an empty name is no namespace's"),
    ],
)
def test_a_target_that_is_taken_is_refused(shop: World, pairs: list[str], sentence: str) -> None:
    assert sentence in said(shop, *pairs)


def test_a_value_that_leads_into_a_source_is_found_when_planning(shop: World) -> None:
    fill(shop.open(shop.describe(SHOP)), "all", ["p"], {"team": "prod"})
    assert "are the target of one move and the source of another: 'prod'" in said(
        shop,
        "all={value}",
        "prod=prod_v2",
        key="team",
        merges=True,
        common=Common(policies=Policies(collisions="skip")),
    )


def test_equal_ids_of_two_sources_are_refused_until_it_is_said_what_becomes_of_them(shop: World) -> None:
    assert "1 id would arrive in 'tenants' more than once: '1'" in said(shop, "tenant-*=tenants", merges=True)
    made = plan(shop, "tenant-*=tenants", merges=True, common=Common(policies=Policies(collisions="prefix")))
    assert made.may_share("tenants")


def test_a_target_that_came_to_hold_records_is_refused_when_the_plan_is_applied(shop: World) -> None:
    made = plan(shop, "prod=prod_v2")
    assert check_plan(made, survey_again(shop, made, root=Path())) == []
    fill(shop.open(shop.describe(SHOP)), "prod_v2", ["1"])
    assert any("'prod_v2'" in one for one in check_plan(made, survey_again(shop, made, root=Path())))


@pytest.mark.parametrize("name", ["My_Index", "-x", "x" * 46, "ä"])
def test_an_index_name_that_the_service_refuses_is_refused_when_planning(shop: World, name: str) -> None:
    with pytest.raises(BadInput, match="1 to 45 lower-case letters") as refused:
        plan(shop, "prod=prod", to=name)
    assert refused.value.next_step
    with pytest.raises(BadInput, match="1 to 45 lower-case letters"):
        plan_index(shop, IndexOptions(source=SHOP, target=name), now=NOW)


def test_an_index_into_itself_is_told_what_copies_within_one(shop: World) -> None:
    with pytest.raises(BadPlan, match="'shop' is both the source and the target") as refused:
        plan_index(shop, IndexOptions(source=SHOP, target=SHOP), now=NOW)
    assert refused.value.next_step is not None and "vecfleet plan namespaces shop OLD=NEW" in refused.value.next_step


def test_every_recipe_takes_three_of_thirty_by_globs(shop: World) -> None:
    chosen = Common(only=("tenant-*", "prod"), skip=("*-b",))
    for made in (
        plan_index(shop, IndexOptions(source=SHOP, target=DEPOT, common=chosen), now=NOW),
        plan_export(shop, MemoryStore(), ExportOptions(index=SHOP, folder="f", common=chosen), now=NOW),
        plan(shop, "*=v2/{1}", common=chosen),
    ):
        assert sorted(move.source for move in made.moves) == ["prod", "tenant-a"]
        assert made.left_alone == ("all", "tenant-b")
    # And a glob that finds nothing is a mistake
    common = Common(only=("tennant-*",), skip=("x",))
    wrong = said(shop, "*=v2/{1}", common=common)
    assert "to be chosen, but not in the index 'shop': 'tennant-*'" in wrong and "to be skipped" in wrong
    assert "(* and ? alone are wildcards); it holds 'all', 'prod', 'tenant-a'" in wrong


@pytest.mark.parametrize(
    ("rename", "sentence"),
    [
        ("nope=foo", "no namespace of the index 'shop' matches 'nope'"),
        ("prod=tenant-a", "records of 'prod', 'tenant-a' would come together in 'tenant-a'"),
        ("prod=with spáce", "characters other than ASCII"),
    ],
)
def test_a_rename_between_stores_is_checked_when_planning(shop: World, rename: str, sentence: str) -> None:
    into = World()
    into.index(DEPOT)
    common = Common(naming=Naming(pairs=(Pair.read(rename),)))
    with pytest.raises(BadPlan, match=sentence):
        plan_stores(shop, into, StoresOptions(source=SHOP, target=DEPOT, common=common), now=NOW)


def test_what_is_skipped_is_not_in_the_way(shop: World) -> None:
    assert routes(plan(shop, "tenant-*=x", common=Common(skip=("tenant-b",)))) == {"tenant-a": "x"}


def test_the_way_back_of_renamed_namespaces_is_their_names_reversed(shop: World) -> None:
    # Given two namespaces that were renamed, and cleaned up
    made = plan(shop, "tenant-*=t/{1}")
    index = shop.open(shop.describe(SHOP))
    for name, ids in (("a", ["1"]), ("b", ["1", "2"])):
        fill(index, f"t/{name}", ids)  # type: ignore[arg-type]
        index.delete_namespace(f"tenant-{name}")
    back = plan_reverse(shop, made, ["t/a", "t/b"], prices=Prices(), now=NOW)
    assert routes(back) == {"t/a": "tenant-a", "t/b": "tenant-b"} and not back.policies.enrich
    # Or of one of them
    (alone,) = plan_reverse(shop, made, ["t/a", "t/b"], prices=Prices(), now=NOW, only=["t/*"], skip=["*/b"]).moves
    assert (alone.source, alone.to) == ("t/a", "tenant-a")
    with pytest.raises(BadPlan, match="to be chosen, but not in the index 'shop': 'tenant-a'"):
        plan_reverse(shop, made, ["t/a", "t/b"], prices=Prices(), now=NOW, only=["tenant-a"])
    # And that of a split is what its records say
    split = plan(shop, "all=team-{value}", key="team")
    fill(index, "team-red", ["r"])  # type: ignore[arg-type]
    (returning,) = plan_reverse(shop, split, ["team-red"], prices=Prices(), now=NOW).moves
    assert returning == PlannedMove(source="team-red", records=1)


def test_pairs_are_read_from_csv_and_yaml_alike(tmp_path: Path) -> None:
    (tmp_path / "names.csv").write_text("old,new\nprod,prod_v2\ntenant-*,t/{1}\n")
    (tmp_path / "names.yaml").write_text("- {old: prod, new: prod_v2}\n- {old: tenant-*, new: 't/{1}'}\n")
    expected = (Pair("prod", "prod_v2"), Pair("tenant-*", "t/{1}"))
    assert read_pairs(tmp_path, "names.csv") == read_pairs(tmp_path, "names.yaml") == expected
    for name, content, sentence in (
        ("a.csv", "old,new\nprod,\n", "entry 1: it lacks"),
        ("a.csv", "from,to\n", "no column old"),
        ("a.yaml", "{old: x}", "must be a list"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(BadInput, match=sentence):
            read_pairs(tmp_path, name)


def test_without_pairs_it_is_said_how_to_write_them(shop: World) -> None:
    with pytest.raises(BadInput, match="no namespaces are named"):
        plan(shop)


def test_a_name_that_would_stay_as_it_is_in_its_own_index_is_told_so(shop: World) -> None:
    """It was refused as an index that holds nothing to move."""
    told = said(shop, "prod=prod")
    assert "'prod' would keep its name in the same index: name another one for it, or another index by --to" in told
    assert "holds nothing" not in told
    # And of several all that stay are named; in another index a kept name is a copy
    assert "'prod', 'tenant-a' would keep their names" in said(shop, "prod=prod", "tenant-a=tenant-a")
    assert routes(plan(shop, "prod=prod", to=DEPOT)) == {"prod": "prod"}
