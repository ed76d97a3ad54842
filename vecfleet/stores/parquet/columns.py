"""Records as columns, and back. Values are copied as the bytes they are: no Python float is made on the way.

Metadata is a JSON object as text. `digest` is the record's SHA-256 in hexadecimal: it shows damage on reading.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import orjson
import pyarrow as pa

from vecfleet.digests import record_sha256
from vecfleet.errors import BadRequest
from vecfleet.records import FLOAT32_BYTES, Record, Sparse

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("values", pa.list_(pa.float32()), nullable=False),
        pa.field("sparse_indices", pa.list_(pa.uint32())),
        pa.field("sparse_values", pa.list_(pa.float32())),
        pa.field("metadata", pa.string(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
    ]
)


def to_arrays(records: Sequence[Record]) -> list[pa.Array]:
    """Return the columns of `SCHEMA`. Records are as a store gives them back; other metadata may not be JSON."""
    return [
        pa.array([record.id for record in records], pa.string()),
        _lists((record.values for record in records), "<f4"),
        _lists((record.sparse.indices if record.sparse else None for record in records), "<u4"),
        _lists((record.sparse.values if record.sparse else None for record in records), "<f4"),
        pa.array([orjson.dumps(dict(record.metadata)).decode() for record in records], pa.string()),
        pa.array([record_sha256(record).hex() for record in records], pa.string()),
    ]


def to_records(table: pa.Table) -> Iterator[Record]:
    """Yield the records of a table. Raises BadRequest for one that is no longer what was written."""
    ids, metadata, digests = (table.column(name).to_pylist() for name in ("id", "metadata", "digest"))
    values, indices, weights = (_bytes(table.column(name)) for name in ("values", "sparse_indices", "sparse_values"))
    for row, id in enumerate(ids):
        entries, held = indices[row], weights[row]
        sparse = Sparse(entries, held) if entries is not None and held is not None else None
        record = Record(id, values[row] or b"", sparse, orjson.loads(metadata[row]))
        if record_sha256(record).hex() != digests[row]:
            raise BadRequest(f"the record {id!r} is not what was written: its digest differs")
        yield record


def _lists(parts: Iterable[bytes | None], dtype: str) -> pa.ListArray:
    """Return lists of numbers made of their bytes; None stays null."""
    held = list(parts)
    lengths = [len(part or b"") // FLOAT32_BYTES for part in held]
    flat = np.frombuffer(b"".join(part or b"" for part in held), dtype=dtype)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    absent = pa.array([part is None for part in held], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat), mask=absent)


def _bytes(column: pa.ChunkedArray) -> list[bytes | None]:
    """Return the bytes of each list of numbers; null is None."""
    array = column.combine_chunks()
    flat = memoryview(array.values.to_numpy(zero_copy_only=True)).cast("B")
    ends = (array.offsets.to_numpy() * FLOAT32_BYTES).tolist()
    present = array.is_valid().to_pylist()
    return [bytes(flat[ends[row] : ends[row + 1]]) if there else None for row, there in enumerate(present)]
