"""Recipe `documents`: every record is read first; what no document can hold is named, and nothing is created."""

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from planning_world import DIMENSION, NOW, World, fill

from migrations.creators import Grouping
from migrations.documents import DocumentsOptions, plan_documents
from migrations.estimating import Prices
from migrations.mapping import MetadataMap
from migrations.plan import Plan, Policies, read_plan, write_plan
from migrations.recipes import Common, check_plan, survey_again
from migrations.reversing import plan_reverse, way_back
from vecfleet.errors import BadInput, BadPlan
from vecfleet.records import Record, Sparse
from vecfleet.stores.base import IndexInfo, Kind

SOURCE, TARGET = "brain", "brain-documents"
DENSE = {"type": "dense_vector", "dimension": DIMENSION, "metric": "cosine"}
LEGACY = {"fields": {"_values": DENSE, "_sparse_values": {"type": "sparse_vector"}}}
DOCUMENTS = {"fields": {"vector": DENSE, "body": {"type": "string", "full_text_search": {"language": "en"}}}}


def plan(world: World, **options: Any) -> Plan:
    refused = options.pop("refused", lambda *_: None)
    recipe = DocumentsOptions(**{"source": SOURCE, "target": TARGET} | options)
    return plan_documents(world, recipe, now=NOW, refused=refused)


@pytest.fixture
def brain(world: World) -> World:
    """An index as the service describes one of vectors today: with a field for sparse values, used or not."""
    index = world.index(SOURCE, Kind.HYBRID, schema=LEGACY)
    fill(index, "coach", ["c-1", "c-2"])
    fill(index, "guide", ["g-1"])
    return world


def test_every_namespace_keeps_its_name_and_the_plan_says_the_fields(brain: World) -> None:
    made = plan(brain, texts={"text": {"language": "de"}})

    assert {move.source: move.to for move in made.moves} == {"coach": "coach", "guide": "guide"}
    assert made.policies.enrich is False
    assert made.target.fields == {
        "embedding": DENSE,
        "text": {"type": "string", "full_text_search": {"language": "de"}},
    }
    assert made.target.kind is Kind.DENSE
    assert any("no record has sparse values" in warning for warning in made.warnings)


def test_a_field_for_sparse_values_is_made_where_any_record_has_some(brain: World) -> None:
    sparse = Sparse(struct.pack("<I", 7), struct.pack("<f", 0.5))
    values = struct.pack(f"<{DIMENSION}f", *range(1, DIMENSION + 1))
    brain.open(brain.describe(SOURCE)).upsert("coach", [Record("c-3", values, sparse)])

    made = plan(brain)

    assert made.target.fields == {"embedding": DENSE, "sparse_embedding": {"type": "sparse_vector"}}
    assert made.target.kind is Kind.HYBRID


def test_records_that_can_be_no_documents_are_named_by_reason_and_nothing_is_planned(brain: World) -> None:
    # Given keys as frameworks write them, and one that is to be searched and holds no text
    index = brain.open(brain.describe(SOURCE))
    for number in range(7):
        fill(index, "llama", [f"l-{number}"], {"_node_content": "{}"})
    fill(index, "guide", ["g-2"], {"text": ["a", "list"]})
    told: list[tuple[str, str]] = []

    with pytest.raises(BadPlan) as refusal:
        plan(brain, texts={"text": {}}, refused=lambda namespace, id, why: told.append((namespace, id)))

    said = refusal.value.message
    assert "7 records cannot be stored as a document: its metadata key '_node_content' begins with _" in said
    assert "'llama: l-0', 'llama: l-1'" in said
    assert "1 record cannot be stored as a document: its metadata key 'text' is no text" in said
    assert "--name-key _node_content=node_content" in str(refusal.value.next_step)
    assert sorted(told) == [("guide", "g-2"), *(("llama", f"l-{number}") for number in range(7))]
    assert [info.name for info in brain.indexes()] == [SOURCE]


def test_a_key_gets_another_name_which_the_plan_file_keeps(brain: World, tmp_path: Path) -> None:
    fill(brain.open(brain.describe(SOURCE)), "llama", ["l-1"], {"_node_content": "{}"})

    made = plan(brain, names={"_node_content": "node_content"})
    write_plan(made, tmp_path / "plan.yaml")

    assert read_plan(tmp_path / "plan.yaml").target.names == {"_node_content": "node_content"}


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ({"_a": "_b"}, "begins with _"),
        ({"_a": "embedding"}, "is the name of a field for vectors"),
        ({"_a": "b", "_c": "b"}, "stands for another key already"),
        ({"_a": "x" * 65}, "has 65 bytes"),
        ({"_a": "vecfleet_a"}, "as only keys that vecfleet adds may"),
    ],
)
def test_a_name_that_no_field_may_have_is_refused(brain: World, names: dict[str, str], why: str) -> None:
    with pytest.raises(BadInput, match=why):
        plan(brain, names=names)


def test_two_keys_of_one_record_never_get_one_name(brain: World) -> None:
    both = {"_node_content": "{}", "node_content": "mine"}
    fill(brain.open(brain.describe(SOURCE)), "llama", ["l-1"], both)

    with pytest.raises(BadPlan, match="'node_content' is the name that another key gets"):
        plan(brain, names={"_node_content": "node_content"})


@pytest.mark.parametrize(
    "options",
    [
        {"names": {"creator_id": "owner"}},
        {"names": {"owner": "twin_id"}},
        {"texts": {"creator_id": {}}},
        {"dense": "migrated_from"},
    ],
)
def test_keys_by_which_a_tenant_is_known_keep_their_names(brain: World, options: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="a tenant's records are known by these keys"):
        plan(brain, **options)


def test_a_name_that_is_the_key_itself_changes_nothing(brain: World) -> None:
    assert {move.source for move in plan(brain, names={"text": "text"}).moves} == {"coach", "guide"}


def test_what_the_metadata_map_leaves_is_what_must_fit(brain: World) -> None:
    fill(brain.open(brain.describe(SOURCE)), "llama", ["l-1"], {"_private": "x"})
    common = Common(policies=Policies(metadata_map=MetadataMap(drop=("_private",), undo="none")))

    assert plan(brain, common=common).policies.metadata_map is not None


def test_refused_records_may_be_left_to_the_copy_which_parks_them(brain: World) -> None:
    fill(brain.open(brain.describe(SOURCE)), "llama", ["l-1"], {"_node_content": "{}"})

    made = plan(brain, parks_refused=True)

    assert any("'llama: l-1' will be parked" in warning for warning in made.warnings)


def test_tenants_namespaces_may_be_made_on_the_way(brain: World) -> None:
    made = plan(brain, grouping=Grouping(creator="ana"))

    assert {move.to for move in made.moves} == {"creator_ana_twin_coach", "creator_ana_twin_guide"}


def test_an_index_of_documents_that_is_there_is_used_with_its_own_fields(brain: World) -> None:
    brain.index(TARGET, schema=DOCUMENTS)

    made = plan(brain)

    assert (made.create_target, made.target.fields) == (None, DOCUMENTS["fields"])
    with pytest.raises(BadPlan, match="the fields of an index never change"):
        plan(brain, texts={"title": {}})


def test_an_index_of_another_kind_is_refused(brain: World) -> None:
    brain.index("other", schema=LEGACY)
    with pytest.raises(BadPlan, match="holds vectors: an index never becomes one of documents"):
        plan(brain, target="other")
    brain.index(TARGET, schema=DOCUMENTS)
    with pytest.raises(BadPlan, match="holds documents already"):
        plan(brain, source=TARGET, target="more")


def test_fields_that_changed_since_are_an_objection(brain: World) -> None:
    made = plan(brain)
    brain.create_like(TARGET, made.target.shape(brain.describe(SOURCE)), None, None)
    assert check_plan(made, survey_again(brain, made, root=Path())) == []

    described = brain.describe(TARGET)
    brain.open(described).info = replace(described, schema=DOCUMENTS)

    [objection] = check_plan(made, survey_again(brain, made, root=Path()))
    assert "the fields of the index 'brain-documents' are others" in objection


def test_answers_by_both_kinds_of_values_cannot_be_compared(brain: World) -> None:
    queried = Common(policies=Policies(verify="content+query"))
    with pytest.raises(BadPlan, match="is searched by either, not by both"):
        plan(brain, sparse="terms", common=queried)
    assert plan(brain, common=queried).policies.verify == "content+query"


def test_both_ways_are_priced(brain: World) -> None:
    dear = Common(prices=Prices(conversion_gb=1_000_000.0))

    [said] = [warning for warning in plan(brain, common=dear).warnings if "--via convert" in warning]
    assert said.startswith("two ways lead there, and both are proven. a copy: $")
    [unknown] = [warning for warning in plan(brain).warnings if "--via convert" in warning]
    assert "the service's price of 0.000 GB (CONVERSION_DOLLARS_PER_GB)" in unknown
    copied, converted = plan(brain).estimate, plan(brain, converts=True).estimate
    assert (converted.write_units < copied.write_units) and (converted.read_units > copied.read_units)


def test_a_conversion_takes_whole_indexes_as_they_are(brain: World) -> None:
    dual = Common(policies=Policies(writers="dual", metadata_map=MetadataMap(drop=("text",), undo="none")))
    with pytest.raises(BadPlan) as refusal:
        plan(brain, converts=True, grouping=Grouping(creator="ana"), common=dual)
    for why in ("keeps the names of namespaces", "keeps metadata and vectors as they are", "writes to both sides"):
        assert why in refusal.value.message
    with pytest.raises(BadPlan, match="takes every namespace, and the plan leaves out 'guide'"):
        plan(brain, converts=True, common=Common(skip=("guide",)))
    brain.index(TARGET, schema=DOCUMENTS)
    with pytest.raises(BadPlan, match="makes a new index"):
        plan(brain, converts=True)


def test_the_way_back_is_a_reverse_plan_into_an_index_like_the_old(brain: World) -> None:
    made = plan(brain, names={"_node_content": "node_content"})
    into = brain.create_like(TARGET, made.target.shape(brain.describe(SOURCE)), None, None)
    fill(brain.open(into), "coach", ["c-1", "c-2"])
    empty(brain, "coach", "guide")

    back = plan_reverse(brain, made, ["coach"], prices=Prices(), now=NOW)

    assert way_back(made, 1) == "`vecfleet plan reverse 1`"
    assert {move.source: move.to for move in back.moves} == {"coach": "coach"}
    assert (back.source.names, back.target.index) == ({"_node_content": "node_content"}, SOURCE)
    created = back.target.shape(IndexInfo(TARGET, Kind.DENSE, DIMENSION, "cosine", "", schema=DOCUMENTS))
    assert (created.kind, created.schema) == (Kind.HYBRID, LEGACY)


def empty(world: World, *namespaces: str) -> None:
    index = world.open(world.describe(SOURCE))
    for namespace in namespaces:
        index.delete_namespace(namespace)
