"""Records as columns, and back. Values are copied as the bytes they are: no Python float is made on the way.

The columns are those of Pinecone's bulk import, which takes no others: an index without sparse values has no column for
them, and one of sparse values alone none for `values`. Metadata is a JSON object as text, null where there is none.
The records' SHA-256 stand beside the table and show damage on reading; exports of former versions have them in a column
`digest`, and sparse values in two columns.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import orjson
import pyarrow as pa

from vecfleet.digests import record_sha256
from vecfleet.errors import BadRequest
from vecfleet.records import FLOAT32_BYTES, Record, Sparse
from vecfleet.stores.base import Kind

SHA256_BYTES = 32
_SPARSE = pa.struct([pa.field("indices", pa.list_(pa.uint32())), pa.field("values", pa.list_(pa.float32()))])
_VALUES, _SPARSE_VALUES = pa.field("values", pa.list_(pa.float32())), pa.field("sparse_values", _SPARSE)


def schema(kind: Kind) -> pa.Schema:
    """Return the columns of an index of this kind."""
    vectors = {Kind.SPARSE: [_SPARSE_VALUES], Kind.HYBRID: [_VALUES, _SPARSE_VALUES]}.get(kind, [_VALUES])
    return pa.schema([pa.field("id", pa.string()), *vectors, pa.field("metadata", pa.string())])


def to_arrays(records: Sequence[Record], wanted: pa.Schema) -> list[pa.Array]:
    """Return these columns. Records are as a store gives them back; other metadata may not be JSON."""
    making = {"id": _ids, "values": _values, "sparse_values": _sparse, "metadata": _metadata}
    return [making[name](records) for name in wanted.names]


def digests(records: Iterable[Record]) -> bytes:
    """Return the records' SHA-256, one behind the other."""
    return b"".join(map(record_sha256, records))


def to_records(table: pa.Table, expected: Sequence[bytes]) -> Iterator[Record]:
    """Yield the records of a table. Raises BadRequest for one that no longer has its SHA-256."""
    metadata = table.column("metadata").to_pylist()
    dense = _bytes(table.column("values").combine_chunks()) if "values" in table.column_names else [None] * len(table)
    for row, (id, sparse) in enumerate(zip(table.column("id").to_pylist(), _sparse_of(table), strict=True)):
        record = Record(id, dense[row] or b"", sparse, orjson.loads(metadata[row] or b"{}"))
        if record_sha256(record) != expected[row]:
            raise BadRequest(f"the record {id!r} is not what was written: its digest differs")
        yield record


def _ids(records: Sequence[Record]) -> pa.Array:
    return pa.array([record.id for record in records], pa.string())


def _values(records: Sequence[Record]) -> pa.Array:
    return _lists((record.values or None for record in records), "<f4")


def _sparse(records: Sequence[Record]) -> pa.Array:
    indices = _lists((record.sparse.indices if record.sparse else None for record in records), "<u4")
    weights = _lists((record.sparse.values if record.sparse else None for record in records), "<f4")
    absent = pa.array([not record.sparse for record in records], pa.bool_())
    return pa.StructArray.from_arrays([indices, weights], fields=list(_SPARSE), mask=absent)


def _metadata(records: Sequence[Record]) -> pa.Array:
    texts = [orjson.dumps(dict(record.metadata)).decode() if record.metadata else None for record in records]
    return pa.array(texts, pa.string())


def _lists(parts: Iterable[bytes | None], dtype: str) -> pa.ListArray:
    """Return lists of numbers made of their bytes; None stays null."""
    held = list(parts)
    lengths = [len(part or b"") // FLOAT32_BYTES for part in held]
    flat = np.frombuffer(b"".join(part or b"" for part in held), dtype=dtype)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    absent = pa.array([part is None for part in held], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat), mask=absent)


def _sparse_of(table: pa.Table) -> Iterator[Sparse | None]:
    if "sparse_values" not in table.column_names:
        yield from [None] * len(table)
        return
    weights = table.column("sparse_values").combine_chunks()
    if "sparse_indices" in table.column_names:
        parts = [table.column("sparse_indices").combine_chunks(), weights]
    else:
        parts = weights.flatten()
    for indices, values in zip(*map(_bytes, parts), strict=True):
        yield Sparse(indices, values) if indices is not None and values is not None else None


def _bytes(array: pa.ListArray) -> list[bytes | None]:
    """Return the bytes of each list of numbers; null is None."""
    flat = memoryview(array.values.to_numpy(zero_copy_only=True)).cast("B")
    ends = (array.offsets.to_numpy() * FLOAT32_BYTES).tolist()
    present = array.is_valid().to_pylist()
    return [bytes(flat[ends[row] : ends[row + 1]]) if there else None for row, there in enumerate(present)]
