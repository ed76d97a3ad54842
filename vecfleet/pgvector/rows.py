"""Records as rows of a namespace's table, and back: what goes in comes out, whatever the columns are. Pure.

A metadata key that has a column of its own goes there; all others go into the JSONB column `metadata`. A value that
neither can hold exactly (a NUL, a negative zero) is kept there too, as JSON text under `_vecfleet`. So are the names of
columns that must hold something and for which the record had nothing. Somebody's later edit of a column wins.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from psycopg import sql

from vecfleet.errors import BadRequest, WrongKind
from vecfleet.pgvector import values
from vecfleet.pgvector.cells import (
    AS_JSON,
    BESIDE,
    JSONB_VERSION,
    Cells,
    Unfit,
    as_json_text,
    cells_of,
    dump,
    load,
    number,
    plain,
    spelled,
    stays_in_json,
)
from vecfleet.pgvector.layouts import SPARSE_COLUMNS
from vecfleet.pgvector.tables import CHUNK_ID, Column, Table
from vecfleet.records import MetadataValue, Record, Sparse

METADATA = "metadata"
COLLECTION = "collection_name"
NOTES = "_vecfleet"  # our part of the JSONB column
_FILLED, _EXACT = "filled", "exact"

_SPARSE = {spec.name for spec in SPARSE_COLUMNS}
_NUMBERS = ("int2", "int4", "int8")


@dataclass(frozen=True, slots=True)
class Rows:
    """The mapping of one table's records to its rows: every column but its own numbering, `id`, is part of them."""

    table: Table
    cells: tuple[Cells, ...]
    vector: Column | None
    body: Column | None  # `metadata`, where it is JSON: holds the keys without a column

    @classmethod
    def of(cls, table: Table, collection_key: str = COLLECTION) -> "Rows":
        """Return the rows of a table. `collection_key`: the metadata key that the column `collection_name` holds."""
        body = table.column(METADATA)
        body = body if body is not None and body.type in ("json", "jsonb") else None
        number = table.column("id")
        number = number if number is not None and number.type in _NUMBERS else None
        apart = {CHUNK_ID, *(column.name for column in (number, table.vector, body) if column is not None)}
        apart |= _SPARSE if table.has_sparse else set()
        cells = tuple(
            cells_of(column, collection_key if column.name == COLLECTION else column.name)
            for column in table.columns
            if column.name not in apart
        )
        return cls(table, cells, table.vector, body)

    # Statements

    @property
    def written(self) -> sql.Composed:
        """The columns that `row` fills, in its order."""
        return sql.SQL(", ").join(map(sql.Identifier, self._names()))

    @property
    def read(self) -> sql.Composed:
        """The columns that `record` takes, in its order."""
        parts: list[sql.Composable] = [sql.Identifier(name) for name in self._fixed()]
        if self.body is not None and self.body.type == "json":
            parts[-1] = sql.SQL("{}::jsonb").format(parts[-1])
        for conversion in self.cells:
            name = sql.Identifier(conversion.column.name)
            parts.append(sql.SQL("{}::text").format(name) if conversion.as_text else name)
        return sql.SQL(", ").join(parts)

    @property
    def written_types(self) -> list[str]:
        return [*self._fixed_types(), *(conversion.wire for conversion in self._written_cells)]

    @property
    def read_types(self) -> list[str]:
        return [*self._fixed_types(), *("text" if conversion.as_text else conversion.wire for conversion in self.cells)]

    @property
    def _written_cells(self) -> Iterator[Cells]:
        return (conversion for conversion in self.cells if not conversion.column.computed)

    def _fixed(self) -> list[str]:
        names = [CHUNK_ID]
        names += [self.vector.name] if self.vector else []
        names += [spec.name for spec in SPARSE_COLUMNS] if self.table.has_sparse else []
        return names + ([METADATA] if self.body is not None else [])

    def _fixed_types(self) -> list[str]:
        types = ["text"]
        types += ["bytea"] if self.vector else []
        types += ["int8[]", "float4[]"] if self.table.has_sparse else []
        return types + (["bytea"] if self.body is not None else [])

    def _names(self) -> list[str]:
        return [*self._fixed(), *(conversion.column.name for conversion in self._written_cells)]

    # Records to rows

    def fillers(self, id: str) -> dict[str, Any]:
        """Return what a row holds, by key, where a column must hold something and its record has nothing."""
        return {
            cells.key: cells.unpack(_filler(cells, id))
            for cells in self._written_cells
            if cells.column.not_null and not cells.as_text
        }

    def row(self, record: Record) -> tuple[Any, ...]:
        """Return the row of a normalised record. Raises BadRequest if this table cannot hold it."""
        fixed: list[Any] = [record.id]
        if self.vector is not None:
            fixed.append(values.to_wire(record.values, self.vector.type) if record.values else None)
        if self.table.has_sparse:
            fixed += _sparse_lists(record.sparse)
        left: dict[str, Any] = dict(record.metadata)
        filled: list[str] = []
        for conversion in self.cells:
            if conversion.column.computed:  # the database computes it again; the proof compares it
                left.pop(conversion.key, None)
        cells = [self._cell(conversion, record, left, filled) for conversion in self._written_cells]
        if self.body is not None:
            body = self._json(record, left, filled)
            return (*fixed, body if body is None or self.body.type == "jsonb" else body[len(JSONB_VERSION) :], *cells)
        if left or filled:
            raise BadRequest(
                f"the table {self.table.name!r} has no column for the metadata of {record.id!r}: "
                f"{', '.join(sorted({*left, *filled})[:5])}"
            )
        return (*fixed, *cells)

    @staticmethod
    def _cell(conversion: Cells, record: Record, left: dict[str, Any], filled: list[str]) -> Any:
        """Return the cell of one column; a value that fits is taken out of `left`."""
        if conversion.key in left:
            try:
                cell = conversion.pack(left[conversion.key])
            except Unfit:
                pass
            else:
                del left[conversion.key]
                return cell
        if not conversion.column.not_null:
            return None
        filled.append(conversion.column.name)
        return _filler(conversion, record.id)

    @staticmethod
    def _json(record: Record, left: Mapping[str, Any], filled: list[str]) -> bytes | None:
        body: dict[str, Any] = {}
        exact: dict[str, Any] = {}
        for key, value in left.items():
            name, opened = _opened(key, value, record.metadata)
            try:
                dump(key)
                if opened is None:
                    dump(value)
            except Unfit:
                exact[key] = value
                continue
            base = name.removesuffix(BESIDE)
            if base in record.metadata and base not in left:  # its column holds another value
                name = base
            if key == NOTES:
                exact[key] = value
            else:
                body[name] = spelled(value) if opened is None else opened[0]
        notes: dict[str, Any] = {}
        if filled:
            notes[_FILLED] = filled
        if exact:
            notes[_EXACT] = json.dumps(exact)  # ASCII: a NUL is six characters
        if notes:
            body[NOTES] = notes
        if not body:
            return None
        try:
            return JSONB_VERSION + orjson.dumps(body)
        except orjson.JSONEncodeError:  # integers of any size, inside of what travels as text
            return JSONB_VERSION + json.dumps(body, ensure_ascii=False).encode()

    # Rows to records

    def record(self, row: tuple[Any, ...]) -> Record:
        """Return the record of a row."""
        cursor = iter(row)
        id: str = next(cursor)
        sent = next(cursor) if self.vector is not None else None
        held = values.from_wire(sent, self.vector.type) if self.vector is not None and sent is not None else b""
        sparse = _sparse_of(next(cursor), next(cursor)) if self.table.has_sparse else None
        raw = next(cursor) if self.body is not None else None
        body = load(bytes(raw[len(JSONB_VERSION) :])) if raw is not None else {}
        if not isinstance(body, dict):
            body = {METADATA: body}
        return Record(id, held, sparse, dict(self._metadata(id, cursor, body)))

    def _metadata(self, id: str, cells: Iterator[Any], body: dict[str, Any]) -> Iterator[tuple[str, MetadataValue]]:
        notes = body.pop(NOTES, None)
        notes = notes if isinstance(notes, dict) else {}
        filled = notes.get(_FILLED, ())
        fields: dict[str, Any] = {}
        for conversion, cell in zip(self.cells, cells, strict=True):
            if cell is None or (
                conversion.column.name in filled and conversion.unpack(cell) == _read_filler(conversion, id)
            ):
                continue
            fields[conversion.key] = conversion.unpack(cell)
        columns = frozenset(fields)
        for key, value in body.items():
            name = key + BESIDE if key in columns else key
            if name != key and name in body:
                raise WrongKind(
                    f"the row {id!r} holds {key!r} twice, and {name!r} too: one must be renamed",
                    next_step="rename it in that row's metadata, then run the batch again",
                )
            fields[name] = number(value)
        for key, value in json.loads(notes.get(_EXACT, "{}")).items():
            if key not in columns:  # else somebody has given the column a value since
                fields[key] = number(value)
        for key, value in fields.items():
            if plain(value):
                yield key, value
            else:
                if key + AS_JSON in fields:
                    raise WrongKind(
                        f"the row {id!r} holds both {key!r} and {key + AS_JSON!r}: one must be renamed",
                        next_step="rename it in that row's metadata, then run the batch again",
                    )
                yield key + AS_JSON, as_json_text(value)


def _opened(key: str, value: Any, metadata: Mapping[str, Any]) -> tuple[str, tuple[Any] | None]:
    """Return the key and the opened value of JSON text, if writing it open gives the same text back."""
    name = key.removesuffix(AS_JSON)
    if name in (key, NOTES) or not isinstance(value, str) or name in metadata:
        return key, None
    try:
        held = json.loads(value)
    except ValueError:
        return key, None
    if plain(held) or as_json_text(held) != value or not stays_in_json(held):
        return key, None
    return name, (held,)


def _filler(conversion: Cells, id: str) -> Any:
    if conversion.column.name == "document_id":
        return id[: conversion.column.size or None]  # a row belongs to some document: its own, if no other is given
    if conversion.column.name == "text_hash":
        return hashlib.sha256(id.encode()).hexdigest()  # must differ from row to row
    if conversion.column.name == COLLECTION:
        return "default"
    return conversion.filler


def _read_filler(conversion: Cells, id: str) -> Any:
    filler = _filler(conversion, id)
    if conversion.as_text:
        return str(filler)[: len("1970-01-01 00:00:00")] + ("+00" if conversion.wire == "timestamptz" else "")
    return conversion.unpack(filler)


def _sparse_lists(sparse: Sparse | None) -> tuple[list[int] | None, list[float] | None]:
    if sparse is None or not len(sparse):
        return None, None
    return np.frombuffer(sparse.indices, "<u4").tolist(), np.frombuffer(sparse.values, "<f4").tolist()


def _sparse_of(indices: list[int] | None, weights: list[float] | None) -> Sparse | None:
    if not indices or not weights:
        return None
    return Sparse(np.array(indices, "<u4").tobytes(), np.array(weights, "<f4").tobytes())
