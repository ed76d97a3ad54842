"""Parquet as the form of a part. A fetch reads groups of rows, and ids alone where nothing else is asked for."""

import base64
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from vecfleet.errors import BadRequest
from vecfleet.records import Record
from vecfleet.stores.base import Kind
from vecfleet.stores.parquet import columns
from vecfleet.stores.parquet.parts import ID_LISTS_KEPT, SPANS_KEPT, Span, sound

# A fetch reads whole groups. They are small, because ids that are asked for together lie together.
GROUP_RECORDS = 100
# Text is compressed, by what every reader of Parquet knows; values are noise to a compressor.
_COMPRESSION = {"id": "snappy", "metadata": "snappy"}
# The records' SHA-256 stand in the file's own description, base64: in a column an import would refuse them.
_SHA256 = b"vecfleet.sha256"
_DIGEST = "digest"  # the column in which former versions kept them, in hexadecimal


class Tables:
    """Parquet files with the columns of an index of this kind; others may have those of a former version."""

    ending = ".parquet"

    def __init__(self, kind: Kind) -> None:
        self._schema = columns.schema(kind)

    def check(self, record: Record) -> None:
        """Take every record that the index takes."""

    def write(self, records: Sequence[Record], draft: Path) -> str:
        table = pa.table(columns.to_arrays(records, self._schema), schema=self._schema)
        _write(table, columns.digests(records), draft)
        return _mark(table)

    def write_without(self, path: Path, rows: Collection[int], draft: Path) -> str | None:
        with pq.ParquetFile(path) as file:
            table = file.read(use_threads=False)
            left = [row for row in range(table.num_rows) if row not in rows]
            digests = b"" if _DIGEST in table.column_names else b"".join(_digests(file, path.name, left))
        kept = table.take(pa.array(left, pa.int64()))
        if not kept.num_rows:
            return None
        _write(kept, digests, draft)
        return _mark(kept)

    def span(self, path: Path) -> Span:
        return _span(path)

    def ids(self, path: Path) -> tuple[str, ...]:
        return _ids(path)

    def read(self, path: Path, rows: Sequence[int]) -> Iterator[Record]:
        with sound(path), pq.ParquetFile(path) as file:
            groups = sorted({row // GROUP_RECORDS for row in rows})
            table = file.read_row_groups(groups, use_threads=False)
            starts = {group: place * GROUP_RECORDS for place, group in enumerate(groups)}
            table = table.take([starts[row // GROUP_RECORDS] + row % GROUP_RECORDS for row in rows])
            if _DIGEST in table.column_names:
                digests = [bytes.fromhex(text) for text in table.column(_DIGEST).to_pylist()]
            else:
                digests = _digests(file, path.name, rows)
            yield from columns.to_records(table, digests)


def _mark(table: pa.Table) -> str:
    """Return the digest of the ids: whatever became of a file of this name since, it holds these."""
    return xxhash.xxh3_128_hexdigest("\0".join(table.column("id").to_pylist()).encode())


def _write(table: pa.Table, digests: bytes, path: Path) -> None:
    """Write a part; without `digests` they are in its column."""
    plain = table.replace_schema_metadata(None)
    with pq.ParquetWriter(
        path, plain.schema, compression=_COMPRESSION, use_dictionary=False, write_statistics=["id"]
    ) as file:
        file.write_table(plain, row_group_size=GROUP_RECORDS)
        if digests:
            file.add_key_value_metadata({_SHA256: base64.b64encode(digests)})


def _digests(file: pq.ParquetFile, name: str, rows: Sequence[int]) -> list[bytes]:
    """Return the SHA-256 of these rows' records as they were written."""
    text = (file.metadata.metadata or {}).get(_SHA256)
    if text is None:
        raise BadRequest(f"{name} does not tell the digests of its records: another program wrote it")
    held = base64.b64decode(text)
    return [held[columns.SHA256_BYTES * row : columns.SHA256_BYTES * (row + 1)] for row in rows]


@lru_cache(maxsize=SPANS_KEPT)
def _span(path: Path) -> Span:
    with sound(path):
        metadata = pq.read_metadata(path)
        groups = [metadata.row_group(number).column(0).statistics for number in (0, metadata.num_row_groups - 1)]
        first, last = groups[0].min, groups[1].max
        if not (isinstance(first, str) and isinstance(last, str)):
            raise TypeError("no ids")
        return Span(first, last, metadata.num_rows)


@lru_cache(maxsize=ID_LISTS_KEPT)
def _ids(path: Path) -> tuple[str, ...]:
    with sound(path), pq.ParquetFile(path) as file:
        return tuple(file.read(columns=["id"], use_threads=False).column("id").to_pylist())
