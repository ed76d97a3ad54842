"""The requests of a document index, and its reading of answers that no well-behaved server gives."""

import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import orjson
import pytest

from tests.contracts.answering import Answer, Answering, Asked
from tests.contracts.making import documents_like, pinecone_store
from vecfleet.digests import record_digest
from vecfleet.errors import BadRequest, KeyRefused, RateLimited, StoreError, Unavailable, WrongKind
from vecfleet.records import Record, Sparse
from vecfleet.stores.base import Index, IndexInfo, Kind

Start = Callable[[Callable[[Asked], Answer]], Answering]
SPARSE = Sparse(struct.pack("<2I", 7, 4_294_967_295), struct.pack("<2f", 0.5, 0.1))
VALUES = struct.pack("<4f", 0.1, -0.0, 3.4e38, 1e-45)


@pytest.fixture
def start() -> Iterator[Start]:
    with ExitStack() as servers:
        yield lambda answer: servers.enter_context(Answering(answer))


def index_at(server: Answering, **names: str) -> Index:
    like = documents_like(Kind.HYBRID)
    info = IndexInfo("an-index", like.kind, 4, "dotproduct", server.address, schema=like.schema, names=names)
    return pinecone_store(server.address).open(info)


def test_a_record_leaves_as_one_document_with_the_shortest_text_of_each_value(start: Start) -> None:
    server = start(lambda _: Answer(202, {"upserted_count": 1}, {"x-pinecone-request-lsn": "12"}))
    index = index_at(server, _node_content="node_content")

    metadata = {"_node_content": "{}", "_vecfleet_prev": "{}", "page": 7.0, "gone": None}
    written = index.upsert("a/b c%", [Record("r", VALUES, SPARSE, metadata)])  # type: ignore[arg-type]

    [asked] = server.asked
    assert asked.path == "/namespaces/a%2Fb%20c%25/documents/upsert"
    assert asked.headers["x-pinecone-api-version"] == "2026-07"
    assert asked.body == (
        b'{"documents":[{"_id":"r","embedding":[0.1,-0.0,3.4e+38,1e-45],'
        b'"terms":{"indices":[7,4294967295],"values":[0.5,0.1]},'
        b'"node_content":"{}","vecfleet_prev":"{}","page":7.0}]}'
    )
    assert (written.count, written.lsn) == (1, 12)


def test_widened_values_and_renamed_keys_come_back_as_they_were(start: Start) -> None:
    widened = [float(value) for value in struct.unpack("<4f", VALUES)]
    sparse = {"indices": [7, 4_294_967_295], "values": [0.5, struct.unpack("<f", struct.pack("<f", 0.1))[0]]}
    told = {"_id": "r", "embedding": widened, "terms": sparse, "node_content": "{}", "vecfleet_map": "m", "n": 1}
    server = start(lambda _: Answer(200, {"documents": {"r": told}, "namespace": "n", "usage": {"read_units": 1}}))

    fetched = index_at(server, _node_content="node_content").fetch("n", ["r"])

    wanted = Record("r", VALUES, SPARSE, {"_node_content": "{}", "_vecfleet_map": "m", "n": 1.0})
    assert record_digest(fetched.records["r"]) == record_digest(wanted)
    assert fetched.records["r"].values == VALUES
    assert orjson.loads(server.asked[0].body) == {"ids": ["r"]}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(401, b"Invalid API key", {"content-type": "text/plain"}), KeyRefused),
        (Answer(400, {"error": {"code": "INVALID_ARGUMENT", "message": "no such field"}, "status": 400}), BadRequest),
        (Answer(429, b"You've reached the max fetch requests per second", {"retry-after": "3"}), RateLimited),
        (Answer(200, b"<html>"), Unavailable),
        (Answer(200, {"documents": {"r": {"_id": "r", "embedding": [None, 1, 2, 3]}}}), Unavailable),
        (Answer(200, {"documents": {"r": {"_id": "r", "embedding": {"no": "list"}}}}), Unavailable),
        (Answer(200, {"documents": {"r": {"_id": "r", "terms": {"indices": [1, 2], "values": [0.5]}}}}), Unavailable),
    ],
)
def test_what_is_no_answer_is_one_of_our_errors(start: Start, answer: Answer, error: type[StoreError]) -> None:
    server = start(lambda _: answer)

    with pytest.raises(error) as raised:
        index_at(server).fetch("n", ["r"])

    assert len(server.asked) == 1
    if isinstance(raised.value, RateLimited):
        assert raised.value.retry_after == 3.0


@pytest.mark.parametrize(
    "told", [{}, {"usage": None}, {"usage": {"read_units": None}}, {"usage": {"egress_bytes": None}}]
)
def test_an_answer_that_does_not_tell_its_cost_is_estimated(start: Start, told: dict[str, object]) -> None:
    server = start(lambda _: Answer(200, {"documents": [{"_id": "a", "page": 7}], "namespace": "n", **told}))

    page = index_at(server).list_ids("n")

    assert (page.ids, page.next_token, page.usage.read_units) == (["a"], None, 1.0)


@pytest.mark.parametrize("body", [{"documents": [{"id": "a"}]}, {"matches": [{"_id": "a"}]}, {"matches": [{}]}])
def test_a_list_or_a_search_that_cannot_be_read_is_one_of_our_errors(start: Start, body: dict[str, object]) -> None:
    index = index_at(start(lambda _: Answer(200, body)))

    with pytest.raises(Unavailable, match="cannot be read"):
        if "documents" in body:
            index.list_ids("n")
        else:
            index.query("n", Record("", VALUES), top_k=3)


def test_a_conversion_that_was_cancelled_says_what_to_do(start: Start) -> None:
    names = {"source_index_name": "old", "target_index_name": "new"}
    job = {"conversion_job_id": "7", **names, "status": "Cancelled", "created_at": "2026-11-20T10:00:00.000Z"}
    server = start(lambda asked: Answer(200, {"data": [job]} if "?" in asked.path else job))
    conversions = pinecone_store(server.address).conversions()

    found = conversions.find("old", "new")

    assert found is not None and conversions.find("old", "other") is None
    with pytest.raises(StoreError, match="ended Cancelled") as raised:
        conversions.finish(found, lambda _: None)
    assert "delete the index 'new', which it left unfinished, and apply again" in str(raised.value.next_step)


def test_nothing_is_sent_for_a_record_that_can_be_no_document(start: Start) -> None:
    server = start(lambda _: Answer(202, {"upserted_count": 1}))

    with pytest.raises(
        BadRequest, match="the record 'r' cannot be stored as a document: its metadata key '_node_content'"
    ):
        index_at(server).upsert("n", [Record("r", VALUES, None, {"_node_content": "{}"})])

    assert server.asked == []


def test_a_search_goes_by_one_kind_of_values(start: Start) -> None:
    answer = {"matches": [{"_id": "a", "_score": 0.5}], "namespace": "n", "usage": {"read_units": 1}}
    server = start(lambda _: Answer(200, answer, {"x-pinecone-max-indexed-lsn": "9"}))
    index = index_at(server)

    matches = index.query("n", Record("", b"", SPARSE), top_k=3)

    assert ([match.id for match in matches.matches], matches.lsn) == (["a"], 9)
    assert orjson.loads(server.asked[0].body)["score_by"][0]["field"] == "terms"
    with pytest.raises(WrongKind, match="not by both"):
        index.query("n", Record("", VALUES, SPARSE), top_k=3)
