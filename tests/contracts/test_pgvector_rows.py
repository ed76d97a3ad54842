"""Mistakes that only a table can make: columns of its own types, rows that others wrote, JSON that alters it."""

import struct
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.contracts.making import like, pinecone_store
from tests.vectors import ask
from vecfleet.digests import record_digest
from vecfleet.errors import BadInput, BadRequest, WrongKind
from vecfleet.pgvector.layouts import PUBLISHED
from vecfleet.records import MetadataValue, Record
from vecfleet.stores.base import Index, Kind
from vecfleet.stores.pgvector import PgvectorStore

NS = "production"
VALUES = struct.pack("<4f", 0.1, -0.0, 3.0, 1e-45)


def record(id: str = "a", **metadata: Any) -> Record:
    return Record(id, VALUES, None, metadata)


@pytest.fixture
def pinecone_index(emulator: str) -> Index:
    store = pinecone_store(emulator)
    return store.open(store.create_like("twin", like(Kind.DENSE), None, None))


@pytest.fixture
def index(pgvector_store: PgvectorStore) -> Index:
    return pgvector_store.open(pgvector_store.create_like("shop", like(Kind.DENSE), None, None))


def put(index: Index, one: Record) -> Record:
    index.upsert(NS, [one])
    return index.fetch(NS, [one.id]).records[one.id]


# --- columns ----------------------------------------------------------------------------------------------------------


def test_metadata_that_has_a_column_is_found_there_by_whoever_reads_the_table(
    index: Index, empty_database_url: str
) -> None:
    known: dict[str, MetadataValue] = {
        "document_id": "d1",
        "collection_name": "campaigns",
        "text": "Grüße",
        "strategy": "hierarchical",
        "content_type": "performance",
        "depth_level": 2.0,
        "confidence": 0.25,
        "is_leaf": True,
        "domain_tags": ["a", "ü"],
        "created_at": "2026-01-21 10:00:00.5",
        "page": 7.0,
    }

    assert put(index, record(**known)) == record(**known)

    (row,) = ask(
        empty_database_url,
        "SELECT chunk_id, document_id, collection_name, text, strategy, content_type, depth_level, confidence, is_leaf,"
        " domain_tags, created_at::text, metadata, path FROM shop.embeddings_production",
    )
    assert row == ("a", *list(known.values())[:-1], {"page": 7.0}, None)


def test_the_metadata_key_of_the_collection_can_be_chosen(
    pgvector_store: PgvectorStore, empty_database_url: str
) -> None:
    store = PgvectorStore(pgvector_store._database, collection_key="kind")
    index = store.open(store.create_like("shop", like(Kind.DENSE), None, None))

    assert put(index, record(kind="users", collection_name="left alone")).metadata == {
        "kind": "users",
        "collection_name": "left alone",
    }
    assert ask(empty_database_url, "SELECT collection_name FROM shop.embeddings_production") == [("users",)]


def test_what_a_column_cannot_hold_stays_what_it_is(index: Index, empty_database_url: str) -> None:
    odd: dict[str, MetadataValue] = {
        "strategy": "x" * 51,
        "depth_level": 1.5,
        "token_count": 3e9,
        "text": "with a \0 in it",
        "domain_tags": "no list",
        "is_leaf": 1.0,
        "created_at": "yesterday",
        "updated_at": "2026-02-30 00:00:00",
        "confidence": True,
        "nul \0 key": "v",
        "_vecfleet": "somebody's own",
        "metadata": "a key like the column",
        "id": "another",
        "embedding": "and another",
        "zero": -0.0,
    }

    found = put(index, record(**odd))

    assert record_digest(found) == record_digest(record(**odd))
    assert ask(empty_database_url, "SELECT strategy, text, depth_level FROM shop.embeddings_production") == [
        ("", "", None)
    ]


def test_a_filled_in_column_is_no_metadata_until_somebody_edits_it(index: Index, empty_database_url: str) -> None:
    assert put(index, record(page=1.0)).metadata == {"page": 1.0}

    ask(empty_database_url, "UPDATE shop.embeddings_production SET text = 'now it has one'")

    assert index.fetch(NS, ["a"]).records["a"].metadata == {"page": 1.0, "text": "now it has one"}


# --- rows that others wrote -------------------------------------------------------------------------------------------

_INSERT = (
    "INSERT INTO shop.embeddings_production (chunk_id, document_id, collection_name, text, embedding, strategy,"
    " content_type, metadata, semantic_density) VALUES ('a', 'd', 'c', 't', '[1,2,3,4]', 's', 'k', %s::jsonb, %s)"
)
_COLUMNS = {
    "document_id": "d",
    "collection_name": "c",
    "text": "t",
    "strategy": "s",
    "content_type": "k",
    "depth_level": 0.0,
    "hierarchy_level": 0.0,
    "confidence": 1.0,
    "contains_arrays": False,
    "is_leaf": False,
}


def insert(index: Index, url: str, metadata: str, density: str = "0.5") -> Mapping[str, Any]:
    """A row as another program writes it; what we read of it beyond its ordinary columns."""
    index.create_namespace(NS, None)
    ask(url, _INSERT, metadata, density)
    found = dict(index.fetch(NS, ["a"]).records["a"].metadata)
    assert all(found.pop(key) == value for key, value in _COLUMNS.items())
    assert found.pop("created_at") == found.pop("updated_at")
    return {key: value for key, value in found.items() if key != "semantic_density" or value != 0.5}


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ('{"n": 7, "x": 0.1, "ok": true, "tags": ["a"]}', {"n": 7.0, "x": 0.1, "ok": True, "tags": ["a"]}),
        ('{"big": 9007199254740993}', {"big": 9007199254740993}),  # past 2**53: for the plan's policy to decide
        ('{"round": 1180591620717411303424}', {"round": 2.0**70}),
        ('{"gone": null, "o": {"b": [1, null], "a": 1.5}}', {"gone#json": "null", "o#json": '{"a":1.5,"b":[1,null]}'}),
        ('{"mixed": ["a", 1]}', {"mixed#json": '["a",1]'}),
        (
            '{"text": "another", "strategy": {"a": 1}}',
            {"text#metadata": "another", "strategy#metadata#json": '{"a":1}'},
        ),
        ("[1, 2]", {"metadata#json": "[1,2]"}),
        ("{}", {}),
    ],
)
def test_json_that_a_record_cannot_hold_travels_as_text_and_comes_back_as_it_was(
    index: Index, empty_database_url: str, stored: str, read: Mapping[str, Any]
) -> None:
    # Given a row with such JSON, when it is read
    found = insert(index, empty_database_url, stored)

    # Then nothing of it is missing
    assert found == read and {key: type(value) for key, value in found.items()} == {k: type(v) for k, v in read.items()}

    # And written back, the row holds the same JSON; numbers beyond 2**53 as the float64 they are nearest to
    if not read.keys() & {"metadata#json", "big", "round"}:
        index.upsert(NS, [index.fetch(NS, ["a"]).records["a"]])
        query = "SELECT coalesce(metadata, '{}') = %s::jsonb FROM shop.embeddings_production"
        same = ask(empty_database_url, query, stored)
        assert same == [(True,)]


def test_numbers_that_are_none_are_left_to_the_plans_policy(index: Index, empty_database_url: str) -> None:
    found = insert(index, empty_database_url, "{}", "NaN")

    assert str(found["semantic_density"]) == "nan"
    with pytest.raises(BadRequest, match="not a finite number"):
        index.upsert(NS, [record(semantic_density=found["semantic_density"])])


def test_two_keys_that_would_become_one_are_refused(index: Index, empty_database_url: str) -> None:
    with pytest.raises(WrongKind, match="must be renamed"):
        insert(index, empty_database_url, '{"a": {"b": 1}, "a#json": "taken"}')


def test_a_table_of_the_published_project_is_read_and_written(index: Index, empty_database_url: str) -> None:
    """Its columns are others than those its documentation names; its own metadata column it has not."""
    columns = ", ".join(
        f"{spec.name} {spec.type.format(vector='vector(4)')} {spec.rest}"
        for spec in PUBLISHED.columns
        if spec.name != "metadata"
    )
    ask(empty_database_url, f"CREATE TABLE shop.embeddings_production ({columns}, UNIQUE (text_hash))")
    ask(
        empty_database_url,
        "INSERT INTO shop.embeddings_production (chunk_id, embedding, embedding_model, embedding_created_at, text,"
        " text_hash, confidence, value_types, version)"
        " VALUES ('a', '[1,2,3,4]', 'm', '2026-01-21 10:00:00+01', 't', 'h',"
        """ 0.1::real, '["x", "y"]', '1.0')""",
    )

    found = index.fetch(NS, ["a"]).records["a"]

    assert {key: value for key, value in found.metadata.items() if not key.endswith("ed_at")} == {
        "embedding_model": "m",
        "text": "t",
        "text_hash": "h",
        "value_types": ["x", "y"],
        "version": "1.0",
        "confidence": struct.unpack("<f", struct.pack("<f", 0.1))[0],
    }
    assert found.metadata["embedding_created_at"] == "2026-01-21 09:00:00+00"
    again = Record("b", found.values, None, {**found.metadata, "text_hash": "other"})
    index.upsert(NS, [again])
    assert index.fetch(NS, ["b"]).records["b"] == again
    with pytest.raises(BadRequest, match="same embeddings_production_text_hash_key"):
        index.upsert(NS, [Record("c", found.values, None, found.metadata)])
    with pytest.raises(BadRequest, match="no column for the metadata of 'd': page"):
        index.upsert(NS, [Record("d", found.values, None, {**found.metadata, "text_hash": "d", "page": 1.0})])


# --- against Pinecone -------------------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**60), 2**60).map(float),
    st.sampled_from([-0.0, 0.0]),
)
keys = st.one_of(
    st.sampled_from(
        [
            *_COLUMNS,
            "path",
            "created_at",
            "domain_tags",
            "chunk_size",
            "metadata",
            "x#json",
            "x",
            "_vecfleet",
            "text#metadata",
            "path#metadata",
        ]
    ),
    texts.filter(lambda key: not key.startswith("$")),
)
metadata_values = st.one_of(
    texts,
    numbers,
    st.booleans(),
    st.lists(texts, max_size=4),
    st.sampled_from(["2026-01-21 10:00:00", '{"a":1.0}', "null", "[1e+22]", "[-0.0]", '{"a":"\\u0000"}', "[1,2]"]),
)


def has_direction(values: list[float]) -> bool:
    """Say whether Pinecone takes them: it refuses a vector whose values are all below 1e-8."""
    return any(abs(value) >= 1e-8 for value in values)


bodies = st.tuples(
    st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=4, max_size=4).filter(has_direction),
    st.dictionaries(keys, metadata_values, max_size=8),
)


def namespace_of(index: Index, ids: list[str]) -> dict[str, Record]:
    return index.fetch(NS, ids).records


# Many records at once, for each example costs seven round trips; none is made smaller, for the difference is named.
@settings(max_examples=8, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(made=st.lists(bodies, min_size=20, max_size=40))
def test_a_record_is_the_same_whichever_of_both_it_passed_through(
    index: Index, pinecone_index: Index, made: list[tuple[list[float], dict[str, MetadataValue]]]
) -> None:
    sent = [Record(f"r{n}", struct.pack("<4f", *values), None, held) for n, (values, held) in enumerate(made)]
    ids = [one.id for one in sent]

    # When records go to Pinecone, from there to Postgres, and back
    pinecone_index.upsert(NS, sent)
    there = namespace_of(pinecone_index, ids)
    index.upsert(NS, list(there.values()))
    here = namespace_of(index, ids)
    pinecone_index.upsert(NS, list(here.values()))
    back = namespace_of(pinecone_index, ids)

    # Then each of them is one record, and each store had said so
    for one in sent:
        wanted = record_digest(index.normalise(one))
        assert [record_digest(held[one.id]) for held in (there, here, back)] == [wanted] * 3, (one, here[one.id])


# --- listing ----------------------------------------------------------------------------------------------------------


def test_ids_are_listed_in_byte_order_where_no_index_has_it(index: Index, empty_database_url: str) -> None:
    """As in a database of another locale: the server sorts once, and whoever has lost its cursor goes on without it."""
    ids = sorted(f"{letter}{n}" for letter in "aBzZ_~" for n in range(40))
    index.upsert(NS, [record(id) for id in ids])
    ask(empty_database_url, "ALTER TABLE shop.embeddings_production DROP CONSTRAINT embeddings_production_chunk_id_key")

    pages, token = [], None
    for number in range(100):
        page = index.list_ids(NS, token, limit=50)
        pages.append(page.ids)
        token = page.next_token
        if number == 1:
            kill = "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE application_name = 'vecfleet'"
            ask(empty_database_url, kill + " AND datname = current_database()")
        if token is None:
            break

    assert [id for page in pages for id in page] == ids
    assert index.list_ids(NS, limit=5, prefix="z").ids == [id for id in ids if id.startswith("z")][:5]


def test_halves_are_what_a_table_of_halves_gives_back(pgvector_store: PgvectorStore, empty_database_url: str) -> None:
    """Verification compares what the target stores, and the store says beforehand what that will be."""
    ask(empty_database_url, "CREATE SCHEMA halves")
    ask(empty_database_url, "CREATE TABLE halves.embeddings_production (chunk_id text UNIQUE, embedding halfvec(4))")
    index = pgvector_store.open(pgvector_store.describe("halves"))
    one = Record("a", struct.pack("<4f", 0.1, -0.0, 65504.0, 6e-8))

    index.upsert(NS, [one])

    found = index.fetch(NS, ["a"]).records["a"]
    assert found == index.normalise(one) and found.values != one.values
    assert found.values == np.array([0.1, -0.0, 65504.0, 6e-8], "<f2").astype("<f4").tobytes()
    with pytest.raises(BadRequest, match="beyond 65,504"):
        index.upsert(NS, [Record("b", struct.pack("<4f", 1e5, 0, 0, 0))])


def test_a_schema_with_tables_of_two_dimensions_is_two_indexes(
    pgvector_store: PgvectorStore, empty_database_url: str
) -> None:
    for dimension in (4, 8):
        table = f"public.embeddings_of_{dimension} (chunk_id text UNIQUE, embedding vector({dimension}))"
        ask(empty_database_url, f"CREATE TABLE {table}")

    assert [info.name for info in pgvector_store.indexes()] == ["public:vector(4)", "public:vector(8)"]
    with pytest.raises(BadInput, match="several dimensions"):
        pgvector_store.describe("public")
    four = pgvector_store.open(pgvector_store.describe("public:vector(4)"))
    assert [namespace.name for namespace in four.namespaces()] == ["of_4"]
    with pytest.raises(WrongKind, match=r"holds vector\(8\)"):
        four.fetch("of_8", ["a"])


@pytest.mark.parametrize(
    ("metric", "best"), [("cosine", ("x", 1.0)), ("dotproduct", ("x", 2.0)), ("euclidean", ("near", 0.25))]
)
def test_a_query_by_each_metric_finds_the_nearest(
    pgvector_store: PgvectorStore, metric: str, best: tuple[str, float]
) -> None:
    index = pgvector_store.open(pgvector_store.create_like("by", replace(like(Kind.DENSE), metric=metric), None, None))
    rows = {"x": (2, 0, 0, 0), "near": (1, 0.5, 0, 0), "y": (0, 1, 0, 0)}
    index.upsert(NS, [Record(id, struct.pack("<4f", *values)) for id, values in rows.items()])

    matches = index.query(NS, Record("like", struct.pack("<4f", 1, 0, 0, 0)), top_k=2).matches

    assert (matches[0].id, matches[0].score) == (best[0], pytest.approx(best[1]))
    assert len(matches) == 2
