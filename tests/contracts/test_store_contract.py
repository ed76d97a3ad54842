"""The promises of every store, in one suite: a record that goes in comes out, and one that cannot is refused."""

import random
import struct

import pytest

from tests.contracts.making import DIMENSION, Like, NewIndex
from vecfleet.digests import Tally, record_digest
from vecfleet.errors import BadRequest, Conflict, Missing, TooLarge
from vecfleet.names import DEFAULT
from vecfleet.records import MetadataValue, Record, Sparse
from vecfleet.stores.base import Index, Kind, Store

NS = "creator_x_twin_y"


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def dense(id: str, **metadata: MetadataValue) -> Record:
    chance = random.Random(id)
    return Record(id, floats(*(chance.gauss(0, 1) for _ in range(DIMENSION))), None, metadata)


def sparse(*entries: tuple[int, float]) -> Sparse:
    return Sparse(struct.pack(f"<{len(entries)}I", *(index for index, _ in entries)), floats(*(v for _, v in entries)))


RICH: dict[str, MetadataValue] = {
    "text": 'Grüße aus Zürich: 名前 🦜 \u0000 \u2028 "quoted" back\\slash',
    "decomposed": "e\u0301",
    "": "an empty key",
    "ключ": "value",
    "empty": "",
    "whole": 7,
    "fraction": 0.1,
    "negative zero": -0.0,
    "large": 2**53,
    "tiny": 5e-324,
    "yes": True,
    "no": False,
    "tags": ["b", "a", "b", "ü", ""],
    "no tags": [],
}


def read_back(index: Index, namespace: str, record: Record) -> Record:
    return index.fetch(namespace, [record.id]).records[record.id]


# --- what goes in comes out -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "record"),
    [
        (Kind.DENSE, Record("plain", floats(0.1, -0.2, 3.4e38, 1e-45))),
        (Kind.DENSE, Record("negative zero", floats(-0.0, 1.0, 1 / 3, 16777217.0))),
        (Kind.DENSE, dense("rich", **RICH)),
        (Kind.DENSE, dense('a/b c#d:e?f&g=h%i+j"k\\l', note="an awkward id")),
        (Kind.DENSE, dense("i" * 512)),
        (Kind.SPARSE, Record("sparse", b"", sparse((0, 0.5), (7, 0.1), (4_294_967_295, 1e-7)))),
        (Kind.SPARSE, Record("sparse, unsorted", b"", sparse((9, 0.5), (2, 0.25)), RICH)),
        (Kind.HYBRID, Record("hybrid", floats(1, 2, 3, 4), sparse((3, 0.5), (5, 0.1)), RICH)),
        (Kind.HYBRID, Record("hybrid without sparse values", floats(1, 2, 3, 4))),
        (Kind.HYBRID, Record("hybrid, empty sparse values", floats(1, 2, 3, 4), Sparse(b"", b""))),
    ],
    ids=lambda value: value.id[:20] if isinstance(value, Record) else None,
)
def test_a_record_comes_back_as_the_store_says_it_will(new_index: NewIndex, kind: Kind, record: Record) -> None:
    index = new_index(kind)

    written = index.upsert(NS, [record])
    found = read_back(index, NS, record)

    assert written.count == 1
    assert found.values == record.values
    assert record_digest(found) == record_digest(index.normalise(record))
    assert dict(found.metadata) == dict(record.metadata)
    assert all(type(value) is not int for value in found.metadata.values())


def test_a_thousand_random_values_come_back_bit_for_bit(new_index: NewIndex) -> None:
    index, chance = new_index(), random.Random(2)
    finite = [bits for bits in (chance.getrandbits(32) for _ in range(5_000)) if bits & 0x7F800000 != 0x7F800000]
    vectors = [struct.pack("<4I", *finite[start : start + 4]) for start in range(0, 4_000, DIMENSION)]
    stored = [values for values in vectors if any(abs(value) >= 1e-8 for value in struct.unpack("<4f", values))]
    records = [Record(f"r{number}", values) for number, values in enumerate(stored)]
    assert len(records) > 900

    index.upsert(NS, records)
    found = [read_back(index, NS, record) for record in chance.sample(records, 5)]
    everything = index.fetch(NS, [record.id for record in records]).records

    assert all(record.values == everything[record.id].values for record in found)
    assert Tally.of(everything.values()) == Tally.of(records)


def test_nulls_in_metadata_are_dropped_as_normalise_says(new_index: NewIndex) -> None:
    index = new_index()
    record = dense("null", kept="x", dropped=None)  # type: ignore[arg-type]

    index.upsert(NS, [record])

    assert dict(index.normalise(record).metadata) == {"kept": "x"}
    assert dict(read_back(index, NS, record).metadata) == {"kept": "x"}


def test_an_upsert_replaces_the_whole_record(new_index: NewIndex) -> None:
    index = new_index()
    index.upsert(NS, [dense("a", old="x")])
    other = Record("a", floats(1, 2, 3, 4), None, {"new": "y"})

    index.upsert(NS, [other])

    assert read_back(index, NS, other) == other


def test_writing_the_same_twice_changes_nothing(new_index: NewIndex) -> None:
    index, records = new_index(), [dense("a", k="v"), dense("b")]

    index.upsert(NS, records)
    index.upsert(NS, records)

    assert Tally.of(index.fetch(NS, ["a", "b"]).records.values()) == Tally.of(map(index.normalise, records))


def test_missing_ids_are_left_out_and_absent_namespaces_are_empty(new_index: NewIndex) -> None:
    index = new_index()
    index.upsert(NS, [dense("a"), dense("c")])

    assert index.fetch(NS, ["a", "b", "c"]).records.keys() == {"a", "c"}
    assert index.fetch("nowhere", ["a"]).records == {}
    assert index.fetch(NS, []).records == {}
    assert index.list_ids("nowhere").ids == []
    assert index.list_ids("nowhere").next_token is None


def test_namespaces_do_not_see_each_others_records(new_index: NewIndex) -> None:
    index = new_index()
    index.upsert("one", [dense("same", where="one")])
    index.upsert("two", [dense("same", where="two")])

    index.delete("one", ["same"])

    assert read_back(index, "two", dense("same")).metadata == {"where": "two"}


@pytest.mark.parametrize(("written", "read"), [("", DEFAULT), (DEFAULT, "")])
def test_the_default_namespace_has_two_spellings_and_one_content(new_index: NewIndex, written: str, read: str) -> None:
    index = new_index()
    index.upsert(written, [dense("a")])

    assert index.fetch(read, ["a"]).records.keys() == {"a"}
    assert index.list_ids(read).ids == ["a"]
    assert [namespace.name for namespace in index.namespaces()] == [DEFAULT]


# --- listing ----------------------------------------------------------------------------------------------------------


def listed(index: Index, namespace: str, limit: int | None = None, prefix: str | None = None) -> list[list[str]]:
    pages, token = [], None
    while True:
        page = index.list_ids(namespace, token, limit, prefix)
        pages.append(page.ids)
        token = page.next_token
        if token is None:
            return pages


def test_ids_are_listed_in_byte_order_page_by_page_each_once(new_index: NewIndex) -> None:
    index = new_index()
    ids = ["a", "B", "Z", "_", "~", "a1", "a10", "a2", "a b", "a/b", "a#1", "!", "0"] + [f"x{n}" for n in range(240)]
    index.upsert(NS, [dense(id) for id in random.Random(3).sample(ids, len(ids))])

    pages = listed(index, NS)

    assert [id for page in pages for id in page] == sorted(ids)
    assert max(map(len, pages)) <= index.limits.list_ids
    assert [len(page) for page in listed(index, NS, limit=100)] == [100, 100, 53]


def test_a_full_last_page_leads_to_no_id_twice(new_index: NewIndex) -> None:
    index = new_index()
    index.upsert(NS, [dense(f"{n:03}") for n in range(20)])

    assert [id for page in listed(index, NS, limit=10) for id in page] == [f"{n:03}" for n in range(20)]


def test_listing_by_prefix_takes_it_literally(new_index: NewIndex) -> None:
    index = new_index()
    index.upsert(NS, [dense(id) for id in ("user1", "user10", "user2", "user1#a", "user_", "User1")])

    assert [id for page in listed(index, NS, limit=2, prefix="user1") for id in page] == ["user1", "user1#a", "user10"]


def test_a_token_that_is_none_is_refused(new_index: NewIndex) -> None:
    index = new_index()
    index.upsert(NS, [dense("a")])

    with pytest.raises(BadRequest):
        index.list_ids(NS, token="§ no token §")


# --- deleting ---------------------------------------------------------------------------------------------------------


def test_deleting_removes_these_ids_and_no_other(new_index: NewIndex) -> None:
    index = new_index()
    index.upsert(NS, [dense(id) for id in "abcd"])

    usage = index.delete(NS, ["a", "c", "never there"])

    assert index.list_ids(NS).ids == ["b", "d"]
    assert usage.requests == 1


def test_deleting_what_is_not_there_is_no_error(new_index: NewIndex) -> None:
    index = new_index()

    index.delete("nowhere", ["a"])
    index.delete_namespace("nowhere")
    assert index.delete(NS, []).requests == 0


def test_a_deleted_namespace_is_gone_with_its_records(new_index: NewIndex) -> None:
    index = new_index()
    index.upsert(NS, [dense("a")])
    index.upsert("other", [dense("a")])

    index.delete_namespace(NS)

    assert [namespace.name for namespace in index.namespaces()] == ["other"]
    assert index.namespace(NS) is None
    assert index.list_ids(NS).ids == []


# --- namespaces -------------------------------------------------------------------------------------------------------


def test_namespaces_are_listed_by_name_with_their_counts_and_schemas(new_index: NewIndex) -> None:
    index = new_index()
    schema = {"fields": {"creator_id": {"filterable": True}}}
    names = [f"ns-{n:03}" for n in range(120)]

    for name in reversed(names):
        assert index.create_namespace(name, schema if name == "ns-000" else None)
    index.upsert("ns-000", [dense("a"), dense("b")])
    found = list(index.namespaces())

    assert [namespace.name for namespace in found] == names
    assert (found[0].count, found[0].schema, found[1].count) == (2, schema, 0)
    assert index.namespace("ns-000") == found[0]


def test_a_namespace_that_exists_is_left_as_it_is(new_index: NewIndex) -> None:
    index = new_index()
    schema = {"fields": {"creator_id": {"filterable": True}}}
    assert index.create_namespace(NS, schema)

    assert not index.create_namespace(NS, None)
    assert not index.create_namespace(DEFAULT, None)

    described = index.namespace(NS)
    assert described is not None
    assert described.schema == schema


def test_an_awkward_namespace_name_is_kept_as_it_is(new_index: NewIndex) -> None:
    index, name = new_index(), "a/b c#d:e?f&g=h%i+j.."
    index.upsert(name, [dense("a")])

    described = index.namespace(name)

    assert described is not None
    assert (described.name, index.list_ids(name).ids) == (name, ["a"])


# --- limits and refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        Record("too few values", floats(1, 2)),
        Record("neither values nor sparse values", b""),
        Record("sparse values in a dense index", floats(1, 2, 3, 4), sparse((1, 0.5))),
        Record("nested metadata", floats(1, 2, 3, 4), None, {"k": {"nested": 1}}),  # type: ignore[dict-item]
        Record("a list of numbers", floats(1, 2, 3, 4), None, {"k": [1, 2]}),  # type: ignore[list-item]
        Record("a reserved key", floats(1, 2, 3, 4), None, {"$k": "v"}),
        Record("metadata over the limit", floats(1, 2, 3, 4), None, {"k": "x" * 1_001_000}),
        Record("an unencodable number", floats(1, 2, 3, 4), None, {"k": 2**70}),
        Record("", floats(1, 2, 3, 4)),
        Record("nul\0", floats(1, 2, 3, 4)),
        Record("i" * 513, floats(1, 2, 3, 4)),
    ],
    ids=lambda record: record.id[:32].encode("unicode_escape").decode(),
)
def test_a_record_that_cannot_be_stored_is_refused_and_nothing_is_written(new_index: NewIndex, bad: Record) -> None:
    index = new_index()

    with pytest.raises(BadRequest) as refusal:
        index.upsert(NS, [dense("good"), bad])

    assert refusal.value.message
    assert index.list_ids(NS).ids == []


def test_too_many_records_or_bytes_are_too_large_and_nothing_is_written(new_index: NewIndex) -> None:
    index = new_index()
    many = [dense(f"r{n}") for n in range(index.limits.upsert_records + 1)]
    heavy = [dense(f"r{n}", text="x" * 39_000) for n in range(index.limits.upsert_bytes // 39_000 + 1)]

    for records in (many, heavy):
        with pytest.raises(TooLarge):
            index.upsert(NS, records)
    with pytest.raises(TooLarge):
        index.delete(NS, [record.id for record in many])

    assert index.list_ids(NS).ids == []


def test_the_most_that_request_bytes_allows_is_taken(new_index: NewIndex) -> None:
    index = new_index()
    text = '"quoted" \u0001 ü' * 1_500
    size = index.request_bytes(dense("r000", text=text))
    fitting = [dense(f"r{n:03}", text=text) for n in range((index.limits.upsert_bytes - 10_000) // size)]

    assert index.upsert(NS, fitting).count == len(fitting)


def test_a_fetch_takes_more_ids_than_one_request_does(new_index: NewIndex) -> None:
    index = new_index()
    records = [dense(f"{n:04}" + "/long id%" * 50) for n in range(index.limits.fetch_ids + 50)]
    for start in range(0, len(records), 1_000):
        index.upsert(NS, records[start : start + 1_000])

    fetched = index.fetch(NS, [record.id for record in records])

    assert Tally.of(fetched.records.values()) == Tally.of(records)
    assert fetched.usage.requests >= 2


def test_a_page_larger_than_the_limit_is_refused(new_index: NewIndex) -> None:
    with pytest.raises(BadRequest):
        index = new_index()
        index.list_ids(NS, limit=index.limits.list_ids + 1)


# --- usage ------------------------------------------------------------------------------------------------------------


def test_calls_say_what_they_cost(new_service_index: NewIndex) -> None:
    index = new_service_index()
    records = [dense(f"r{n:02}", text="x" * 1_000) for n in range(40)]

    written = index.upsert(NS, records).usage
    fetched = index.fetch(NS, [record.id for record in records]).usage
    page = index.list_ids(NS).usage
    deleted, dropped = index.delete(NS, ["r00"]), index.delete_namespace(NS)

    assert (written.requests, fetched.requests, page.requests) == (1, 1, 1)
    assert 40 <= written.write_units <= 45
    assert (fetched.read_units, page.read_units) == (4.0, 1.0)
    assert fetched.egress_bytes > 40_000
    assert written.egress_bytes == 0
    assert (deleted.write_units, dropped.write_units) == (5.0, 5.0)


# --- queries ----------------------------------------------------------------------------------------------------------


def test_a_query_finds_the_nearest_first(new_service_index: NewIndex) -> None:
    index = new_service_index()
    index.upsert(
        NS, [Record("x", floats(1, 0, 0, 0)), Record("y", floats(0, 1, 0, 0)), Record("xy", floats(1, 1, 0, 0))]
    )

    answer = index.query(NS, Record("like", floats(1, 0.1, 0, 0)), top_k=2)

    assert [match.id for match in answer.matches] == ["x", "xy"]
    assert answer.matches[0].score == pytest.approx(0.995, abs=0.001)
    assert answer.usage.requests == 1


def test_a_query_tells_up_to_which_write_it_has_looked(new_service_index: NewIndex) -> None:
    index = new_service_index()
    for id in ("a", "b"):
        written = index.upsert(NS, [dense(id)])
        # Postgres numbers neither, and gRPC not its writes.
        assert written.lsn in (None, index.query(NS, dense("a"), top_k=1).lsn)


def test_a_namespace_that_is_not_there_answers_no_query_with_anything(new_service_index: NewIndex) -> None:
    assert new_service_index().query("nowhere", dense("a"), top_k=3).matches == []


def test_a_query_counts_sparse_values(new_hybrid_index: NewIndex) -> None:
    index = new_hybrid_index(Kind.HYBRID)
    index.upsert(NS, [Record(id, floats(1, 0, 0, 0), sparse((term, 1.0))) for id, term in (("a", 1), ("b", 2))])

    matches = index.query(NS, Record("like", floats(1, 0, 0, 0), sparse((2, 3.0))), top_k=2).matches

    assert [(match.id, match.score) for match in matches] == [("b", 4.0), ("a", 1.0)]


def test_a_query_for_more_matches_than_there_may_be_is_refused(new_service_index: NewIndex) -> None:
    with pytest.raises(BadRequest):
        new_service_index().query(NS, dense("a"), top_k=20_000)


# --- indexes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Kind.DENSE, Kind.SPARSE, Kind.HYBRID])
def test_an_index_created_like_another_is_like_it(store: Store, index_like: Like, kind: Kind) -> None:
    first = store.create_like("first", index_like(kind), None, None)
    second = store.create_like("second", first, "aws", "eu-west-1")

    assert second.ready
    assert (second.kind, second.dimension, second.metric) == (kind, first.dimension, first.metric)
    assert (second.tags, second.region, first.region) == ({"team": "migration"}, "eu-west-1", "us-east-1")
    assert second.schema == first.schema
    assert store.describe("second") == second
    assert [info.name for info in store.indexes()] == ["first", "second"]


def test_an_index_that_is_not_there_is_missing_and_the_others_are_named(store: Store, index_like: Like) -> None:
    store.create_like("here", index_like(Kind.DENSE), None, None)

    with pytest.raises(Missing, match="here"):
        store.describe("not-here")


def test_a_taken_index_name_is_a_conflict(store: Store, index_like: Like) -> None:
    store.create_like("taken", index_like(Kind.DENSE), None, None)

    with pytest.raises(Conflict):
        store.create_like("taken", index_like(Kind.DENSE), None, None)
