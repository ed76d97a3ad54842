"""`--writers delta` on every recipe and pair of stores: what writers add, change and delete at the source follows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow.dataset as ds
import pytest

from migrations.between import StoresOptions, TablesOptions, plan_stores, plan_tables
from migrations.creators import Grouping
from migrations.namespaces import NamespacesOptions, naming_of, plan_namespaces
from migrations.plan import NewIndex, Plan, Policies
from migrations.recipes import Common, ExportOptions, IndexOptions, plan_export, plan_index
from migrations.renaming import Pair
from orchestrator.core.progress import progress
from orchestrator.core.states import JobState
from orchestrator.ledger import status
from orchestrator.services import acts
from orchestrator.services import apply as applying
from tests.stories.emulated import CREATOR, row, target_of
from tests.stories.test_between_stores import fill
from tests.stories.test_between_stores import other_url as other_url
from tests.stories.world import NOW, SMALL, WHO, OpenWorld, World
from tests.vectors import ask, vector_database

pytestmark = pytest.mark.story

Held = dict[str, str | None]
"""Looks of a witness: the note of each record."""
SOURCE = "alma"


@dataclass
class Stores:
    """A namespace `alma` in an index and as a table, in a world that works."""

    world: World
    url: str
    other_url: str

    def write(self, store: str, number: int) -> None:
        """Change one record, add one and delete one, as an application does that knows nothing of us."""
        if store == "pinecone":
            rows = [row(f"{SOURCE}-{number}", note=f"changed {number}"), row(f"new-{number}", note="new")]
            self.world.emulator.write(SMALL, SOURCE, rows)
            self.world.emulator.delete(SMALL, SOURCE, f"{SOURCE}-{20 + number}")
            return
        table, columns = f"embeddings_{SOURCE}", "document_id, collection_name, text, embedding, strategy, content_type"
        ask(self.url, f"UPDATE {table} SET text = 'changed' WHERE chunk_id = %s", f"{SOURCE}#{number:03}")
        ask(self.url, f"DELETE FROM {table} WHERE chunk_id = %s", f"{SOURCE}#{20 + number:03}")
        ask(
            self.url,
            f"INSERT INTO {table} (chunk_id, {columns}) SELECT 'new ' || {number}, {columns} FROM {table} LIMIT 1",
        )

    def pinecone(self, index: str, namespace: str, key: str = "note") -> Held:
        held = self.world.emulator.records(index, namespace)
        return {id: record.metadata.get(key) for id, record in held.items()}

    def table(self, url: str, name: str, key: str = "text") -> Held:
        column = "text" if key == "text" else f"metadata->>'{key}'"
        return dict(ask(url, f"SELECT chunk_id, {column} FROM embeddings_{name}"))

    def files(self, folder: str) -> Held:
        table = ds.dataset(self.world.folder / folder, partitioning="hive").to_table(columns=["id"])
        return {line["id"]: None for line in table.to_pylist()}


@pytest.fixture
def stores(open_world: OpenWorld, empty_database_url: str, other_url: str) -> Iterator[Stores]:
    with vector_database(empty_database_url):
        fill(empty_database_url, SOURCE, 30)
        world = open_world(pgvector_url=empty_database_url, pgvector_other_url=other_url)
        world.fill(**{SOURCE: 30})
        yield Stores(world.start(workers=1), empty_database_url, other_url)


DELTA = Policies(writers="delta", soak_seconds=0, cut_over="none", conflicts="keep")
COMMON = Common(policies=DELTA, only=(SOURCE,))
HERE = NewIndex(cloud="aws", region="us-east-1")


def to_index(stores: Stores) -> Plan:
    options = IndexOptions(source=SMALL, target="copy", new=HERE, common=COMMON)
    return plan_index(stores.world.fleet.store, options, now=NOW)


def to_a_namespace(stores: Stores) -> Plan:
    naming = naming_of((Pair.read(f"{SOURCE}=alma_v2"),), merges=False, key=None, otherwise=None)
    options = NamespacesOptions(index=SMALL, naming=naming, common=Common(policies=DELTA))
    return plan_namespaces(stores.world.fleet.store, options, now=NOW)


def to_twins(stores: Stores) -> Plan:
    return stores.world.plan(SMALL, grouping=Grouping(creator=CREATOR), writers="delta", cut_over="none")


def to_files(stores: Stores) -> Plan:
    fleet = stores.world.fleet
    return plan_export(fleet.store, fleet.folders, ExportOptions(index=SMALL, folder="out", common=COMMON), now=NOW)


def to_a_table(stores: Stores) -> Plan:
    options = TablesOptions(index="public", pairs=(Pair.read(f"{SOURCE}=alma_v2"),), common=COMMON)
    return plan_tables(stores.world.fleet.tables, options, now=NOW)


def between(source: str, target: str) -> Callable[[Stores], Plan]:
    (from_store, from_index), (to_store, to_index) = source.split(":"), target.split(":")

    def plan(stores: Stores) -> Plan:
        new = HERE if to_store == "pinecone" else NewIndex()
        options = StoresOptions(source=from_index, target=to_index, new=new, common=COMMON)
        of = stores.world.fleet.store_named
        return plan_stores(of(from_store), of(to_store), options, now=NOW)

    return plan


def held_by_the_index(stores: Stores) -> Held:
    return stores.pinecone(SMALL, SOURCE)


def held_by_the_table(stores: Stores) -> Held:
    return stores.table(stores.url, SOURCE)


Read = Callable[[Stores], Held]
RECIPES: dict[str, tuple[Callable[[Stores], Plan], Read, Read]] = {
    "index to index": (to_index, held_by_the_index, lambda stores: stores.pinecone("copy", SOURCE)),
    "namespace to namespace": (to_a_namespace, held_by_the_index, lambda stores: stores.pinecone(SMALL, "alma_v2")),
    "index to folder": (to_files, lambda stores: dict.fromkeys(held_by_the_index(stores)), lambda it: it.files("out")),
    "index to another database": (
        between(f"pinecone:{SMALL}", "pgvector-other:public"),
        held_by_the_index,
        lambda stores: stores.table(stores.other_url, SOURCE, "note"),
    ),
    "table to index": (
        between("pgvector:public", "pinecone:copy-of-rows"),
        held_by_the_table,
        lambda stores: stores.pinecone("copy-of-rows", SOURCE, "text"),
    ),
    "table to table": (to_a_table, held_by_the_table, lambda stores: stores.table(stores.url, "alma_v2")),
    "creators": (to_twins, held_by_the_index, lambda stores: stores.pinecone(SMALL, target_of(SOURCE))),
}


def test_what_writers_do_follows_whatever_the_recipe_and_the_stores(stores: Stores) -> None:
    world = stores.world
    for number, (name, (plan, source, target)) in enumerate(RECIPES.items()):
        # Given a copy that is proven
        made = plan(stores)
        job_id = applying.apply(world.fleet, made, who=WHO, no_backup=True)
        world.reaches(job_id, JobState.VERIFIED)
        assert target(stores) == source(stores), name

        # When an application goes on to write to the source, and another pass is taken
        before = source(stores)
        stores.write(made.source.store, number)
        wrote_at = datetime.now(UTC)
        assert source(stores) != before
        acts.another_pass(world.fleet.database, job_id, WHO)
        world.until("the pass has begun", lambda job_id=job_id: world.job(job_id).state is not JobState.COPIED)
        world.reaches(job_id, JobState.VERIFIED)

        # Then the target holds what the source holds, and the status says as of when
        assert target(stores) == source(stores), name
        world.assert_accounts(job_id)
        as_of = world.job(job_id).as_of
        assert as_of is not None and as_of > wrote_at, name
        with world.fleet.database.begin() as connection:
            seen: Any = progress(status.reading(connection, job_id, namespaces=0))
        assert seen.lag.startswith("the targets hold what the sources held at "), name
        acts.finish(world.fleet.database, job_id, WHO)
