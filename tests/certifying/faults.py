"""The ways in which a service might be other than the emulator, each with the question that must notice it."""

import struct
from dataclasses import dataclass
from typing import Any

from tests.certifying.misbehaving import Exchange, Fault, answered


@dataclass(frozen=True)
class Planted:
    """A fault, and the id of the question whose answer it changes."""

    question: str
    fault: Fault


def _drops_a_metadata_key(exchange: Exchange) -> None:
    if answered(exchange, "/vectors/fetch"):
        for vector in exchange.body["vectors"].values():
            vector.get("metadata", {}).pop("decomposed", None)


def _rounds_to_float16(exchange: Exchange) -> None:
    if answered(exchange, "/vectors/fetch"):
        for vector in exchange.body["vectors"].values():
            vector["values"] = [_half(value) for value in vector.get("values", ())]


def _half(value: float) -> float:
    return float(struct.unpack("<e", struct.pack("<e", value))[0]) if abs(value) < 65_000 else value


def _loses_a_sparse_entry(exchange: Exchange) -> None:
    if answered(exchange, "/vectors/fetch"):
        for vector in exchange.body["vectors"].values():
            for part in vector.get("sparseValues", {}).values():
                part.pop()


def _lists_unsorted(exchange: Exchange) -> None:
    if answered(exchange, "/vectors/list"):
        exchange.body["vectors"].reverse()


def _lists_an_id_twice(exchange: Exchange) -> None:
    if answered(exchange, "/vectors/list"):
        exchange.body["vectors"] += exchange.body["vectors"][:1]


def _repeats_its_token(exchange: Exchange) -> None:
    if answered(exchange, "/vectors/list") and "paginationToken" in exchange.query:
        exchange.body["pagination"] = {"next": exchange.query["paginationToken"][0]}


def _counts_too_many(exchange: Exchange) -> None:
    if answered(exchange, "/vectors/upsert"):
        exchange.body["upsertedCount"] += 1


def _loses_the_lsn(exchange: Exchange) -> None:
    if answered(exchange, "/vectors/upsert"):
        exchange.headers.pop("x-pinecone-request-lsn", None)


def _counts_nothing(exchange: Exchange) -> None:
    if answered(exchange, "/describe_index_stats"):
        exchange.body["namespaces"] = {}


def _omits_a_namespace(exchange: Exchange) -> None:
    if answered(exchange, "/namespaces") and exchange.method == "GET":
        every = exchange.body["namespaces"]
        exchange.body["namespaces"] = [named for named in every if named["name"] != "listed-03"]


def _minds_an_absent_id(exchange: Exchange) -> None:
    if exchange.path == "/vectors/delete" and "never-there" in exchange.sent.get("ids", ()):
        exchange.status, exchange.body = 404, {"code": 5, "message": "Vector not found", "details": []}


def _deletes_nothing(exchange: Exchange) -> None:
    if exchange.path == "/vectors/delete" and not exchange.status:
        exchange.status, exchange.body = 200, {}


def _takes_a_long_id(exchange: Exchange) -> None:
    if exchange.path == "/vectors/upsert" and any(len(vector["id"]) > 512 for vector in exchange.sent["vectors"]):
        _take(exchange)


def _takes_any_dimension(exchange: Exchange) -> None:
    if exchange.path == "/vectors/upsert" and any(len(vector["values"]) == 2 for vector in exchange.sent["vectors"]):
        _take(exchange)


def _takes_undeclared_sparse(exchange: Exchange) -> None:
    if exchange.path == "/vectors/upsert" and exchange.sent["namespace"] == "undeclared":
        _take(exchange)


def _refuses_nulls(exchange: Exchange) -> None:
    documents: list[dict[str, Any]] = exchange.sent.get("documents", []) if isinstance(exchange.sent, dict) else []
    if any(value is None for document in documents for value in document.values()):
        exchange.status = 400
        exchange.body = {"error": {"code": "INVALID_ARGUMENT", "message": "null"}, "status": 400}


def _take(exchange: Exchange) -> None:
    exchange.status, exchange.body = 200, {"upsertedCount": len(exchange.sent["vectors"])}


PLANTED = (
    Planted("metadata-comes-back", _drops_a_metadata_key),
    Planted("values-come-back", _rounds_to_float16),
    Planted("sparse-comes-back", _loses_a_sparse_entry),
    Planted("list-order", _lists_unsorted),
    Planted("list-each-once", _lists_an_id_twice),
    Planted("list-tokens", _repeats_its_token),
    Planted("upsert-counts", _counts_too_many),
    Planted("lsn-of-upserts", _loses_the_lsn),
    Planted("stats-show", _counts_nothing),
    Planted("namespaces-listed", _omits_a_namespace),
    Planted("delete-absent-id", _minds_an_absent_id),
    Planted("deletion-shows-in-fetch", _deletes_nothing),
    Planted("long-id", _takes_a_long_id),
    Planted("wrong-dimension", _takes_any_dimension),
    Planted("undeclared-sparse", _takes_undeclared_sparse),
    Planted("documents-null-fields", _refuses_nulls),
)
