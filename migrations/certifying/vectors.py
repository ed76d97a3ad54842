"""Questions about records of an index of vectors: what goes in, and what comes back."""

import random
import struct
from collections.abc import Mapping
from typing import Any

from migrations.certifying.question import DIMENSION, Asker, NotShown, Question, Scratch, bits, compared, vector
from vecfleet.records import Record
from vecfleet.stores.base import Usage

_BIT_FOR_BIT = "bit for bit"
_RANDOM_VECTORS = 20
_SEED = 21
_METADATA: dict[str, Any] = {
    "text": 'Grüße: 名前 🦜 \u2028 "quoted" back\\slash',
    "decomposed": "e\u0301",
    "": "an empty key",
    "ключ": "value",
    "empty": "",
    "whole": 7,
    "fraction": 0.1,
    "large": 2**53,
    "yes": True,
    "no": False,
    "tags": ["b", "a", "b", "ü", ""],
    "no tags": [],
}


def _values() -> dict[str, list[float]]:
    """Return the values of some records by id: awkward ones, and random ones, each a float32."""
    chance = random.Random(_SEED)
    drawn = [[chance.gauss(0, 1) for _ in range(DIMENSION)] for _ in range(_RANDOM_VECTORS)]
    every = [[0.1, -0.2, 1 / 3, 16777217.0], *drawn]
    return {f"r{number}": list(struct.unpack("<4f", bits(values))) for number, values in enumerate(every)}


def _counted(asker: Asker) -> str:
    reply = asker.wire.upsert("counted", [vector("a"), vector("b"), vector("c")])
    return f"{reply.body.get('upsertedCount')} of 3" if reply.ok else reply.verdict


def _values_come_back(asker: Asker) -> str:
    sent = _values()
    asker.written("values", *(vector(id, *values) for id, values in sent.items()))
    given = asker.fetched("values", *sent)
    return _same_bits(sent, {id: given[id]["values"] for id in sent if id in given})


def _same_bits(sent: Mapping[str, list[float]], given: Mapping[str, list[float]]) -> str:
    other = sum(bits(values) != bits(given.get(id, [])) for id, values in sent.items())
    return f"{other} of {len(sent)} records with other bits" if other else _BIT_FOR_BIT


def _extremes_come_back(asker: Asker) -> str:
    sent = list(struct.unpack("<4f", bits([3.4e38, 1e-45, -1.5e-40, 1.0])))
    reply = asker.written("extremes", vector("a", *sent))
    return _same_bits({"a": sent}, {"a": asker.fetched("extremes", "a")["a"]["values"]}) if reply.ok else reply.verdict


def _negative_zero(asker: Asker) -> str:
    asker.written("negative-zero", vector("a", -0.0, 1.0, 0.0, 0.0))
    first = asker.fetched("negative-zero", "a")["a"]["values"][0]
    return "keeps its sign" if bits([first]) == bits([-0.0]) else "loses its sign"


def _across_transports(asker: Asker) -> str:
    lane, sent = asker.lanes["grpc"], _values()
    records = [Record(id, bits(values)) for id, values in sent.items()]
    most = Usage(requests=1, write_units=10.0)
    asker.paid(most, lambda: lane.upsert("transports", records))
    if not asker.eventually(lambda: sent.keys() <= asker.fetched("transports", *sent).keys()):
        raise NotShown
    over_rest = asker.fetched("transports", *sent)
    most = Usage(requests=1, read_units=len(sent) / 10)
    over_grpc = asker.paid(most, lambda: lane.fetch("transports", list(sent))).records
    read = {id: list(struct.unpack(f"<{record.dimension}f", record.values)) for id, record in over_grpc.items()}
    by_rest = _same_bits(sent, {id: over_rest[id]["values"] for id in sent})
    by_grpc = _same_bits(sent, read)
    return by_rest if by_rest == by_grpc else f"over REST {by_rest}, over gRPC {by_grpc}"


def _metadata_comes_back(asker: Asker) -> str:
    asker.written("metadata", vector("a") | {"metadata": _METADATA})
    given = asker.fetched("metadata", "a")["a"].get("metadata") or {}
    return compared(_METADATA, given)


def _null_metadata(asker: Asker) -> str:
    reply = asker.written("nulls", vector("a", kept="x", dropped=None))
    if not reply.ok:
        return reply.verdict
    return f"the keys {sorted(asker.fetched('nulls', 'a')['a'].get('metadata') or {})}"


def _replaced(asker: Asker) -> str:
    asker.written("replaced", vector("a", old="x"))
    asker.wire.upsert("replaced", [vector("a", 1, 2, 3, 4, new="y")])

    def keys() -> list[str]:
        return sorted(asker.fetched("replaced", "a")["a"].get("metadata") or {})

    asker.eventually(lambda: "new" in keys())
    return f"the keys {keys()}"


def _equal_ids(asker: Asker) -> str:
    reply = asker.written("equal-ids", vector("a", 1, 0, 0, 0), vector("a", 2, 0, 0, 0))
    if not reply.ok:
        return reply.verdict
    return "the last" if asker.fetched("equal-ids", "a")["a"]["values"][0] == 2.0 else "another than the last"


def _missing_ids(asker: Asker) -> str:
    asker.written("missing", vector("a"))
    reply = asker.wire.fetch("missing", ["a", "never-there"])
    return f"{reply.status}, with {sorted(reply.body.get('vectors') or {})}"


def _long_url(asker: Asker) -> str:
    ids = [f"{number:03}" + "/" * 60 for number in range(36)]
    asker.written("long-url", *(vector(id) for id in ids))
    reply = asker.wire.fetch("long-url", ids)
    return f"{len(reply.body.get('vectors') or {})} of {len(ids)} records" if reply.ok else reply.verdict


def _zero_query(asker: Asker) -> str:
    asker.written("zero-query", vector("a"))
    return asker.wire.query("zero-query", [0.0] * DIMENSION).verdict


def _nearest(asker: Asker) -> str:
    asker.written("nearest", vector("x", 1, 0, 0, 0), vector("y", 0, 1, 0, 0), vector("xy", 1, 1, 0, 0))

    def ids() -> list[str]:
        return [match["id"] for match in asker.wire.query("nearest", [1.0, 0.1, 0.0, 0.0]).body.get("matches") or ()]

    asker.eventually(lambda: len(ids()) == 3)
    return " before ".join(ids())


QUESTIONS = (
    Question(
        "upsert-counts",
        "How many of three records does an upsert say that it wrote?",
        "3 of 3",
        "a batch is copied once its upserts acknowledge each record",
        Scratch.VECTORS,
        _counted,
    ),
    Question(
        "values-come-back",
        "Do dense values come back with the bits of the float32 that was written?",
        _BIT_FOR_BIT,
        "proofs compare bits, without a tolerance",
        Scratch.VECTORS,
        _values_come_back,
    ),
    Question(
        "extreme-values",
        "Do the largest and the smallest float32 come back?",
        _BIT_FOR_BIT,
        "a record that the source holds is to be written at the target",
        Scratch.VECTORS,
        _extremes_come_back,
    ),
    Question(
        "negative-zero",
        "Does a value of minus zero keep its sign?",
        "keeps its sign",
        "a digest tells 0.0 and -0.0 apart",
        Scratch.VECTORS,
        _negative_zero,
    ),
    Question(
        "values-across-transports",
        "Are values that were written over gRPC the same bits over REST and over gRPC?",
        _BIT_FOR_BIT,
        "workers write over gRPC what applications wrote over REST",
        Scratch.VECTORS,
        _across_transports,
    ),
    Question(
        "metadata-comes-back",
        "Do texts, numbers, true and false, lists of texts and empty ones come back as metadata, key by key?",
        "as written",
        "digests of records compare each key; texts by their bytes, lists in order",
        Scratch.VECTORS,
        _metadata_comes_back,
    ),
    Question(
        "null-metadata",
        "Which keys are left of metadata of which one is null?",
        "the keys ['kept']",
        "a record with nulls is compared without them",
        Scratch.VECTORS,
        _null_metadata,
    ),
    Question(
        "upsert-replaces",
        "Which keys has a record that is written again with another key?",
        "the keys ['new']",
        "a batch that is copied twice leaves what the last copy wrote",
        Scratch.VECTORS,
        _replaced,
    ),
    Question(
        "equal-ids",
        "Which of two records of one id in one upsert is kept?",
        "the last",
        "collisions of a merge are decided before they are written",
        Scratch.VECTORS,
        _equal_ids,
    ),
    Question(
        "missing-ids",
        "What does a fetch answer of which one id is not there?",
        "200, with ['a']",
        "ids that were asked for and are not in the answer count as missing",
        Scratch.VECTORS,
        _missing_ids,
    ),
    Question(
        "fetch-long-url",
        "Is a fetch answered whose URL has 6,800 characters?",
        "36 of 36 records",
        "over REST as many ids are asked for as fit a URL of that length",
        Scratch.VECTORS,
        _long_url,
    ),
    Question(
        "query-nearest",
        "In which order does a query answer three vectors?",
        "x before xy before y",
        "`--verify content+query` compares the order of answers",
        Scratch.VECTORS,
        _nearest,
    ),
    Question(
        "query-by-zeros",
        "Is a query by a vector of zeros answered?",
        "accepted",
        "a sampled record may be all but zero",
        Scratch.VECTORS,
        _zero_query,
    ),
)
