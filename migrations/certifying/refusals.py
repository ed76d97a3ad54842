"""Questions about what the service refuses, and whether it then writes nothing."""

from collections.abc import Callable, Mapping
from typing import Any

from migrations.certifying.question import DIMENSION, Asker, Question, Scratch, vector

_UNKNOWN_VERSION = "2099-01"
_ESCAPED_CHARS = 6_000  # of a character that takes six bytes in JSON, and one as it is
_ESCAPED_RECORDS = 60
_TOO_MANY = 1_001


def _upsert(namespace: str, *vectors: Mapping[str, Any]) -> Callable[[Asker], str]:
    """Return the question whether the service takes these vectors."""
    return lambda asker: asker.wire.upsert(namespace, vectors).verdict


def _whole_batch(asker: Asker) -> str:
    reply = asker.wire.upsert("whole-batch", [vector("good"), vector("bad", 1.0, 2.0)])
    asker.written("whole-batch", vector("later"))
    written = "good" in asker.fetched("whole-batch", "good")
    return f"{reply.verdict}, {'the other record written' if written else 'nothing written'}"


def _long_namespace(asker: Asker) -> str:
    return asker.wire.upsert("n" * 513, [vector("a")]).verdict


def _encoded_bytes(asker: Asker) -> str:
    text = "\u0001" * _ESCAPED_CHARS
    return asker.wire.upsert("bytes", [vector(f"r{n}", text=text) for n in range(_ESCAPED_RECORDS)]).verdict


def _too_many(asker: Asker) -> str:
    return asker.wire.upsert("too-many", [vector(f"r{number}") for number in range(_TOO_MANY)]).verdict


def _absent_id(asker: Asker) -> str:
    asker.written("absent-id", vector("a"))
    return asker.wire.delete("absent-id", ["never-there"]).verdict


def _absent_namespace(asker: Asker) -> str:
    reply = asker.wire.delete("nowhere", ["a"])
    return f"{reply.verdict}, naming the namespace" if "namespace" in str(reply.body).lower() else reply.verdict


def _fetch_nowhere(asker: Asker) -> str:
    reply = asker.wire.fetch("nowhere", ["a"])
    return f"200, with {len(reply.body.get('vectors') or {})} records" if reply.ok else reply.verdict


def _query_nowhere(asker: Asker) -> str:
    reply = asker.wire.query("nowhere", [1.0] * DIMENSION)
    return f"200, with {len(reply.body.get('matches') or ())} matches" if reply.ok else reply.verdict


def _unknown_version(asker: Asker) -> str:
    return asker.wire.stats(_UNKNOWN_VERSION).verdict


_NAMES_RECORDS = "a record that cannot be written is parked, and no other with it"


def _refusal(id: str, asks: str, belief: str, ask: Callable[[Asker], str], because: str = _NAMES_RECORDS) -> Question:
    return Question(id, asks, belief, because, Scratch.VECTORS, ask)


_REFUSED = "refused with 400"
QUESTIONS = (
    _refusal(
        "wrong-dimension",
        "Is a vector of another dimension taken?",
        _REFUSED,
        _upsert("wrong-dimension", vector("a", 1.0, 2.0)),
        "an index whose dimension changed has its job wait for a person",
    ),
    _refusal("long-id", "Is an id of 513 characters taken?", _REFUSED, _upsert("long-id", vector("i" * 513))),
    _refusal(
        "longest-id",
        "Is an id of 512 characters taken?",
        "accepted",
        _upsert("longest-id", vector("i" * 512)),
        "ids that get a prefix may grow to 512 characters",
    ),
    _refusal(
        "other-characters",
        "Is an id of characters other than ASCII taken?",
        _REFUSED,
        _upsert("other-characters", vector("é")),
        "`--encode-ids` writes such ids of Postgres in ASCII",
    ),
    _refusal("long-namespace", "Is a namespace of 513 characters written to?", _REFUSED, _long_namespace),
    _refusal(
        "nested-metadata",
        "Are metadata taken that have metadata in them?",
        _REFUSED,
        _upsert("nested", vector("a", k={"nested": 1})),
    ),
    _refusal(
        "list-of-numbers",
        "Is a list of numbers taken as metadata?",
        _REFUSED,
        _upsert("list-of-numbers", vector("a", k=[1, 2])),
    ),
    _refusal(
        "dollar-key",
        "Is a metadata key taken that begins with $?",
        _REFUSED,
        _upsert("dollar", vector("a") | {"metadata": {"$k": "v"}}),
    ),
    _refusal(
        "metadata-over-40-kb",
        "Are 41,000 bytes of metadata taken?",
        _REFUSED,
        _upsert("metadata-over-40-kb", vector("a", k="x" * 41_000)),
    ),
    _refusal(
        "zeros",
        "Is a vector of zeros taken?",
        _REFUSED,
        _upsert("zeros", vector("a", *[0.0] * DIMENSION)),
    ),
    _refusal(
        "no-values",
        "Is a record without values taken?",
        _REFUSED,
        _upsert("no-values", {"id": "a", "values": [], "metadata": {"k": "v"}}),
    ),
    _refusal(
        "whole-batch",
        "What is written of an upsert of which one record is refused?",
        "refused with 400, nothing written",
        _whole_batch,
        "a refused upsert is halved until the record at fault stands alone",
    ),
    _refusal(
        "too-many-records",
        "Are 1,001 records taken in one upsert?",
        "refused with 400",
        _too_many,
        "an upsert holds 1,000 records",
    ),
    _refusal(
        "request-bytes",
        "Are 2.2 MB of JSON taken that hold 0.4 MB of vectors and metadata?",
        "refused with 413",
        _encoded_bytes,
        "requests are filled by the bytes of their JSON",
    ),
    _refusal(
        "delete-absent-id",
        "Is it an error to delete an id that is not there?",
        "accepted",
        _absent_id,
        "a deletion that runs twice is none",
    ),
    _refusal(
        "delete-absent-namespace",
        "What does the deletion of ids of a namespace answer that is not there?",
        "refused with 404, naming the namespace",
        _absent_namespace,
        "a namespace that is gone counts as cleaned up, an index that is gone does not",
    ),
    _refusal(
        "fetch-absent-namespace",
        "What does a fetch from a namespace answer that is not there?",
        "200, with 0 records",
        _fetch_nowhere,
        "the records of an absent namespace count as missing",
    ),
    _refusal(
        "query-absent-namespace",
        "What does a query of a namespace answer that is not there?",
        "200, with 0 matches",
        _query_nowhere,
        "readers of a namespace that is not there yet find nothing",
    ),
    _refusal(
        "unknown-version",
        "Is a version of the API answered that there is not?",
        _REFUSED,
        _unknown_version,
        "a version that is withdrawn is noticed, and not taken for another",
    ),
)
