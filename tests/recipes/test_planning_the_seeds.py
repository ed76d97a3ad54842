"""The first user's index, on the emulator: planned as its documents ask, without one write."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from planning_world import NOW

from emulator.seeds_ownership import write_ownership
from emulator.server import Running, start
from migrations.analysis import analyze
from migrations.auditing import audit_index
from migrations.creators import Grouping
from migrations.ownership import look_up
from migrations.plan import read_plan, write_plan
from migrations.reading import Reader
from migrations.recipes import CreatorsOptions, IndexOptions, check_plan, plan_creators, plan_index, survey_again
from migrations.routing import Router
from vecfleet.errors import KeyRefused, NotFound
from vecfleet.settings import Settings
from vecfleet.stores.pinecone import PineconeStore

INDEX = "digital-twin-brain"
READS = {
    "list_aliases",
    "describe_index",
    "list_indexes",
    "list_namespaces",
    "describe_namespace",
    "list",
    "fetch",
    "describe_index_stats",
}


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    emulator = start(port=0, seeds=True, api_keys=("right",))
    yield emulator
    emulator.stop()


@pytest.fixture
def settings(running: Running, tmp_path: Path) -> Settings:
    write_ownership(tmp_path / "owners.yaml")
    return Settings(
        _env_file=None,
        pinecone_api_key="right",
        pinecone_controller_host=running.control,
        vecfleet_root=tmp_path,
    )


@pytest.fixture
def store(settings: Settings, running: Running) -> Iterator[PineconeStore]:
    """The project, which at the end must have seen no call but reads."""
    yield PineconeStore(settings)
    counts = httpx.get(f"{running.control}/_emulator/calls").json()["calls"]
    assert {call["operation"] for call in counts} <= READS


def test_one_creator_for_all(store: PineconeStore, tmp_path: Path) -> None:
    # Given the seeds' index
    # When it is planned for one creator, and the plan is written and read
    options = CreatorsOptions(index=INDEX, grouping=Grouping(creator="sainath.no.1"))
    write_plan(plan_creators(store, options, now=NOW), tmp_path / "plan.yaml")
    plan = read_plan(tmp_path / "plan.yaml")

    # Then 805 records in 30 namespaces have a target each, and it may be applied
    assert (plan.records, len({move.to for move in plan.moves})) == (805, 30)
    # And all that is odd is that records name another twin, of which a person is told before they are parked
    [warning] = plan.warnings
    assert "hold another value under 'twin_id' already" in warning and "`--conflicts keep`" in warning
    assert (plan.source.kind, plan.source.dimension, plan.source.metric) == ("dense", 3072, "cosine")
    assert 12_300 < plan.estimate.record_bytes < 14_000
    assert check_plan(plan, survey_again(store, plan, root=tmp_path)) == []


def test_three_creators_by_ownership_and_the_default_namespace_split(store: PineconeStore, settings: Settings) -> None:
    # Given the ownership file of 29 twins
    snapshot = look_up("file", settings, file="owners.yaml")

    # When the index is planned by it
    grouping = Grouping(snapshot=snapshot, default="split")
    plan = plan_creators(store, CreatorsOptions(index=INDEX, grouping=grouping), now=NOW)

    # Then every twin's namespace is its creator's, and the orphans of the default one are told
    assert {move.creator for move in plan.moves if move.to} == {"sainath.no.1", "creator-b", "creator-c"}
    assert [move.source for move in plan.moves if move.by_owner] == ["__default__"]
    assert any("of the 376 records of '__default__', 90 have no owner" in warning for warning in plan.warnings)
    assert check_plan(plan, survey_again(store, plan, root=settings.vecfleet_root), snapshot) == []

    # and analyze says the same
    found = analyze(Reader(store.open(store.describe(INDEX))), "", Router(snapshot.ownership))
    assert (found.records, sum(found.targets.values()), sum(found.orphans.values())) == (376, 286, 90)


def test_into_another_index(store: PineconeStore) -> None:
    plan = plan_index(store, IndexOptions(source=INDEX, target="digital-twin-serverless"), now=NOW)
    assert plan.records == 805 and plan.create_target is not None
    assert plan.create_target.region == "us-east-1"


def test_the_plan_in_the_documentation_is_the_plan_that_is_made(store: PineconeStore, tmp_path: Path) -> None:
    # Given the plan printed in docs/plans.md
    page = (Path(__file__).parents[2] / "docs" / "plans.md").read_text(encoding="utf-8")
    text = "vecfleet:" + page.split("```yaml\nvecfleet:")[1].split("```")[0]
    (tmp_path / "printed.yaml").write_text(text, encoding="utf-8")
    printed = read_plan(tmp_path / "printed.yaml")

    # When the seeds' index is planned
    made = plan_creators(store, CreatorsOptions(index=INDEX, grouping=Grouping(creator="sainath.no.1")), now=NOW)

    # Then they are the same, but for the day, what the sample said of sizes, and what was typed
    assert printed.command == ("plan", "creators", INDEX, "--creator", "sainath.no.1", "--default", "twin")
    assert printed.model_copy(update={"made_at": NOW, "estimate": made.estimate, "command": ()}).sealed() == made


def test_audit(store: PineconeStore) -> None:
    audit = audit_index(store, INDEX)
    assert (audit.records, len(audit.namespaces), len(audit.unparsed)) == (805, 30, 29)


def test_a_wrong_key_and_a_wrong_name_are_refused(store: PineconeStore, settings: Settings) -> None:
    grouping = Grouping(creator="sainath.no.1")
    wrong = PineconeStore(Settings(**(settings.model_dump() | {"pinecone_api_key": "wrong"}), _env_file=None))
    with pytest.raises(KeyRefused):
        plan_creators(wrong, CreatorsOptions(index=INDEX, grouping=grouping), now=NOW)
    with pytest.raises(NotFound, match=f"there are: {INDEX}"):
        plan_creators(store, CreatorsOptions(index="digital-twin", grouping=grouping), now=NOW)
