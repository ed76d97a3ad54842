"""The requests of the Pinecone adapter, and its reading of answers that no well-behaved server gives."""

import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest

from tests.contracts.answering import Answer, Answering, Asked
from tests.contracts.making import pinecone_store
from vecfleet.errors import (
    BadInput,
    BadRequest,
    Conflict,
    KeyRefused,
    Missing,
    RateLimited,
    TimedOut,
    Unavailable,
    WrongKind,
)
from vecfleet.records import Record
from vecfleet.settings import Settings
from vecfleet.stores.base import Index, IndexInfo, Kind
from vecfleet.stores.pinecone import PineconeStore

Start = Callable[[Callable[[Asked], Answer]], Answering]


@pytest.fixture
def start() -> Iterator[Start]:
    with ExitStack() as servers:
        yield lambda answer: servers.enter_context(Answering(answer))


def index_at(address: str, kind: Kind = Kind.DENSE, **settings: object) -> Index:
    settings = {"pinecone_transport": "rest", **settings}
    return pinecone_store(address, **settings).open(IndexInfo("an-index", kind, 2, "cosine", address))


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def found(*ids: str) -> dict[str, object]:
    return {"vectors": {id: {"id": id, "values": [0.5, 1.0]} for id in ids}, "namespace": "ns"}


def asked_ids(asked: Asked) -> list[str]:
    return parse_qs(urlsplit(asked.path).query)["ids"]


# --- one call, one attempt --------------------------------------------------------------------------------------------

CALLS: dict[str, Callable[[Index], object]] = {
    "list_ids": lambda index: index.list_ids("ns"),
    "fetch": lambda index: index.fetch("ns", ["a"]),
    "upsert": lambda index: index.upsert("ns", [Record("a", floats(1, 2))]),
    "delete": lambda index: index.delete("ns", ["a"]),
    "query": lambda index: index.query("ns", Record("a", floats(1, 2)), 3),
    "namespaces": lambda index: list(index.namespaces()),
    "namespace": lambda index: index.namespace("ns"),
    "create_namespace": lambda index: index.create_namespace("ns", None),
    "delete_namespace": lambda index: index.delete_namespace("ns"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_rate_limited_call_is_one_request_and_says_how_long_to_wait(
    start: Start, call: Callable[[Index], object]
) -> None:
    """Were the SDK's retries on, it would ask four times: our waiting and its own would multiply."""
    server = start(
        lambda _: Answer(429, {"code": 8, "message": "max list requests per second"}, {"retry-after": "0.01"})
    )

    with pytest.raises(RateLimited) as refusal:
        call(index_at(server.address))

    assert len(server.asked) == 1
    assert refusal.value.retry_after == 0.01


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_server_that_is_down_is_asked_once(start: Start, call: Callable[[Index], object]) -> None:
    server = start(lambda _: Answer(503, {"code": 14, "message": "down"}))

    with pytest.raises(Unavailable):
        call(index_at(server.address))

    assert len(server.asked) == 1


def test_the_control_plane_is_asked_once_too(start: Start) -> None:
    server = start(lambda _: Answer(429, {"error": {"code": "RESOURCE_EXHAUSTED", "message": "per second"}}))

    with pytest.raises(RateLimited):
        pinecone_store(server.address).indexes()

    assert len(server.asked) == 1


def test_nobody_answering_is_unavailable() -> None:
    with Answering(lambda _: Answer()) as server:
        pass

    with pytest.raises(Unavailable, match="could not list the ids of 'ns'"):
        index_at(server.address).list_ids("ns")


def test_no_answer_inside_the_deadline_is_timed_out(start: Start) -> None:
    asked, over = threading.Event(), threading.Event()
    server = start(lambda _: Answer(after=lambda: (asked.set(), over.wait())))

    with pytest.raises(TimedOut):
        index_at(server.address, request_deadline_seconds=0.2).list_ids("ns")
    assert asked.wait(60)  # it may have given up before the server came to read it
    over.set()

    assert len(server.asked) == 1


def test_a_bare_refusal_of_the_key_is_understood(start: Start) -> None:
    server = start(lambda _: Answer(401, b'"Invalid API key"'))

    with pytest.raises(KeyRefused) as refusal:
        index_at(server.address).fetch("ns", ["a"])

    assert "PINECONE_API_KEY" in str(refusal.value.next_step)


# --- requests ---------------------------------------------------------------------------------------------------------


def test_values_are_sent_as_the_shortest_text_that_names_the_float32(start: Start) -> None:
    server = start(lambda _: Answer(200, {"upsertedCount": 1}, {"x-pinecone-request-lsn": "7"}))
    index = index_at(server.address)

    written = index.upsert("ns", [Record("a", floats(0.1, -1 / 3), None, {"k": "v"})])

    body = server.asked[0].body
    assert body == b'{"vectors":[{"id":"a","values":[0.1,-0.33333334],"metadata":{"k":"v"}}],"namespace":"ns"}'
    assert written.lsn == 7


def test_the_body_is_never_larger_than_request_bytes_say(start: Start) -> None:
    server = start(lambda _: Answer(200, {"upsertedCount": 2}))
    index = index_at(server.address)
    records = [
        Record('\u0001"\\' * 100, floats(-1.17549435e-38, 3.4028235e38), None, {"k": '\u0001ü"' * 50}),
        Record("b", floats(-0.00012345678, 1e-45)),
    ]

    index.upsert("\u0001" * 512, records)

    empty = len('{"vectors":[],"namespace":""}') + 6 * 512
    assert len(server.asked[0].body) <= sum(map(index.request_bytes, records)) + empty


def test_what_json_would_drop_is_refused_before_it_is_sent(start: Start) -> None:
    server = start(lambda _: Answer(200, {"upsertedCount": 1}))
    index = index_at(server.address)

    for bad in (
        Record("a", floats(1, float("nan"))),
        Record("a", floats(1, float("inf"))),
        Record("a", floats(1, 2), None, {"k": float("nan")}),
        Record("a", floats(1, 2), None, {"k": float("-inf")}),
    ):
        with pytest.raises(BadRequest, match="finite number"):
            index.upsert("ns", [bad])

    assert server.asked == []


def test_a_fetch_keeps_its_url_short_whatever_the_ids(start: Start) -> None:
    server = start(lambda asked: Answer(200, {**found(*asked_ids(asked)), "usage": {"readUnits": 1}}))
    ids = [f"{n:03} " + "/#:%" * 40 for n in range(100)]

    fetched = index_at(server.address).fetch("ns", ids)

    assert sorted(fetched.records) == sorted(ids)
    assert [id for asked in server.asked for id in asked_ids(asked)] == ids
    assert max(len(asked.path) for asked in server.asked) < 7_000
    assert fetched.usage.requests == fetched.usage.read_units == len(server.asked) > 1


def test_egress_is_the_size_of_the_answers(start: Start) -> None:
    body = orjson.dumps(found("a"))
    server = start(lambda _: Answer(200, body))

    usage = index_at(server.address).fetch("ns", ["a"]).usage

    assert usage.egress_bytes == len(body)
    assert usage.read_units == 1.0


def test_the_price_of_a_delete_is_estimated_from_the_records_seen(start: Start) -> None:
    server = start(lambda asked: Answer(200, found(*asked_ids(asked)) if asked.method == "GET" else {}))
    index = index_at(server.address)

    index.fetch("ns", ["x" * 492])
    usage = index.delete("ns", [str(n) for n in range(1_000)])

    assert usage.write_units == 500.0


# --- answers ----------------------------------------------------------------------------------------------------------


def test_a_record_without_any_values_does_not_take_its_neighbours_along(start: Start) -> None:
    def answer(asked: Asked) -> Answer:
        page = found(*asked_ids(asked))
        if "e" in asked_ids(asked):
            page["vectors"]["e"] = {"id": "e", "values": [], "metadata": {"k": "v"}}  # type: ignore[index]
        return Answer(200, page)

    server = start(answer)

    fetched = index_at(server.address).fetch("ns", list("abcdefg"))

    assert sorted(fetched.records) == list("abcdefg")
    assert fetched.records["e"] == Record("e", b"")
    assert fetched.records["d"].values == floats(0.5, 1.0)
    assert fetched.usage.requests == len(server.asked)


def test_an_answer_that_is_no_answer_is_not_taken_for_empty(start: Start) -> None:
    server = start(lambda _: Answer(200, b"<html>captive portal</html>"))

    for call in (CALLS["list_ids"], CALLS["fetch"], CALLS["upsert"], CALLS["namespaces"]):
        with pytest.raises(Unavailable):
            call(index_at(server.address))


def test_an_absent_namespace_is_no_error_and_an_absent_index_is(start: Start) -> None:
    missing = "Namespace not found"
    server = start(lambda _: Answer(404, {"code": 5, "message": missing, "details": []}))
    index = index_at(server.address)

    assert index.fetch("ns", ["a"]).records == {}
    assert index.list_ids("ns").ids == []
    assert index.namespace("ns") is None
    assert index.delete("ns", ["a"]).write_units == 0
    assert index.delete_namespace("ns").write_units == 0

    missing = "Index not found"
    for name in ("fetch", "list_ids", "namespace", "delete", "delete_namespace"):
        with pytest.raises(Missing):
            CALLS[name](index)


def test_counts_of_namespaces_may_arrive_as_text(start: Start) -> None:
    pages = {
        None: {"namespaces": [{"name": "", "record_count": "12"}], "pagination": {"next": "t"}},
        "t": {"namespaces": [{"name": "b", "record_count": 3, "schema": {"fields": {"k": {"filterable": True}}}}]},
    }
    server = start(
        lambda asked: Answer(200, pages[parse_qs(urlsplit(asked.path).query).get("paginationToken", [None])[0]])
    )

    first, second = index_at(server.address).namespaces()

    assert (first.name, first.count, first.schema) == ("__default__", 12, None)
    assert (second.name, second.count, second.schema) == ("b", 3, {"fields": {"k": {"filterable": True}}})


def test_a_namespace_that_exists_is_told_from_one_that_was_created(start: Start) -> None:
    exists, no_alias = (
        Answer(409, {"code": 6, "message": "exists"}),
        Answer(404, {"code": 5, "message": "no such alias"}),
    )
    server = start(lambda asked: no_alias if asked.path.startswith("/namespace-aliases/") else exists)
    index = index_at(server.address)

    assert not index.create_namespace("ns", {"fields": {}})
    with pytest.raises(Conflict):
        index.upsert("ns", [Record("a", floats(1, 2))])


def test_a_pod_index_counts_its_namespaces_and_cannot_list_its_ids(start: Start) -> None:
    stats = {"namespaces": {"": {"vectorCount": 5}, "b": {"vectorCount": 2}}, "dimension": 2, "totalVectorCount": 7}
    server = start(lambda _: Answer(200, {**stats, "indexFullness": 0.0}))
    index = index_at(server.address, Kind.POD)

    assert [(one.name, one.count) for one in index.namespaces()] == [("__default__", 5), ("b", 2)]
    assert index.namespace("b") is not None
    assert index.namespace("c") is None
    with pytest.raises(WrongKind, match="cannot list"):
        index.list_ids("b")


# --- kinds ------------------------------------------------------------------------------------------------------------

MANAGED = {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"}
POD = {"deployment_type": "pod", "environment": "us-east1-gcp", "pod_type": "p1.x1", "replicas": 1, "shards": 1}
VALUES = {"type": "dense_vector", "dimension": 2, "metric": "cosine"}
SPARSE = {"type": "sparse_vector"}
LEGACY = {"filterable": True}  # as indexes older than typed schemas describe a metadata field
SEMANTIC = {"type": "semantic_text", "model": "multilingual-e5-large", "metric": "cosine"}


def described(fields: Mapping[str, object], deployment: Mapping[str, object] = MANAGED) -> dict[str, object]:
    return {
        "name": "an-index",
        "status": {"ready": True, "state": "Ready"},
        "schema": {"fields": fields},
        "deployment": deployment,
        "deletion_protection": "disabled",
        "host": "an-index.example.com",
    }


@pytest.mark.parametrize(
    ("fields", "deployment", "kind"),
    [
        ({"_values": VALUES}, MANAGED, Kind.DENSE),
        ({"_values": VALUES, "genre": LEGACY}, MANAGED, Kind.DENSE),
        ({"_sparse_values": SPARSE}, MANAGED, Kind.SPARSE),
        ({"_values": VALUES, "_sparse_values": SPARSE}, MANAGED, Kind.HYBRID),
        ({"chunk_text": SEMANTIC}, MANAGED, Kind.INTEGRATED),
        ({"_values": VALUES}, POD, Kind.POD),
        ({"embedding": VALUES, "body": {"type": "string", "full_text_search": {}}}, MANAGED, Kind.DENSE),
        ({"embedding": VALUES, "terms": SPARSE}, MANAGED, Kind.HYBRID),
        ({"embedding": VALUES, "body": {"type": "string", "sparse_embed": {"model": "m"}}}, MANAGED, Kind.DOCUMENT),
        ({"body": {"type": "string", "full_text_search": {}}}, MANAGED, Kind.DOCUMENT),
        ({"_values": VALUES, "body": {"type": "string", "full_text_search": {}}}, MANAGED, Kind.DOCUMENT),
        ({"body": {"type": "string", "embed": {"model": "m", "dimension": 2}}}, MANAGED, Kind.DOCUMENT),
    ],
)
def test_the_kind_of_an_index_is_told_from_its_schema(
    start: Start, fields: Mapping[str, object], deployment: Mapping[str, object], kind: Kind
) -> None:
    server = start(lambda _: Answer(200, described(fields, deployment)))

    info = pinecone_store(server.address).describe("an-index")

    assert info.kind is kind
    assert info.host == "https://an-index.example.com"


def test_an_index_of_texts_that_it_embeds_is_refused_with_the_reason(start: Start) -> None:
    embedded = {"body": {"type": "string", "embed": {"model": "m", "dimension": 2}}}
    server = start(lambda _: Answer(200, described(embedded)))
    store = pinecone_store(server.address)
    info = store.describe("an-index")

    for refused in (lambda: store.open(info), lambda: store.create_like("another", info, None, None)):
        with pytest.raises(WrongKind, match="holds documents"):
            refused()


def test_an_integrated_index_is_created_for_the_same_model(start: Start) -> None:
    server = start(lambda asked: Answer(201 if asked.method == "POST" else 200, described({"chunk_text": SEMANTIC})))
    store = pinecone_store(server.address)

    store.create_like("another", store.describe("an-index"), None, "eu-west-1")

    created = next(asked for asked in server.asked if asked.method == "POST")
    assert created.path == "/indexes/create-for-model"
    assert orjson.loads(created.body) == {
        "name": "another",
        "cloud": "aws",
        "region": "eu-west-1",
        "embed": {"model": "multilingual-e5-large", "metric": "cosine", "field_map": {"text": "chunk_text"}},
    }


def test_a_pod_index_is_created_anew_as_a_serverless_one(start: Start) -> None:
    server = start(lambda _: Answer(200, described({"_values": VALUES, "genre": LEGACY}, POD)))
    store = pinecone_store(server.address)

    store.create_like("another", store.describe("an-index"), None, None)

    created = orjson.loads(next(asked for asked in server.asked if asked.method == "POST").body)
    assert created["schema"] == {"fields": {"_values": VALUES}}
    assert created["deployment"] == MANAGED


def test_a_host_named_in_the_settings_is_dialed_and_changes_nothing_of_what_the_index_is(start: Start) -> None:
    # Given an index that one machine reaches in another way than the control plane says
    server = start(lambda _: Answer(200, described({"_values": VALUES})))
    control = pinecone_store(server.address)
    data = start(lambda _: Answer(200, {"vectors": [{"id": "a"}], "namespace": "ns"}))
    here = pinecone_store(
        server.address, pinecone_index_name="an-index", pinecone_host=data.address, pinecone_transport="rest"
    )

    # When it is read there, then it is asked at that host
    index = here.open(here.describe("an-index"))
    assert index.list_ids("ns").ids == ["a"]
    assert [asked.path.partition("?")[0] for asked in data.asked] == ["/vectors/list"]

    # And is the same index as everywhere, so that two jobs cannot claim one namespace under two names
    assert index.info == control.describe("an-index")


# --- clients ----------------------------------------------------------------------------------------------------------


def test_nothing_is_sent_and_no_key_needed_before_the_first_call(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PINECONE_API_KEY", raising=False)
    server = start(lambda _: Answer())

    store = PineconeStore(Settings(pinecone_controller_host=server.address))
    index = store.open(IndexInfo("an-index", Kind.DENSE, 2, "cosine", server.address))

    assert server.asked == []
    with pytest.raises(BadInput, match="PINECONE_API_KEY is not set") as unset:
        index.list_ids("ns")
    assert "`vecfleet up`" in unset.value.next_step


def test_a_key_that_cannot_be_sent_is_refused_without_being_shown(start: Start) -> None:
    server = start(lambda _: Answer())

    with pytest.raises(BadInput) as refusal:
        pinecone_store(server.address, pinecone_api_key="sesame\n").indexes()

    assert "sesame" not in str(refusal.value)
    assert server.asked == []


# By itself: whoever forks a process of many threads, as this one of tests is, may wait in the child for ever.
FORKING = """
import os
from vecfleet.stores.pinecone.clients import PerProcess

client = PerProcess(os.getpid)
here = client.get()
child = os.fork()
if child == 0:
    os._exit(0 if client.get() == os.getpid() else 1)
assert os.waitpid(child, 0)[1] == 0, "the child has its parent's"
assert client.get() == here == os.getpid()
"""


def test_a_child_process_makes_a_client_of_its_own() -> None:
    done = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
