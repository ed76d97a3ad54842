"""The plan file: what is written is what is read, and whatever happened to the file in between is noticed."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from migrations import plan as plans
from migrations.plan import Estimate, IndexRef, Plan, PlannedMove, Split, read_plan, write_plan
from vecfleet.errors import BadPlan
from vecfleet.stores.base import Kind

INDEX = IndexRef(store="memory", index="digital-twin-brain", kind=Kind.DENSE, dimension=3072, metric="cosine")
COSTS = Estimate(
    records=5, requests=4, read_units=3.5, write_units=20.0, egress_bytes=70_000, dollars=0.01, seconds=0.4
)


def plan_of(*moves: PlannedMove, **other: Any) -> Plan:
    made_at = datetime(2026, 2, 11, tzinfo=UTC)
    return Plan(recipe="creators", made_at=made_at, source=INDEX, target=INDEX, moves=moves, estimate=COSTS, **other)


TWO_MOVES = plan_of(
    PlannedMove(source="__default__", records=3),
    PlannedMove(source="abc", records=2, to="creator_sainath.no.1_twin_abc", creator="sainath.no.1", twin="abc"),
    warnings=("ü: a name the service cannot hold",),
)


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    # Given a plan written to a file
    written = write_plan(TWO_MOVES, tmp_path / "plans" / "one.yaml")

    # When it is read
    read = read_plan(tmp_path / "plans" / "one.yaml")

    # Then it is the same, digest included, and no draft lies about
    assert read == written
    assert read.digest == read.computed_digest()
    assert [path.name for path in (tmp_path / "plans").iterdir()] == ["one.yaml"]


@pytest.mark.parametrize(
    ("before", "after"),
    [("records: 2", "records: 3"), ("conflicts: fail", "conflicts: overwrite"), ("twin: abc", "twin: abd")],
)
def test_a_plan_edited_by_hand_is_refused(tmp_path: Path, before: str, after: str) -> None:
    # Given a plan file in which somebody changed a value
    path = tmp_path / "plan.yaml"
    write_plan(TWO_MOVES, path)
    path.write_text(path.read_text().replace(before, after, 1))

    # When it is read, then it is refused, with the way on
    with pytest.raises(BadPlan, match="was changed after it was made") as refusal:
        read_plan(path)
    assert refusal.value.next_step


def test_a_plan_file_from_before_a_policy_came_is_read_with_its_default(tmp_path: Path) -> None:
    # Given a plan file without a policy and a property of an index, as versions wrote it that did not know them
    path = tmp_path / "plan.yaml"
    write_plan(TWO_MOVES, path)
    body = yaml.safe_load(path.read_text())
    del body["policies"]["shadow_share"], body["source"]["project"]
    path.write_text(yaml.safe_dump(body))

    # When it is read, then it is the plan that was reviewed
    assert read_plan(path) == TWO_MOVES.sealed()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "is not a plan"),
        ("[1, 2", "is not YAML"),
        ("- a\n- b\n", "is not a plan"),
        ("vecfleet: 2\n", "vecfleet"),
        ("!!python/object/apply:os.system ['true']\n", "is not YAML"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_a_file_that_is_no_plan_is_refused_with_a_sentence(tmp_path: Path, content: str | bytes, sentence: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadPlan, match=sentence):
        read_plan(path)


def test_a_missing_plan_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadPlan, match="there is no plan file"):
        read_plan(tmp_path / "none.yaml")


def test_a_plan_cut_short_is_refused(tmp_path: Path) -> None:
    # Given a plan whose last lines were lost in a copy
    path = tmp_path / "plan.yaml"
    write_plan(TWO_MOVES, path)
    lines = path.read_text().splitlines(keepends=True)

    # When any number of its lines is left, then it is refused
    for kept in range(len(lines)):
        path.write_text("".join(lines[:kept]))
        with pytest.raises(BadPlan):
            read_plan(path)


def test_an_oversized_file_is_refused_before_it_is_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "MAX_PLAN_BYTES", 10)
    path = tmp_path / "plan.yaml"
    path.write_text("a" * 11)
    with pytest.raises(BadPlan, match="a plan has at most 10"):
        read_plan(path)


def test_a_plan_may_not_hold_what_the_model_does_not_know(tmp_path: Path) -> None:
    # Given a plan file to which somebody added a host
    path = tmp_path / "plan.yaml"
    write_plan(TWO_MOVES, path)
    body = yaml.safe_load(path.read_text())
    body["source"]["host"] = "elsewhere"
    path.write_text(yaml.safe_dump(body))

    # When it is read, then it is refused, naming the key
    with pytest.raises(BadPlan, match=r"source\.host"):
        read_plan(path)


def test_one_namespace_under_two_spellings_is_planned_only_once() -> None:
    with pytest.raises(ValidationError, match="planned more than once: __default__"):
        plan_of(PlannedMove(source="", records=1, to="a"), PlannedMove(source="__default__", records=1, to="b"))


@pytest.mark.parametrize(
    ("targets", "target", "shared"),
    [
        (["t", "u"], "t", False),
        (["t", "t"], "t", True),
        (["t", None], "t", True),
        (["t", None], "elsewhere", False),
        ([None, None], "elsewhere", True),
    ],
)
def test_a_target_may_be_shared_where_two_moves_can_write_to_it(
    targets: list[str | None], target: str, shared: bool
) -> None:
    moves = (PlannedMove(source=f"s{i}", records=1, to=to) for i, to in enumerate(targets))
    assert plan_of(*moves).may_share(target) is shared


@pytest.mark.parametrize(
    ("target", "shared"),
    [("team-a", True), ("team-b", False), ("squad-a", False), ("rest", True), ("elsewhere", False)],
)
def test_a_target_is_shared_with_a_split_only_where_its_template_may_lead(target: str, shared: bool) -> None:
    moves = (
        PlannedMove(source="s", records=1, to="team-a"),
        PlannedMove(source="t", records=1, template="team-{value}"),
        PlannedMove(source="u", records=1, template="squad-{value}"),
    )
    made = plan_of(*moves).model_copy(update={"split": Split(key="team", otherwise="rest")})
    assert made.may_share(target) is shared
