"""Namespaces between Postgres and Pinecone and within one database: the fleet's ordinary jobs, proven and undone."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from migrations.between import StoresOptions, TablesOptions, plan_stores, plan_tables
from migrations.estimating import Prices
from migrations.mapping import MetadataMap
from migrations.plan import NewIndex, Plan, Policies
from migrations.recipes import Common
from migrations.renaming import Pair
from migrations.reversing import plan_reverse
from orchestrator.core.states import JobState
from orchestrator.services import acts, apply
from tests.stories.world import NOW, WHO, OpenWorld, World
from tests.vectors import ask, vector_database
from vecfleet.errors import BadPlan, Refused
from vecfleet.pgvector import EmbeddingSchema
from vecfleet.stores.encoded_ids import seen

pytestmark = pytest.mark.story

DIMENSION = 8
# Everything a table holds but its own numbering, as text: what is equal here is equal to the bit.
CONTENT = (
    "SELECT (to_jsonb(t) - 'id' - 'embedding')::text, encode(vector_send(embedding), 'hex') FROM {} t ORDER BY chunk_id"
)
AT_ONCE = {"cut_over": "none", "soak_seconds": 0}


def fill(url: str, namespace: str, rows: int) -> None:
    """Rows as another program writes them: nested JSON, nulls, defaults, unicode; each tenth has no metadata."""
    schema = EmbeddingSchema(url, dimension=DIMENSION)
    schema.create_namespace(namespace)
    chance = np.random.default_rng(rows)
    for n in range(rows):
        vector = chance.standard_normal(DIMENSION, dtype="<f4").tobytes()
        numbers = list(struct.unpack(f"<{DIMENSION}f", vector))
        odd = f'{{"page": {n}, "deep": {{"list": [1, null, "ö"]}}, "gone": null, "x": 0.1}}'
        ask(
            url,
            f"INSERT INTO embeddings_{namespace} (chunk_id, document_id, collection_name, text, embedding, strategy,"
            " content_type, path, domain_tags, metadata)"
            " VALUES (%s, %s, %s, %s, %s::vector, 's', 'c', %s, %s, %s::jsonb)",
            f"{namespace}#{n:03}", "d", f"collection {n % 3}", f"größer als {n} 🚀", str(numbers),
            None if n % 4 else "a.b[0]", ["a", "ö"] if n % 2 else None, odd if n % 10 else None,
        )  # fmt: skip


def content(url: str, table: str) -> list[tuple[Any, ...]]:
    return ask(url, CONTENT.format(table))


def tables(url: str, schema: str = "public") -> set[str]:
    return {name for (name,) in ask(url, "SELECT tablename FROM pg_tables WHERE schemaname = %s", schema)}


@pytest.fixture
def other_url(postgres: Any, empty_database_url: str) -> Iterator[str]:
    """Another database with the extension."""
    name = empty_database_url.rsplit("/", 1)[1] + "_other"
    ask(empty_database_url, f"CREATE DATABASE {name}")
    url = postgres.url_of(name)
    with vector_database(url):
        yield url
    ask(empty_database_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def world(open_world: OpenWorld, empty_database_url: str, other_url: str) -> Iterator[World]:
    """Two namespaces in one database, an empty other one, and a fleet that works."""
    with vector_database(empty_database_url):
        fill(empty_database_url, "production", 130)
        fill(empty_database_url, "dev", 20)
        world = open_world(pgvector_url=empty_database_url, pgvector_other_url=other_url)
        yield world.start(workers=1)


def plan(world: World, source: str, target: str, *only: str, **policies: Any) -> Plan:
    (from_store, from_index), (to_store, to_index) = source.split(":"), target.split(":")
    options = StoresOptions(
        source=from_index,
        target=to_index,
        new=NewIndex(cloud="aws", region="us-east-1") if to_store == "pinecone" else NewIndex(),
        common=Common(policies=Policies(**(AT_ONCE | policies)), only=only),
    )
    encoded = bool(policies.get("encoded_ids"))
    stores = (seen(world.fleet.store_named(name), encoded) for name in (from_store, to_store))
    return plan_stores(*stores, options, now=NOW)


def verified(world: World, made: Plan) -> int:
    job_id = apply.apply(world.fleet, made, who=WHO, no_backup=True)
    world.reaches(job_id, JobState.VERIFIED)
    world.assert_accounts(job_id)
    return job_id


def test_from_tables_to_pinecone_and_back_into_another_database_byte_for_byte(
    world: World, empty_database_url: str, other_url: str
) -> None:
    before = {name: content(empty_database_url, f"embeddings_{name}") for name in ("production", "dev")}

    # When all namespaces go to a Pinecone index that is not there yet
    there = verified(world, plan(world, "pgvector:public", "pinecone:copy"))

    # Then a witness finds them there: columns as metadata, what is no flat value as text, every bit of the values
    held = world.emulator.dump("copy")
    assert {name: len(rows) for name, rows in held.items()} == {"production": 130, "dev": 20}
    one = held["production"]["production#007"]
    assert one.metadata["collection_name"] == "collection 1" and one.metadata["page"] == 7.0
    assert (one.metadata["deep#json"], one.metadata["gone#json"]) == ('{"list":[1,null,"ö"]}', "null")
    assert one.values[::-1].hex() == "".join(
        before["production"][7][1][8:][start : start + 8] for start in range(8 * (DIMENSION - 1), -1, -8)
    )

    # When they come back, into another database
    acts.cancel(world.fleet.database, there, WHO)
    world.reaches(there, JobState.CANCELLED)
    verified(world, plan(world, "pinecone:copy", "pgvector-other:public"))

    # Then its tables hold what the first ones do
    assert {name: content(other_url, f"embeddings_{name}") for name in before} == before


def test_ids_of_any_characters_stand_encoded_at_pinecone_and_come_back(
    world: World, empty_database_url: str, other_url: str
) -> None:
    # Given ids that are not ASCII, and one that looks like another one encoded
    odd = {"dev#001": "zoë", "dev#002": "zo~0000eb", "dev#003": "日本~", "dev#004": "a\x7f"}
    for old, new in odd.items():
        ask(empty_database_url, "UPDATE embeddings_dev SET chunk_id = %s WHERE chunk_id = %s", new, old)
    before = sorted(content(empty_database_url, "embeddings_dev"))

    # When the plan leaves them as they are, it says what would become of them
    [warning] = [text for text in plan(world, "pgvector:public", "pinecone:copy", "dev").warnings if "ASCII" in text]
    assert warning.startswith("2 ids of 20 ") and "parked" in warning and "`--encode-ids`" in warning
    # And when it encodes them
    made = plan(world, "pgvector:public", "pinecone:copy", "dev", encoded_ids=True)
    assert any("2 ids of 20" in text and "caf~0000e9 for café" in text for text in made.warnings)
    there = verified(world, made)

    # Then all are at Pinecone, each under an id of its own, and the source may go
    held = set(world.emulator.dump("copy")["dev"])
    assert held >= {"zo~0000eb", "zo~00007e0000eb", "~0065e5~00672c~00007e", "a~00007f"} and len(held) == 20
    acts.clean_up(world.fleet.database, there, WHO, by_ids=False)
    world.reaches(there, JobState.CLEANED)
    assert "--encode-ids" in apply.way_back(made)

    # And they come back as they were
    verified(world, plan(world, "pinecone:copy", "pgvector-other:public", encoded_ids=True))
    assert sorted(content(other_url, "embeddings_dev")) == before


def test_a_metadata_map_between_stores_is_taken_back_byte_for_byte(world: World, empty_database_url: str) -> None:
    before = content(empty_database_url, "embeddings_dev")
    asked = MetadataMap(
        set={"strategy": "mapped", "page": 7},
        drop=("path",),
        rename={"text": "body"},
        template={"label": "{collection_name} {page}"},
    )

    # When a namespace goes to Pinecone with a map, and its table is cleaned up
    made = plan(world, "pgvector:public", "pinecone:copy", "dev", metadata_map=asked)
    there = verified(world, made)
    held = world.emulator.dump("copy")["dev"]["dev#003"].metadata
    assert (held["body"], held["strategy"], held["page"]) == ("größer als 3 🚀", "mapped", 7.0)
    assert held["label"] == "collection 0 3" and not {"text", "path"} & held.keys()
    acts.clean_up(world.fleet.database, there, WHO, by_ids=False)
    world.reaches(there, JobState.CLEANED)
    assert tables(empty_database_url) == {"embeddings_production"}

    # Then the reverse plan, across the stores, gives every row as it was
    stores = world.fleet.store_named("pinecone"), world.fleet.store_named("pgvector")
    verified(world, plan_reverse(stores[0], made, ["dev"], prices=Prices(), now=NOW, into_store=stores[1]))
    assert content(empty_database_url, "embeddings_dev") == before


def test_cleaned_up_and_rolled_back_like_any_other_job(world: World, empty_database_url: str, other_url: str) -> None:
    before = content(empty_database_url, "embeddings_dev")

    # Given one namespace copied to the other database and its source cleaned up
    moved = verified(world, plan(world, "pgvector:public", "pgvector-other:public", "dev"))
    acts.clean_up(world.fleet.database, moved, WHO, by_ids=False)
    world.reaches(moved, JobState.CLEANED)
    assert tables(empty_database_url) == {"embeddings_production"}
    assert content(other_url, "embeddings_dev") == before

    # When another one is copied and taken back
    copied = verified(world, plan(world, "pgvector:public", "pgvector-other:public", "production"))
    acts.roll_back(world.fleet.database, copied, WHO, None)
    world.reaches(copied, JobState.ROLLED_BACK)

    # Then the source is whole and the target as it was before
    assert tables(other_url) == {"embeddings_dev"}
    assert len(content(empty_database_url, "embeddings_production")) == 130


def test_readers_move_to_the_other_database_before_the_first_one_is_cleaned_up(
    world: World, empty_database_url: str, other_url: str
) -> None:
    before = content(empty_database_url, "embeddings_dev")
    database = world.fleet.database
    moved = verified(world, plan(world, "pgvector:public", "pgvector-other:public", "dev", cut_over="operator"))
    with pytest.raises(Refused, match="cut over"):
        acts.clean_up(database, moved, WHO, by_ids=False)

    # When readers and writers are on the other side, and the application changes a row there
    acts.cut_over(database, moved, WHO, 100)
    ask(other_url, "UPDATE embeddings_dev SET text = 'said since' WHERE chunk_id = 'dev#003'")
    acts.clean_up(database, moved, WHO, by_ids=False)
    world.reaches(moved, JobState.CLEANED)

    # Then the first database is rid of the namespace, and the change stands
    assert tables(empty_database_url) == {"embeddings_production"}
    now = content(other_url, "embeddings_dev")
    assert [one for one, other in zip(before, now, strict=True) if one != other] == [before[3]]
    assert '"said since"' in now[3][0]


def test_a_large_namespace_becomes_another_in_batches_and_what_cannot_be_kept_is_parked(
    world: World, empty_database_url: str
) -> None:
    # Given a row with an integer that no float64 is
    ask(
        empty_database_url,
        """UPDATE embeddings_dev SET metadata = '{"n": 9007199254740993}' WHERE chunk_id = 'dev#003'""",
    )

    # And a column that new tables do not have
    ask(empty_database_url, "ALTER TABLE embeddings_dev ADD tenant text DEFAULT 'acme'")

    # When the namespace is to become another, by key ranges
    options = TablesOptions(
        index="public", pairs=(Pair("dev", "staging"),), common=Common(policies=Policies(**AT_ONCE))
    )
    made = plan_tables(world.fleet.tables, options, now=NOW)
    assert any("dev (tenant)" in warning for warning in made.warnings)
    job_id = apply.apply(world.fleet, made, who=WHO, no_backup=True)

    # Then everything else is there, and the one is named with its reason
    world.until("the others are copied", lambda: world.parked(job_id))
    world.until("19 rows are there", lambda: "embeddings_staging" in tables(empty_database_url))
    world.until("19 rows", lambda: len(content(empty_database_url, "embeddings_staging")) == 19)
    assert world.parked(job_id) == {("dev", "dev#003"): "a number in its metadata cannot be kept exactly"}
    assert ask(empty_database_url, "SELECT DISTINCT metadata ->> 'tenant' FROM embeddings_staging") == [("acme",)]
    with pytest.raises(Refused):
        acts.clean_up(world.fleet.database, job_id, WHO, by_ids=False)


def test_a_database_is_never_taken_for_another_one(world: World, empty_database_url: str, tmp_path: Path) -> None:
    """Copied onto itself and cleaned up, all would be gone."""
    import dataclasses

    same = dataclasses.replace(
        world.fleet, settings=world.fleet.settings.model_copy(
            update={"pgvector_other_url": world.fleet.settings.pgvector_url}
        )
    )  # fmt: skip
    options = StoresOptions(source="public", target="public", common=Common(policies=Policies(collisions="identical")))

    with pytest.raises(BadPlan, match="the same database"):
        plan_stores(same.tables, same.other_tables, options, now=NOW)

    # And a plan made while they were two is refused when they have become one
    made = plan(world, "pgvector:public", "pgvector-other:public", "dev", collisions="identical")
    with pytest.raises(Refused, match="the same database"):
        apply.apply(same, made, who=WHO, no_backup=True)
