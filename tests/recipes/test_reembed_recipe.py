"""The recipe `reembed`: into a created or a checked index, refused where no vector could be made or compared."""

from typing import Any

import pytest
from planning_world import NOW, World, fill

from migrations.embedding import Embedding, Gate
from migrations.estimating import Prices
from migrations.plan import Plan, Policies
from migrations.recipes import Common, check_plan
from migrations.reembedding import ReembedOptions, plan_reembed
from migrations.reversing import plan_reverse, way_back
from migrations.survey import Surveyor
from vecfleet.embedders.local import LocalModel, revision
from vecfleet.errors import BadPlan
from vecfleet.model_cards import ModelCard
from vecfleet.stores.base import Kind

CARD = ModelCard(name="local/wordllama", revision=revision(), dimension=64)


@pytest.fixture
def brain(world: World) -> World:
    index = world.index("brain")
    fill(index, "prod", [f"p-{n:02}" for n in range(12)], {"text": "hello", "title": "Sleep"})
    fill(index, "test", ["t-1", "t-2"], {"title": "no text"})
    return world


def plan(
    world: World,
    target: str = "brain-64",
    text: str = "{text}",
    gate: Gate | None = None,
    old: ModelCard | None = None,
    **other: Any,
) -> Plan:
    embedding = Embedding(card=CARD, text=text, gate=gate or Gate(), old=old)
    recipe = ReembedOptions(
        source="brain", target=target, embedding=embedding, common=Common(policies=Policies(**other))
    )
    return plan_reembed(world, world, recipe, model=LocalModel(CARD), now=NOW)


def test_the_target_is_created_for_the_vectors_of_the_model(brain: World) -> None:
    made = plan(brain)
    assert (made.recipe, made.target.dimension, made.target.metric, made.source.dimension) == (
        "reembed",
        64,
        "cosine",
        8,
    )
    assert made.create_target is not None
    assert {move.source: move.to for move in made.moves} == {"prod": "prod", "test": "test"}
    assert not made.policies.enrich
    # And it still fits once that index was created
    like = made.target_like(brain.describe("brain"))
    brain.create_like("brain-64", like, None, None)
    assert check_plan(made, Surveyor(brain).survey("brain", "brain-64")) == []


def test_an_index_that_is_there_must_have_the_dimension_of_the_model(brain: World) -> None:
    brain.index("brain-64", dimension=64)
    assert plan(brain).create_target is None
    brain.index("other", dimension=256)
    with pytest.raises(BadPlan, match="local/wordllama gives 64, 'other' has 256; another --dimension may fit"):
        plan(brain, "other")
    brain.index("sparse", Kind.SPARSE, dimension=None)
    with pytest.raises(BadPlan, match="kind: 'sparse' is sparse; what is written is dense"):
        plan(brain, "sparse")


def test_another_metric_than_the_models_is_a_warning(brain: World) -> None:
    brain.index("far", dimension=64, metric="euclidean")
    assert any(
        "'far' compares by euclidean, and models are trained for cosine" in told for told in plan(brain, "far").warnings
    )


def test_the_same_index_cannot_hold_the_vectors_of_two_models(brain: World) -> None:
    with pytest.raises(BadPlan, match="the vectors of an index are of one model"):
        plan(brain, "brain")


def test_a_key_that_no_record_has_is_refused_with_those_that_hold_text(brain: World) -> None:
    with pytest.raises(
        BadPlan, match=r"no record of 14 has text: .*'body'.*; keys that hold text there: 'text', 'title'"
    ):
        plan(brain, text="{body}")


def test_records_of_the_sample_without_text_are_announced(brain: World) -> None:
    told = [warning for warning in plan(brain).warnings if "would be parked" in warning]
    assert told == ["2 of 14 sampled records would be parked: it has no metadata key 'text', of which its text is made"]


def test_an_application_that_writes_to_both_sides_and_shadow_reads_are_refused(brain: World) -> None:
    with pytest.raises(BadPlan, match="makes its own vectors of the new model"):
        plan(brain, writers="dual")
    with pytest.raises(BadPlan, match=r"the old one is not named: name it \(--old-model\)"):
        plan(brain, shadow_share=0.1)


def test_with_the_old_model_named_each_side_of_a_shadow_read_is_asked_in_its_own(brain: World) -> None:
    old = CARD.model_copy(update={"name": "openai/old", "dimension": 8})
    assert plan(brain, shadow_share=0.1, old=old).policies.shadow_share == 0.1
    with pytest.raises(BadPlan, match="openai/old gives 64 dimensions, and the index 'brain' has 8"):
        plan(brain, old=old.model_copy(update={"dimension": 64}))


def test_readers_of_tenants_namespaces_get_routes(world: World) -> None:
    index = world.index("brain")
    fill(index, "creator_ana_twin_coach", ["a"])
    fill(index, "others", ["b"])
    made = plan(world)
    assert {move.source: (move.creator, move.twin) for move in made.moves} == {
        "creator_ana_twin_coach": ("ana", "coach"),
        "others": (None, None),
    }
    assert not made.policies.enrich


def test_sparse_vectors_are_not_replaced(world: World) -> None:
    world.index("brain", Kind.SPARSE, dimension=None)
    with pytest.raises(BadPlan, match="holds sparse values only"):
        plan(world)


def test_without_questions_the_plan_says_that_quality_is_not_judged(brain: World) -> None:
    assert any("the quality of the new vectors is not judged" in told for told in plan(brain).warnings)
    gate = Gate(file="q.jsonl", counts={"prod": 3})
    asked = plan(brain, gate=gate, verify="content+query")
    assert not any("the quality of the new vectors is not judged" in told for told in asked.warnings)
    assert any("no question is about 'test'" in told for told in asked.warnings)


def test_questions_about_what_is_not_embedded_are_refused(brain: World) -> None:
    with pytest.raises(BadPlan, match="questions about what is not embedded: 'elsewhere'"):
        plan(brain, gate=Gate(file="q.jsonl", counts={"elsewhere": 1}), verify="content+query")


def test_the_old_vectors_do_not_come_back_by_a_reverse_plan(brain: World) -> None:
    made = plan(brain)
    assert any("the old vectors do not travel" in told for told in made.warnings)
    assert way_back(made) == "`vecfleet plan import FOLDER brain`, of an export made before the job"
    with pytest.raises(BadPlan, match="made new vectors, and the old ones did not travel"):
        plan_reverse(brain, made, ["prod"], prices=Prices(), now=NOW)


def test_a_plan_says_what_its_texts_cost(brain: World) -> None:
    cost = plan(brain).estimate.embedding
    assert cost is not None
    assert (cost.texts, cost.distinct, cost.dollars, cost.counted) == (12, 1, 0.0, True)


def test_larger_vectors_cost_more_to_write(brain: World) -> None:
    def write_units(dimension: int) -> float:
        card = CARD.model_copy(update={"dimension": dimension})
        recipe = ReembedOptions(source="brain", target="new", embedding=Embedding(card=card, text="{text}"))
        return plan_reembed(brain, brain, recipe, model=LocalModel(CARD), now=NOW).estimate.write_units

    assert write_units(4) == write_units(8) < write_units(3_072)


def test_the_digest_of_a_plan_covers_its_model_its_text_and_its_gate(brain: World) -> None:
    plans = [plan(brain), plan(brain, text="{title}"), plan(brain, gate=Gate(least_recall=0.5))]
    assert len({made.digest for made in plans}) == len(plans)
