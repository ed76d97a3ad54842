"""A target that embeds texts itself: it is sent texts, and proven by ids, metadata and texts."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from embedding_job import old
from in_one_process import One, Stored
from job_table import AT_ONCE, JobTable

from migrations.embedding import Embedding
from migrations.plan import Plan, Policies
from migrations.recipes import Common
from migrations.reembedding import ReembedOptions, plan_reembed
from orchestrator.core.states import JobState
from orchestrator.ledger import parked
from orchestrator.ledger.database import Database
from orchestrator.services import acts, left_behind
from vecfleet.embedders.opening import look_up, open_model
from vecfleet.errors import BadPlan
from vecfleet.settings import Settings
from vecfleet.stores.base import Index, IndexInfo, Kind
from vecfleet.stores.pinecone import PineconeStore
from workers.process import WorkerProcess

MODEL = "pinecone/multilingual-e5-large"
DENSE = {"fields": {"_values": {"type": "dense_vector", "dimension": 8, "metric": "cosine"}}}
NEW, OTHER = "new-index", "other-field"


class World:
    """The old index with five texts at the emulator, and a fleet beside it."""

    def __init__(self, ending: ExitStack, emulator: str, database_url: str, redis_url: str) -> None:
        self.settings = Settings.model_validate(
            {
                "database_url": database_url,
                "redis_url": redis_url,
                "pinecone_api_key": "a key",
                "pinecone_controller_host": emulator,
                "freshness_wait_seconds": 0.2,
                "request_deadline_seconds": 10.0,
            }
        )
        self.ending, self.database_url, self.tag = ending, database_url, uuid4().hex[:8]
        self.store = PineconeStore(self.settings)
        self.source = self.store.open(self.create("old", IndexInfo("", Kind.DENSE, 8, "cosine", "", schema=DENSE)))
        records = [old(f"r{n}", text=f"what was said, part {n}", page=float(n)) for n in range(5)]
        self.source.upsert("s", [*records, old("without", page=9.0)])

    def create(self, name: str, like: IndexInfo) -> IndexInfo:
        return self.store.create_like(f"{name}-{self.tag}", like, "aws", "us-east-1")

    def plan(self, target: str = NEW, text: str = "{text}", **options: Any) -> Plan:
        embedding = Embedding(card=look_up(MODEL, self.settings), text=text, integrated=True, **options)
        common = Common(policies=Policies(cut_over="none", soak_seconds=0))
        recipe = ReembedOptions(
            source=self.source.info.name, target=f"{target}-{self.tag}", embedding=embedding, common=common
        )
        model = open_model(embedding.card, self.settings)
        return plan_reembed(self.store, self.store, recipe, model=model, now=datetime.now(UTC))

    def apply(self, plan: Plan) -> One:
        target = self.create(NEW, plan.target_like(self.source.info))
        fleet, table = Stored(self.settings, self.store), JobTable(Database(self.database_url, pool_size=4))
        table.apply(plan, target, self.source.info, AT_ONCE)
        self.ending.callback(table.database.dispose)
        self.ending.callback(fleet.database.dispose)
        return One(table, WorkerProcess(fleet), self.store.open(target))


@pytest.fixture
def world(emulator: str, database_url: str, redis_url: str) -> Iterator[World]:
    with ExitStack() as ending:
        yield World(ending, emulator, database_url, redis_url)


def held(index: Index) -> dict[str, dict[str, Any]]:
    fetched = index.fetch("s", index.list_ids("s").ids).records
    return {record_id: dict(record.metadata) for record_id, record in fetched.items()}


def test_texts_are_sent_and_each_record_is_proven_and_its_source_deleted(world: World) -> None:
    plan = world.plan()
    assert plan.target.kind is Kind.INTEGRATED
    assert any("proven by id, metadata and text" in warning for warning in plan.warnings)
    one = world.apply(plan)
    before = held(world.source)
    one.until(JobState.NEEDS_ATTENTION, JobState.VERIFIED)
    # Then each record with a text is there, with its metadata and a vector of the service's
    wanted = {record_id: metadata for record_id, metadata in before.items() if "text" in metadata}
    assert held(one.index) == wanted
    assert all(len(record.values) == 1_024 * 4 for record in one.index.fetch("s", sorted(wanted)).records.values())
    # And the one without stays where it was
    with one.table.database.begin() as connection:
        (reason,) = [record.reason for record in parked.records(connection, one.table.job_id)]
    assert reason == "it has no metadata key 'text', of which its text is made"
    left_behind.accept_records(one.table.database, one.table.job_id, "ana", None)
    one.until(JobState.VERIFIED)
    acts.clean_up(one.table.database, one.table.job_id, "ana", by_ids=False)
    one.until(JobState.CLEANED)
    assert list(held(world.source)) == ["without"] and held(one.index) == wanted


def test_a_text_that_somebody_changed_at_the_target_is_found_and_repaired(world: World) -> None:
    world.source.delete("s", ["without"])
    one = world.apply(world.plan())
    one.until(JobState.VERIFIED)
    there = one.index.fetch("s", ["r2"]).records["r2"]
    one.index.upsert("s", [there.with_metadata({**there.metadata, "text": "another text"})])
    acts.verify(one.table.database, one.table.job_id, "ana")
    one.until(JobState.COPIED)
    one.until(JobState.VERIFIED)
    assert held(one.index) == held(world.source)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"text": "{title}: {text}"}, "allows no --text or --text-from"),
        ({"dollars_cap": 1.0}, "allows no --dollars-cap"),
        ({"without_text": "copy"}, "allows no --without-text copy"),
    ],
)
def test_what_such_an_index_cannot_do_is_refused(world: World, options: dict[str, Any], why: str) -> None:
    with pytest.raises(BadPlan, match=why):
        world.plan(**options)


def test_an_index_that_embeds_another_field_or_nothing_is_refused(world: World) -> None:
    fields = {"fields": {"body": {"type": "semantic_text", "model": "multilingual-e5-large", "metric": "cosine"}}}
    world.create(OTHER, IndexInfo("", Kind.INTEGRATED, None, "cosine", "", schema=fields))
    with pytest.raises(BadPlan, match="embeds the field 'body', and --text-key names 'text'"):
        world.plan(OTHER)
    world.create("plain", world.source.info)
    with pytest.raises(BadPlan, match="is dense, and embeds no text itself"):
        world.plan("plain")
