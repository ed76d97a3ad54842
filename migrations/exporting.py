"""A sample of records as a Parquet file, to look at elsewhere. Values stay the float32 they are."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from migrations.auditing import sample_records
from migrations.reading import Reader
from vecfleet.records import Record

GROUP_RECORDS = 500

SCHEMA = pa.schema(
    [
        pa.field("namespace", pa.string(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("values", pa.list_(pa.float32()), nullable=False),
        pa.field("sparse_indices", pa.list_(pa.uint32())),
        pa.field("sparse_values", pa.list_(pa.float32())),
        pa.field("metadata", pa.string(), nullable=False),  # a JSON object
    ]
)


def export_sample(reader: Reader, number: int, path: Path) -> int:
    """Write up to `number` records from all namespaces to a new Parquet file, whole or not at all. Returns how many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    written = 0
    records = sample_records(reader, number)
    with pq.ParquetWriter(draft, SCHEMA) as file:
        while group := list(islice(records, GROUP_RECORDS)):
            file.write_batch(_batch(group))
            written += len(group)
    draft.replace(path)
    return written


def _batch(group: list[tuple[str, Record]]) -> pa.RecordBatch:
    records = [record for _, record in group]
    return pa.record_batch(
        [
            pa.array([namespace for namespace, _ in group], pa.string()),
            pa.array([record.id for record in records], pa.string()),
            _lists((record.values for record in records), "<f4"),
            _lists((record.sparse.indices if record.sparse else None for record in records), "<u4"),
            _lists((record.sparse.values if record.sparse else None for record in records), "<f4"),
            pa.array([orjson.dumps(dict(record.metadata)).decode() for record in records], pa.string()),
        ],
        schema=SCHEMA,
    )


def _lists(parts: Iterable[bytes | None], dtype: str) -> pa.ListArray:
    """Lists of numbers made of their bytes; None stays null."""
    held = list(parts)
    lengths = [len(part or b"") // 4 for part in held]
    flat = np.frombuffer(b"".join(part or b"" for part in held), dtype=dtype)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    empty = pa.array([part is None for part in held], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat), mask=empty)
