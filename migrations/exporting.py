"""A sample of records as a Parquet file, to look at elsewhere. Values stay float32."""

from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from migrations.auditing import sample_records
from migrations.reading import Reader
from vecfleet.drafts import Draft
from vecfleet.records import Record
from vecfleet.stores.base import Kind
from vecfleet.stores.parquet import columns

GROUP_RECORDS = 500

RECORD = columns.schema(Kind.HYBRID)
SCHEMA = pa.schema([pa.field("namespace", pa.string(), nullable=False), *RECORD])


def export_sample(reader: Reader, number: int, path: Path) -> int:
    """Write up to `number` records from all namespaces to a new Parquet file. Return how many.

    The file is written completely or not at all. Raises BadInput if nothing can be written there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    records = sample_records(reader, number)
    with Draft(path) as draft:
        with pq.ParquetWriter(draft.path, SCHEMA) as file:
            while group := list(islice(records, GROUP_RECORDS)):
                file.write_batch(_batch(group))
                written += len(group)
        draft.publish()
    return written


def _batch(group: list[tuple[str, Record]]) -> pa.RecordBatch:
    namespaces = pa.array([namespace for namespace, _ in group], pa.string())
    return pa.record_batch([namespaces, *columns.to_arrays([record for _, record in group], RECORD)], schema=SCHEMA)
