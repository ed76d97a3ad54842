"""A metadata map as a person types it: on every recipe, shown before anything is written, refused with its reason."""

from pathlib import Path

import pytest
from terminal import Brain, Vecfleet

MAP = ("--set", "env=prod", "--drop", "page", "--rename-key", "text=body", "--conflicts", "overwrite")


@pytest.mark.parametrize(
    "recipe",
    [
        ("creators", "brain", "--creator", "ana"),
        ("namespaces", "brain", "first=first_v2"),
        ("index", "brain", "mind"),
        ("export", "brain"),
        ("stores", "pinecone:brain", "pinecone:mind"),
    ],
    ids=lambda recipe: recipe[0],
)
def test_every_recipe_takes_a_map_and_shows_what_it_makes_of_records(
    vecfleet: Vecfleet, brain: Brain, recipe: tuple[str, ...]
) -> None:
    brain.forget_calls()
    answer = vecfleet("plan", *recipe, *MAP, "--json").json
    policies = answer["plan"]["policies"]
    assert policies["metadata_map"]["rename"] == {"text": "body"}
    assert (policies["conflicts"], policies["enrich"]) == ("overwrite", True)
    assert 0 < len(answer["mapped"]) <= 10
    assert all(record["after"]["env"] == "prod" and "text" not in record["after"] for record in answer["mapped"])
    assert not brain.writes()


def test_a_plan_says_what_its_map_does_and_what_travels(vecfleet: Vecfleet, brain: Brain) -> None:
    shown = vecfleet("plan", "index", "brain", "mind", *MAP, "--out", "plan.yaml")
    assert "what it makes of 4 records, 3 shown:" in shown.out
    assert "what it makes of 4 records:" in vecfleet("apply", "plan.yaml", "--dry-run").out
    for answer in (shown, vecfleet("show", "plan.yaml")):
        assert 'metadata: rename text → body · drop page · set env = "prod"' in answer.out
        assert "it can be taken back: each record carries `migrated_from` and `_vecfleet_map`" in answer.out
    for_good = vecfleet("plan", "index", "brain", "mind", "--drop", "page", "--map-undo", "none")
    assert "it cannot be taken back" in for_good.out


def test_what_no_record_holds_is_refused_and_no_plan_is_written(
    vecfleet: Vecfleet, brain: Brain, tmp_path: Path
) -> None:
    answer = vecfleet("plan", "index", "brain", "mind", "--set", "x=null", "--drop", "migrated_from")
    assert answer.code == 2
    assert "'x' is set to null, which no record keeps" in answer.err
    assert "the key 'migrated_from' is written by vecfleet itself" in answer.err
    assert not (tmp_path / "plans").exists()
