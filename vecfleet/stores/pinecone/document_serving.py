"""A document index for an application's searches: questions as the SDK's arguments, its answers as hits."""

from collections.abc import Iterator, Sequence
from typing import Any

import orjson
from pinecone.models.documents.responses import SearchDocumentsResponse

from vecfleet.errors import WrongKind
from vecfleet.names import canonical
from vecfleet.records import Record
from vecfleet.stores.base import Limits
from vecfleet.stores.document_text import ID, as_document
from vecfleet.stores.documents import DENSE_TYPE, SPARSE_TYPE, Layout
from vecfleet.stores.pinecone.document_index import SCORE
from vecfleet.stores.serving import Filter, Hit, Question

EVERYTHING = "*"
_LIMITS = Limits()


def search(layout: Layout, namespace: str, question: Question) -> dict[str, Any]:
    """Return the arguments of a search. Raises WrongKind for a question that no document index answers."""
    if question.text is not None:
        raise WrongKind("a document index embeds no question", next_step="ask with the vector of the text")
    if question.vector is not None and question.sparse is not None:
        raise WrongKind(
            "a document index is searched by dense or by sparse values, not by both at once",
            next_step="ask with one of them",
        )
    vectors = [name for name in (layout.dense, layout.sparse) if name is not None]
    clause = {"type": DENSE_TYPE, "field": layout.dense, "values": _plain(question.vector)}
    if question.sparse is not None:
        clause = {"type": SPARSE_TYPE, "field": layout.sparse, "sparse_values": _plain(question.sparse)}
    shown = [EVERYTHING] if question.metadata else vectors if question.values else None
    return {
        "namespace": canonical(namespace),
        "score_by": [clause],
        "top_k": question.top_k,
        "filter": _filter(layout, question.filter) if question.filter is not None else None,
        "include_fields": shown,
    }


def found(answer: SearchDocumentsResponse, layout: Layout, question: Question, namespace: str) -> list[Hit]:
    """Return the hits; with metadata, the service sends the vectors along, which are left out unless asked for."""
    return [_hit(match.to_dict(), layout, question, namespace) for match in answer.matches]


def requests(layout: Layout, records: Sequence[Record]) -> Iterator[list[dict[str, Any]]]:
    """Yield the records as documents, in as many requests as their bytes and their number require."""
    batch: list[dict[str, Any]] = []
    size = _ENVELOPE_BYTES
    for record in records:
        document = as_document(layout, record)
        added = len(orjson.dumps(document)) + len(",")
        if batch and (len(batch) == _LIMITS.upsert_records or size + added > _LIMITS.upsert_bytes):
            yield batch
            batch, size = [], _ENVELOPE_BYTES
        batch.append(document)
        size += added
    if batch:
        yield batch


_JOINING = ("$and", "$or")


def _filter(layout: Layout, asked: Filter) -> dict[str, Any]:
    """Return the filter with each metadata key under the name of its field."""
    return {
        layout.name_of(key): [_filter(layout, part) for part in value] if key in _JOINING else value
        for key, value in asked.items()
    }


_ENVELOPE_BYTES = len('{"documents":[]}')


def _hit(fields: dict[str, Any], layout: Layout, question: Question, namespace: str) -> Hit:
    record_id, score = fields.pop(ID), fields.pop(SCORE)
    values = fields.pop(layout.dense, ()) if layout.dense is not None else ()
    sparse = fields.pop(layout.sparse, None) if layout.sparse is not None else None
    if not question.values:
        values, sparse = (), None
    metadata = {layout.key_of(name): value for name, value in fields.items()} if question.metadata else None
    return Hit(record_id, score, metadata, values, sparse, namespace)


def _plain(values: Any) -> Any:
    """Return values, perhaps their JSON text, as the SDK checks them: lists and numbers."""
    return orjson.loads(orjson.dumps(values))
