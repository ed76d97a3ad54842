"""Questions about sparse values, in indexes of each kind that has some, or says that it has none."""

import struct
from collections.abc import Mapping
from typing import Any

from migrations.certifying.question import Asker, Question, Scratch, bits, vector

_ENTRIES = {7: 0.5, 0: 0.1, 4_294_967_295: 1e-7}  # not in the order of their indexes
_MOST_ENTRIES = 2_048


def _body(entries: Mapping[int, float]) -> dict[str, Any]:
    values = struct.unpack(f"<{len(entries)}f", bits(list(entries.values())))
    return {"sparseValues": {"indices": list(entries), "values": list(values)}}


def _compared(record: Mapping[str, Any]) -> str:
    told = record.get("sparseValues") or {"indices": [], "values": []}
    entries = {index: bits([value]) for index, value in zip(told["indices"], told["values"], strict=True)}
    same = entries == {index: bits([value]) for index, value in _ENTRIES.items()}
    return "bit for bit" if same else f"{len(entries)} of {len(_ENTRIES)} entries, or other bits"


def _sparse_comes_back(asker: Asker) -> str:
    asker.written("sparse", {"id": "a", "values": [], **_body(_ENTRIES)})
    return _compared(asker.fetched("sparse", "a")["a"])


def _hybrid_comes_back(asker: Asker) -> str:
    asker.written("hybrid", vector("a") | _body(_ENTRIES), vector("plain"))
    given = asker.fetched("hybrid", "a", "plain")
    plain = (given["plain"].get("sparseValues") or {}).get("indices") or ()
    return f"{_compared(given['a'])}, and {len(plain)} entries where none were written"


def _undeclared(asker: Asker) -> str:
    return asker.wire.upsert("undeclared", [vector("a") | _body(_ENTRIES)]).verdict


def _described(asker: Asker) -> str:
    return ", ".join(sorted(asker.info.schema.get("fields") or {}))


def _too_many_entries(asker: Asker) -> str:
    entries = dict.fromkeys(range(_MOST_ENTRIES + 1), 0.5)
    return asker.wire.upsert("too-many", [{"id": "a", "values": [], **_body(entries)}]).verdict


def _lsn(asker: Asker) -> str:
    reply = asker.wire.upsert("lsn", [{"id": "a", "values": [], **_body(_ENTRIES)}])
    return "one" if reply.lsn("x-pinecone-request-lsn") is not None else "none"


QUESTIONS = (
    Question(
        "undeclared-sparse",
        "Are sparse values taken by a dense index with the metric dotproduct that declares _values alone?",
        "refused with 400",
        "an index is created like its source, so that its sparse values can be written",
        Scratch.DOTPRODUCT,
        _undeclared,
        "undeclared-sparse",
    ),
    Question(
        "vector-fields",
        "With which fields is such an index described?",
        "_values",
        "by its fields we tell whether an index may hold sparse values",
        Scratch.DOTPRODUCT,
        _described,
        "vector-fields",
    ),
    Question(
        "hybrid-comes-back",
        "Do sparse values beside dense ones come back with the bits that were written?",
        "bit for bit, and 0 entries where none were written",
        "proofs compare bits of sparse values, by their indexes in order",
        Scratch.HYBRID,
        _hybrid_comes_back,
    ),
    Question(
        "sparse-comes-back",
        "Do sparse values alone come back with the bits that were written?",
        "bit for bit",
        "proofs compare bits of sparse values, by their indexes in order",
        Scratch.SPARSE,
        _sparse_comes_back,
    ),
    Question(
        "too-many-sparse-values",
        "Are 2,049 sparse values taken in one record?",
        "refused with 400",
        "a plan into documents refuses records of more than 2,048",
        Scratch.SPARSE,
        _too_many_entries,
    ),
    Question(
        "lsn-of-sparse-upserts",
        "Does an upsert of sparse values tell the number of its write?",
        "one",
        "where it tells none, a sparse source is read again in each pass",
        Scratch.SPARSE,
        _lsn,
    ),
)
