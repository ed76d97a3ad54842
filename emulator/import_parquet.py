"""Parquet files of a bulk import, with the columns that the service documents."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from emulator.errors import invalid
from emulator.import_files import BATCH_ROWS, Format, ImportFailed, name_file, unreadable
from emulator.index import Index
from emulator.records import Record, pack_floats, sparse_of


def _columns(index: Index) -> tuple[str, ...]:
    """Return the columns that a file for this index has: the second is required, as the first is."""
    shape = index.shape
    if shape.vector_type == "sparse":
        return ("id", "sparse_values", "metadata")
    undeclared = shape.metric == "dotproduct" and index.contested.undeclared_sparse == "accept"
    sparse = ("sparse_values",) if shape.sparse or undeclared else ()
    return ("id", "values", *sparse, "metadata")


def _count_rows(index: Index, path: Path) -> int:
    """Count the rows of a file, after checking that its columns are those of an import into this index."""
    try:
        with pq.ParquetFile(path) as file:
            wrong = _wrong_columns(file.schema_arrow, index)
            rows = int(file.metadata.num_rows)
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, "Parquet", error) from None
    if wrong:
        raise ImportFailed(f"{name_file(path)}: {wrong}")
    return rows


def _wrong_columns(schema: Any, index: Index) -> str | None:
    columns = _columns(index)
    unexpected = sorted(set(schema.names) - set(columns))
    if unexpected and index.contested.extra_columns == "refuse":
        return f"column '{unexpected[0]}' is not one of {', '.join(columns)}"
    if not {*columns[:2]} <= set(schema.names):
        return f"columns '{columns[0]}' and '{columns[1]}' are required"
    for name in columns:
        if name in schema.names and not _fits(name, schema.field(name).type):
            return f"column '{name}' has the wrong type, {schema.field(name).type}"
    return None


def _fits(name: str, kind: Any) -> bool:
    if name != "id" and pa.types.is_null(kind):
        return True
    if name in ("id", "metadata"):
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
    if name == "values":
        return _is_list_of(kind, pa.types.is_floating)
    return bool(
        pa.types.is_struct(kind)
        and {kind.field(n).name for n in range(kind.num_fields)} == {"indices", "values"}
        and _is_list_of(kind.field("indices").type, pa.types.is_integer)
        and _is_list_of(kind.field("values").type, pa.types.is_floating)
    )


def _is_list_of(kind: Any, is_item: Any) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(is_list and is_item(kind.value_type))


def _read_batches(path: Path) -> Iterator[list[dict[str, Any]]]:
    """Yield the file's rows in batches: `values` as float32 bytes, the rest as Python values."""
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                rows = batch.drop_columns(["values"]).to_pylist() if "values" in batch.schema.names else None
                yield batch.to_pylist() if rows is None else _with_values(rows, batch.column("values"))
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, "Parquet", error) from None


def _with_values(rows: list[dict[str, Any]], column: Any) -> list[dict[str, Any]]:
    """Add the values to the rows. A null among the numbers becomes NaN, which no index stores."""
    for row, item in zip(rows, column, strict=True):
        numbers = item.values if item.is_valid else None
        row["values"] = b"" if numbers is None else numbers.to_numpy(zero_copy_only=False).astype("<f4").tobytes()
    return rows


def _read_row(index: Index, row: Any) -> Record:
    row = {name: row.get(name) for name in _columns(index)}
    id, sparse, metadata = row["id"], row.get("sparse_values"), row["metadata"]
    name = f"Vector ID {id}"
    try:
        fields = orjson.loads(metadata) if metadata is not None else None
    except orjson.JSONDecodeError as error:
        raise invalid(f"{name}: metadata is not valid JSON: {error}") from None
    weights = None
    if sparse is not None:
        weights = sparse_of(sparse["indices"] or [], pack_floats(sparse["values"] or [], name), name)
    return index.check_record(id, row.get("values") or b"", weights, fields)


PARQUET = Format("Parquet", (".parquet",), _count_rows, _read_batches, _read_row)
