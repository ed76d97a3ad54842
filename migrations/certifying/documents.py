"""Questions about document indexes."""

from collections.abc import Callable, Mapping
from typing import Any

from migrations.certifying.question import DIMENSION, EMBEDDING, Asker, NotShown, Question, Scratch, bits, compared
from migrations.certifying.wire import Reply

_LONG_NAME = "n" * 65
_METADATA: dict[str, Any] = {
    "text": "Grüße: 名前 🦜",
    "whole": 7,
    "fraction": 0.1,
    "yes": True,
    "no": False,
    "tags": ["b", "a", "b"],
    "empty": "",
    "no tags": [],
}
_VALUES = [0.1, -0.2, 0.4, 16777217.0]
_IDS = ["B", "_", "a", "a1", "a10", "a2", "~"]


def _document(id: str, *values: float, **fields: Any) -> dict[str, Any]:
    return {"_id": id, EMBEDDING: list(values) or [1.0, 0.5, -0.25, 2.0], **fields}


def _fetched(asker: Asker, namespace: str, *ids: str) -> Mapping[str, Any]:
    documents: Mapping[str, Any] = asker.wire.documents("fetch", namespace, {"ids": list(ids)}).body.get("documents")
    return documents or {}


def _written(asker: Asker, namespace: str, *documents: Mapping[str, Any]) -> Reply:
    """Write documents, and return the answer once a fetch shows them all. Raises NotShown."""
    reply = asker.wire.documents("upsert", namespace, {"documents": list(documents)})
    ids = {document["_id"] for document in documents}
    if reply.ok and not asker.eventually(lambda: ids <= _fetched(asker, namespace, *ids).keys()):
        raise NotShown
    return reply


def _upsert(namespace: str, *documents: Mapping[str, Any]) -> Callable[[Asker], str]:
    """Return the question whether the service takes these documents."""
    return lambda asker: asker.wire.documents("upsert", namespace, {"documents": list(documents)}).verdict


def _listed(asker: Asker, namespace: str) -> list[str]:
    page = asker.wire.documents("list", namespace, {"limit": 100})
    return [document["_id"] for document in page.body.get("documents") or ()]


def _come_back(asker: Asker) -> str:
    _written(asker, "values", _document("a", *_VALUES, **_METADATA))
    given = dict(_fetched(asker, "values", "a")["a"])
    values = given.pop(EMBEDDING, [])
    if len(values) != DIMENSION or bits(values) != bits(_VALUES):
        return "other bits"
    del given["_id"]
    return compared(_METADATA, given)


def _negative_zero(asker: Asker) -> str:
    _written(asker, "negative-zero", _document("a", -0.0, 1.0, 0.0, 0.0))
    first = _fetched(asker, "negative-zero", "a")["a"][EMBEDDING][0]
    return "keeps its sign" if bits([first]) == bits([-0.0]) else "loses its sign"


def _null(asker: Asker) -> str:
    reply = _written(asker, "nulls", _document("a", kept="x", dropped=None))
    if not reply.ok:
        return reply.verdict
    return f"the fields {sorted(_fetched(asker, 'nulls', 'a')['a'].keys() - {'_id', EMBEDDING})}"


def _whole_batch(asker: Asker) -> str:
    documents = [_document("good"), _document("bad", 1.0, 2.0)]
    reply = asker.wire.documents("upsert", "whole-batch", {"documents": documents})
    _written(asker, "whole-batch", _document("later"))
    written = "good" in _fetched(asker, "whole-batch", "good")
    return f"{reply.verdict}, {'the other document written' if written else 'nothing written'}"


def _in_byte_order(asker: Asker) -> str:
    _written(asker, "order", *map(_document, _IDS))
    asker.eventually(lambda: set(_IDS) <= set(_listed(asker, "order")))
    return " ".join(_listed(asker, "order"))


def _filtered(asker: Asker) -> str:
    _written(asker, "filtered", _document("a", team="red"), _document("b", team="blue"))

    def ids() -> list[str]:
        asked = {"filter": {"team": {"$eq": "red"}}}
        return sorted(asker.wire.documents("fetch", "filtered", asked).body.get("documents") or ())

    asker.eventually(lambda: ids() == ["a"])
    return "what it is to find" if ids() == ["a"] else f"{len(ids())} documents, of one that it is to find"


def _absent_id(asker: Asker) -> str:
    _written(asker, "absent-id", _document("a"))
    reply = asker.wire.documents("delete", "absent-id", {"ids": ["never-there"]})
    return f"{reply.status}" if reply.ok else reply.verdict


def _nowhere(asker: Asker) -> str:
    reply = asker.wire.documents("fetch", "nowhere", {"ids": ["a"]})
    return f"200, with {len(reply.body.get('documents') or {})} documents" if reply.ok else reply.verdict


def _deletion_shows(asker: Asker) -> str:
    _written(asker, "gone", _document("a"), _document("b"))
    asker.wire.documents("delete", "gone", {"ids": ["a"]})
    gone = asker.eventually(lambda: "a" not in _fetched(asker, "gone", "a", "b"))
    return "within the freshness wait" if gone else "not within the freshness wait"


def _lsn(asker: Asker) -> str:
    reply = asker.wire.documents("upsert", "lsn", {"documents": [_document("a")]})
    return "one" if reply.lsn("x-pinecone-request-lsn") is not None else "none"


def _wrong_api(asker: Asker) -> str:
    return asker.wire.upsert("wrong-api", [{"id": "a", "values": _VALUES}]).verdict


_NAMES = "names that documents refuse are renamed on the way, and renamed back"


def _question(
    id: str, asks: str, belief: str, ask: Callable[[Asker], str], because: str, switch: str | None = None
) -> Question:
    return Question(f"documents-{id}", asks, belief, because, Scratch.DOCUMENTS, ask, switch)


QUESTIONS = (
    _question(
        "come-back",
        "Do values and metadata of a document come back as they were written, values by their bits?",
        "as written",
        _come_back,
        "proofs compare bits, and each metadata key",
    ),
    _question(
        "negative-zero",
        "Does a value of minus zero keep its sign in a document?",
        "keeps its sign",
        _negative_zero,
        "a digest tells 0.0 and -0.0 apart",
    ),
    _question(
        "null-fields",
        "Which fields are left of a document of which one is null?",
        "the fields ['kept']",
        _null,
        "we leave nulls out of documents; applications may not",
        "null-fields",
    ),
    _question(
        "long-names",
        "Is a metadata name of 65 bytes taken?",
        "refused with 400",
        _upsert("long-names", _document("a", **{_LONG_NAME: "v"})),
        _NAMES,
        "long-names",
    ),
    _question(
        "underscore",
        "Is a metadata name taken that begins with an underscore?",
        "refused with 400",
        _upsert("underscore", _document("a", _node_content="{}")),
        _NAMES,
    ),
    _question(
        "without-vector",
        "Is a document taken without the dense vector that its index declares?",
        "refused with 400",
        _upsert("without-vector", {"_id": "a", "text": "alone"}),
        "the pre-flight of a plan into documents names such records",
    ),
    _question(
        "whole-batch",
        "What is written of an upsert of which one document is refused?",
        "refused with 400, nothing written",
        _whole_batch,
        "a refused upsert is halved until the document at fault stands alone",
    ),
    _question(
        "list-order",
        "In which order are the ids of documents listed?",
        " ".join(_IDS),
        _in_byte_order,
        "a listing goes on behind the last id that it knows, and proofs merge two lists",
    ),
    _question(
        "filtered-fetch",
        "What does a fetch by filter find where documents have a dense vector alone?",
        "what it is to find",
        _filtered,
        "no proof of ours rests on it; applications may",
        "filtered-fetch",
    ),
    _question(
        "delete-absent-id",
        "Is it an error to delete a document that is not there?",
        "202",
        _absent_id,
        "a deletion that runs twice is none",
    ),
    _question(
        "absent-namespace",
        "What does a fetch from a namespace of documents answer that is not there?",
        "200, with 0 documents",
        _nowhere,
        "the records of an absent namespace count as missing",
    ),
    _question(
        "deletion-shows",
        "When does a fetch no longer show a document that was deleted?",
        "within the freshness wait",
        _deletion_shows,
        "a clean-up and an erasure are confirmed by reads",
    ),
    _question(
        "lsn",
        "Does an upsert of documents tell the number of its write?",
        "one",
        _lsn,
        "shadow reads wait by it until a search has seen a write",
    ),
    _question(
        "wrong-api",
        "Does a document index take vectors?",
        "refused with 400",
        _wrong_api,
        "an index is written by the API of its kind",
    ),
)
