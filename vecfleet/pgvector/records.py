"""Rows as objects: `VectorEmbedding` is inserted, `EmbeddingRecord` comes from a search."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any, Self

import numpy as np

from vecfleet.errors import BadInput
from vecfleet.pgvector.cells import AS_JSON, BESIDE, EXACT_INTEGER, Unfit, as_json_text, fits_json, plain
from vecfleet.pgvector.rows import NOTES, Rows
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
        """Return a record with these columns."""
        record = cls.__new__(cls)
        record.__dict__.update(columns)
        return record

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.chunk_id!r}>"


@dataclass(slots=True)
class VectorEmbedding:
    """One embedding to insert. `metadata`: all other keys; a key that is a column of the table goes there."""

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
        """Return it as a record; an integer that no float64 equals stays one. Raises BadInput for a NaN or infinity."""
        own = {name: getattr(self, name) for name in _ARGUMENTS}
        every = {**more, **self.metadata, **{key: value for key, value in own.items() if value is not None}}
        return Record(self.chunk_id, vector_bytes(self.embedding), None, dict(map(_carried, every.items())))


_OWN = frozenset({"chunk_id", "embedding", "metadata"})
_ARGUMENTS = tuple(spec.name for spec in fields(VectorEmbedding) if spec.name not in _OWN)
# What the published project's tables call these.
_ELSEWHERE = {"depth_level": "level", "parent_chunk_id": "parent_id"}
# Python prints no integer of more than 4,300 digits, and so writes none as JSON.
_MOST_BITS = 14_000


def refuse_losses(one: VectorEmbedding, rows: Rows) -> None:
    """Raise BadInput, naming the key, if the table would not give every value back exactly as it was given."""
    column = rows.table.column("chunk_id")
    if not _is_text(one.chunk_id, column.size if column is not None else None):
        raise BadInput(
            "a chunk_id is no text that its column can hold: it is too long, or holds a NUL",
            next_step="give it a shorter one",
        )
    for key, value in one.metadata.items():
        if not isinstance(key, str) or not fits_json(key):
            raise BadInput(
                f"the metadata of {one.chunk_id!r} has a key that is no text that Postgres can hold",
                next_step="call it by a text without a NUL",
            )
        if key == NOTES or key.endswith((AS_JSON, BESIDE)):
            raise BadInput(
                f"the metadata key {key!r} of {one.chunk_id!r} is one that we use ourselves",
                next_step=f"call it something else: {NOTES!r} and keys that end in {AS_JSON} or {BESIDE} are taken",
            )
        given = getattr(one, key) if key in _ARGUMENTS else None
        if given is not None and given != value:
            raise BadInput(
                f"the metadata key {key!r} of {one.chunk_id!r} is an argument too, with another value",
                next_step=f"give it as the argument {key!r} only, or call the key something else",
            )
        _check_json(one, key, value)
    columns = {cells.key: cells for cells in rows.cells}
    for key in _ARGUMENTS:
        value, cells = getattr(one, key), columns.get(key)
        if cells is None:
            _check_json(one, key, value)
        elif value is None and cells.column.not_null:
            raise BadInput(
                f"the embedding {one.chunk_id!r} has no {key}, and its column must hold something",
                next_step=f"give it a {key}",
            )
        elif value is not None:
            try:
                cells.pack(_carried((key, value))[1])
            except Unfit as error:
                if cells.column.type == "float4":  # the published tables': the metadata holds its other digits
                    continue
                size = f"({cells.column.size:,})" if cells.column.size else ""
                raise BadInput(
                    f"the value of {key!r} of {one.chunk_id!r} does not fit its column, {cells.column.type}{size}",
                    next_step="shorten it or leave it out; no text may hold a NUL",
                ) from error


def fitted(embedding: VectorEmbedding, rows: Rows, stamp: str) -> Record:
    """Return an embedding as a record of a table that has no column `metadata`, such as the published project's own.

    What says nothing (the default of a field) is left out where there is no column for it. Raises BadInput, naming the
    key, for what says something. `stamp` is the time where a column must hold one.
    """
    cells = {cells.key: cells for cells in rows.cells}
    record = embedding.as_record()
    given = dict(record.metadata)
    for ours, theirs in _ELSEWHERE.items():
        if ours in given and ours not in cells and theirs in cells:
            given.setdefault(theirs, given.pop(ours))
    kept = {key: value for key, value in given.items() if key in cells}
    lost = sorted(key for key, value in given.items() if key not in cells and _SAYS_NOTHING.get(key) != value)
    if lost:
        raise BadInput(
            f"the table {rows.table.name!r} has no column for these of {embedding.chunk_id!r}: {', '.join(lost)}",
            next_step=f"leave them out, or: ALTER TABLE {rows.table.name} ADD COLUMN metadata JSONB",
        )
    for key, cell in cells.items():
        value = kept.get(key)
        if cell.column.type == "float4" and isinstance(value, float):
            kept[key] = float(np.float32(value))  # as the project's own program writes it
    times = {key: stamp for key, cell in cells.items() if cell.as_text and cell.column.type.startswith("timestamp")}
    return replace(record, metadata={**rows.fillers(record.id), **times, **kept})


def _check_json(embedding: VectorEmbedding, key: str, value: Any) -> None:
    if not _is_kept(value):
        raise BadInput(
            f"Postgres cannot keep the value of {key!r} of {embedding.chunk_id!r} exactly",
            next_step="leave it out, or give it as a text: its JSON has no NUL, no NaN, no negative zero, no float from"
            " 1e16 on, no integer of over 4,000 digits, no types but JSON's own",
        )


def _is_kept(value: Any) -> bool:
    """Say whether JSONB gives this back as it is, all the way down."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and fits_json(key) and _is_kept(inner) for key, inner in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_kept, value))
    if isinstance(value, int):
        return value.bit_length() <= _MOST_BITS
    return value is None or (isinstance(value, str | float) and fits_json(value))


def _is_text(value: Any, most: int | None) -> bool:
    return isinstance(value, str) and fits_json(value) and (most is None or len(value) <= most)


def vector_bytes(vector: Sequence[float]) -> bytes:
    """Return a vector as little-endian float32 bytes. Raises BadInput for NaN and the infinities."""
    values = np.asarray(vector, "<f4")
    if values.ndim != 1 or not np.isfinite(values).all():
        raise BadInput("an embedding is a list of finite numbers", next_step="check what the embedder gives")
    return values.tobytes()


def _carried(item: tuple[str, Any]) -> tuple[str, MetadataValue]:
    key, value = item
    if isinstance(value, float) and not math.isfinite(value):
        raise BadInput(f"the field {key!r} is not a finite number", next_step="leave it out, or give it a value")
    if plain(value):
        return key, float(value) if type(value) is int and abs(value) <= EXACT_INTEGER else value
    return key + AS_JSON, as_json_text(value)


_SAYS_NOTHING = dict(
    _carried((spec.name, spec.default_factory() if spec.default_factory is not MISSING else spec.default))
    for spec in fields(VectorEmbedding)
    if spec.name in _ARGUMENTS and (spec.default is not MISSING or spec.default_factory is not MISSING)
)
