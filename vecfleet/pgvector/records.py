"""Rows as objects: what is inserted (`VectorEmbedding`), and what a search gives (`EmbeddingRecord`)."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np

from vecfleet.errors import BadInput
from vecfleet.pgvector.cells import AS_JSON, as_json_text, plain
from vecfleet.records import MetadataValue, Record

UNKNOWN_STRATEGY, UNKNOWN_CONTENT = "unknown", "mixed"


class EmbeddingRecord:
    """A row of a namespace, its columns as attributes; the models of namespaces derive from it.

    A search does not read the vectors: its records have no `embedding`.
    """

    id: int
    chunk_id: str
    document_id: str
    collection_name: str
    text: str
    embedding: Any
    strategy: str
    content_type: str
    metadata: dict[str, Any] | None

    @classmethod
    def of(cls, columns: Iterable[tuple[str, Any]]) -> Self:
        """A record with these columns."""
        record = cls.__new__(cls)
        record.__dict__.update(columns)
        return record

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.chunk_id!r}>"


@dataclass(slots=True)
class VectorEmbedding:
    """One embedding to insert. `metadata`: whatever else; a key that is a column of the table goes there."""

    chunk_id: str
    document_id: str
    collection_name: str
    text: str
    embedding: Sequence[float]
    strategy: str = UNKNOWN_STRATEGY
    content_type: str = UNKNOWN_CONTENT
    path: str | None = None
    parent_chunk_id: str | None = None
    depth_level: int = 0
    hierarchy_level: int = 0
    semantic_density: float = 0.0
    confidence: float = 1.0
    chunk_size: int | None = None
    token_count: int | None = None
    key_count: int | None = None
    contains_arrays: bool = False
    is_leaf: bool = False
    domain_tags: list[str] = field(default_factory=list)
    original_keys: list[str] = field(default_factory=list)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def as_record(self, **more: MetadataValue) -> Record:
        """The record of it. Raises BadInput for a vector with numbers that are none."""
        own = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in _OWN}
        every = {**more, **self.metadata, **{key: value for key, value in own.items() if value is not None}}
        return Record(self.chunk_id, vector_bytes(self.embedding), None, dict(map(_carried, every.items())))


_OWN = frozenset({"chunk_id", "embedding", "metadata"})


def vector_bytes(vector: Sequence[float]) -> bytes:
    """A vector as little-endian float32 bytes. Raises BadInput for NaN and the infinities."""
    values = np.asarray(vector, "<f4")
    if values.ndim != 1 or not np.isfinite(values).all():
        raise BadInput("an embedding is a list of finite numbers", next_step="check what the embedder gives")
    return values.tobytes()


def _carried(item: tuple[str, Any]) -> tuple[str, MetadataValue]:
    key, value = item
    if isinstance(value, float) and not math.isfinite(value):
        raise BadInput(f"the field {key!r} is no finite number", next_step="leave it out, or give it a value")
    if plain(value):
        return key, float(value) if type(value) is int else value
    return key + AS_JSON, as_json_text(value)
