"""Documents: their rules, how they are stored as records, and how they are read back.

A document is a record whose dense and sparse vectors are those of its schema's fields; its texts are kept beside its
metadata. Of a field with `embed` the record holds the vector that was made of the text, which no read returns.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import orjson

from emulator.document_schema import DocumentFields
from emulator.errors import Refusal, invalid
from emulator.index import Index
from emulator.records import Record, Sparse, check_id, clean_fields, pack_floats, pack_metadata
from emulator.text import embed_dense, embed_sparse, words
from emulator.wire_json import read_sparse

DOCUMENTS_PER_REQUEST = 1_000
EMBEDDED_PER_REQUEST = 96
TEXT_BYTES = 100 * 1024
TEXT_TOKENS = 10_000
NAME_BYTES = 64

Body = Mapping[str, object]


@dataclass(frozen=True)
class Content:
    """The stored parts of a document, or the changed ones of an update."""

    values: bytes
    sparse: Sparse | None
    texts: Mapping[str, str]
    metadata: Mapping[str, object]
    tokens: int = 0  # of the texts that were embedded


@dataclass(frozen=True)
class Patch:
    content: Content
    removed: frozenset[str] = frozenset()


def check_count(index: Index, documents: object) -> list[Body]:
    """Return the documents of a request as objects."""
    limit = EMBEDDED_PER_REQUEST if fields_of(index).embeds() else DOCUMENTS_PER_REQUEST
    if not isinstance(documents, list) or not all(isinstance(item, dict) for item in documents):
        raise invalid("documents must be a list of objects")
    if not 1 <= len(documents) <= limit:
        raise invalid(f"documents must hold 1 to {limit} documents, got {len(documents)}")
    return documents


def fields_of(index: Index) -> DocumentFields:
    assert index.shape.document is not None, "the index has refused other kinds already"
    return index.shape.document


def read_document(index: Index, body: Body) -> tuple[Record, int]:
    """Return the record that a document is stored as, and the tokens embedded for it."""
    id = check_id(body.get("_id"), "Document '_id'")
    fields, content = fields_of(index), _read_content(index, id, body)
    if index.contested.null_fields == "refuse" and None in body.values():
        raise invalid(f"Document '{id}' has a field that is null")
    for name in fields.required():
        if body.get(name) is None:
            raise invalid(f"Document '{id}' is missing required field '{name}'")
    if not any(body.get(name) is not None for name in fields.names()):
        raise invalid(
            f"Document '{id}' must have at least one of the fields of the schema: {', '.join(fields.names())}"
        )
    return Record(id, content.values, content.sparse, _pack(content.texts, content.metadata)), content.tokens


def read_patch(index: Index, id: str, body: Body, removed: Collection[str]) -> Patch:
    """Return the change that an update asks for."""
    empty = [name for name, value in body.items() if value is None]
    if empty:
        raise invalid(f"Document '{id}': field '{empty[0]}' is null; remove a field with '_remove_fields'")
    both = sorted(set(body) & set(removed))
    if both:
        raise invalid(f"Document '{id}': field '{both[0]}' is both set and removed")
    required = sorted(set(fields_of(index).required()) & set(removed))
    if required:
        raise invalid(f"Document '{id}': required field '{required[0]}' cannot be removed")
    return Patch(_read_content(index, id, body), frozenset(removed))


def patched(index: Index, record: Record, patch: Patch) -> Record:
    fields, content = fields_of(index), patch.content
    stored = {**record.fields(), **content.texts, **content.metadata}
    kept = {name: value for name, value in stored.items() if name not in patch.removed}
    texts = {name: str(value) for name, value in kept.items() if name in fields.texts}
    metadata = {name: value for name, value in kept.items() if name not in fields.texts}
    keeps_sparse = patch.removed.isdisjoint({fields.sparse, fields.sparse_embed})
    sparse = content.sparse or (record.sparse if keeps_sparse else None)
    return Record(record.id, content.values or record.values, sparse, _pack(texts, metadata))


def _read_content(index: Index, id: str, body: Body) -> Content:
    fields, what = fields_of(index), f"Document '{id}'"
    texts = {name: _text(what, name, body[name]) for name in fields.texts if body.get(name) is not None}
    values, sparse, tokens = b"", None, 0
    if fields.dense is not None and body.get(fields.dense) is not None:
        values = pack_floats(body[fields.dense], f"{what}: field '{fields.dense}'")
        index.check_values(values, what)
    if fields.sparse is not None and body.get(fields.sparse) is not None:
        sparse = read_sparse(body[fields.sparse], what)
    if fields.embed in texts:
        values = embed_dense(texts[fields.embed], index.shape.dimension or 0)
        tokens += len(words(texts[fields.embed]))
    if fields.sparse_embed in texts:
        sparse = embed_sparse(texts[fields.sparse_embed])
        tokens += len(words(texts[fields.sparse_embed]))
    stored = {name: text for name, text in texts.items() if fields.texts[name].stored}
    rest = {name: value for name, value in body.items() if name != "_id" and not fields.searched(name)}
    for name in rest:
        _check_name(what, name, index.contested.long_names == "accept")
    return Content(values, sparse, stored, clean_fields(rest, id), tokens)


def _text(what: str, name: str, value: object) -> str:
    if not isinstance(value, str):
        raise invalid(f"{what}: field '{name}' must be a string, got {type(value).__name__}")
    if len(value.encode()) > TEXT_BYTES or len(words(value)) > TEXT_TOKENS:
        raise invalid(f"{what}: field '{name}' may have at most {TEXT_BYTES} bytes and {TEXT_TOKENS} tokens")
    return value


def _check_name(what: str, name: str, may_be_long: bool) -> None:
    too_long = len(name.encode()) > NAME_BYTES and not may_be_long
    if not name or too_long or name.startswith(("_", "$")):
        raise invalid(
            f"{what}: field name '{name[:80]}' must have 1 to {NAME_BYTES} bytes and may not start with '_' or '$'"
        )


def _pack(texts: Mapping[str, str], metadata: Mapping[str, object]) -> bytes | None:
    """Pack what is no vector. Texts do not count towards the limit of metadata."""
    packed = pack_metadata(metadata)
    return bytes(memoryview(orjson.dumps({**metadata, **texts}))) if texts else packed


# -- reads ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """The fields that a read returns of each document; None: all that are stored."""

    names: frozenset[str] | None

    def document(self, index: Index, record: Record, score: float | None = None) -> dict[str, object]:
        """Return a document as the service sends it: a float32 widened to a double, a score only of a search."""
        fields = fields_of(index)
        answer: dict[str, object] = {"_id": record.id}
        if score is not None:
            answer["_score"] = score if np.isfinite(score) else None
        if self._shows(fields.dense) and record.values:
            answer[str(fields.dense)] = _widened(record.values)
        if self._shows(fields.sparse) and record.sparse:
            indices = np.frombuffer(record.sparse.indices, "<u4")
            answer[str(fields.sparse)] = {"indices": indices, "values": _widened(record.sparse.weights)}
        if self.names != frozenset():
            answer |= {name: value for name, value in record.fields().items() if self._shows(name)}
        return answer

    def _shows(self, name: str | None) -> bool:
        return name is not None and (self.names is None or name in self.names)


def shown(index: Index, names: Sequence[str], empty_shows_all: bool) -> Shown:
    """Read `include_fields`; without names a fetch shows all, a search nothing."""
    if "*" in names or (not names and empty_shows_all):
        return Shown(None)
    texts = fields_of(index).texts
    hidden = [name for name in names if name in texts and not texts[name].stored]
    if hidden:
        raise invalid(f"Field '{hidden[0]}' is declared with store_text: false, so it cannot be returned")
    return Shown(frozenset(names))


def _widened(floats: bytes) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.frombuffer(floats, "<f4").astype("<f8")


def refuse_alias(index: Index, name: str, status: int) -> None:
    """Refuse a write to an alias, which documents do with a status of their own."""
    if name in index.aliases.by_name:
        target = index.aliases.resolve(name)
        raise Refusal(status, f"'{name}' is an alias of namespace '{target}'; write to the namespace itself")
