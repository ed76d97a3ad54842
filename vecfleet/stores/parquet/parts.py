"""The files of one namespace. A part never changes: its name holds its place in the order, and the digest of its ids.

    part-0000000012-9f….parquet      later numbers win for an id that is in several

An id is in several parts only while a write has put it into a later one and not yet taken it out of the others. After
a crash in between, the repeated write does that. Writers take turns. Readers look at the list of files in between, and
look again if a file was replaced before they opened it.
"""

import base64
import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from vecfleet.errors import BadRequest, Unavailable
from vecfleet.records import Record
from vecfleet.stores.parquet import columns, files
from vecfleet.stores.parquet.folders import DRAFT, NAMESPACE_FILE

T = TypeVar("T")

# A fetch reads whole groups. They are small, because ids that are asked for together lie together.
GROUP_RECORDS = 100
# Text is compressed, by what every reader of Parquet knows; values are noise to a compressor.
_COMPRESSION = {"id": "snappy", "metadata": "snappy"}
# The records' SHA-256 stand in the file's own description, base64: in a column an import would refuse them.
_SHA256 = b"vecfleet.sha256"
_DIGEST = "digest"  # the column in which former versions kept them, in hexadecimal
# A draft this old belongs to a process that died.
_DRAFT_SECONDS = 3_600
_LOOKS = 50
_SPANS_KEPT = 100_000
_ID_LISTS_KEPT = 256

_NAME = re.compile(r"part-(\d{10})-[0-9a-f]{32}\.parquet")


@dataclass(frozen=True, slots=True)
class Span:
    """A part's first and last id, and its count. Its records are sorted by id."""

    first: str
    last: str
    records: int


def looking_again(call: Callable[[], T]) -> T:
    """Return the call's result once no file was replaced under it. Raises Unavailable if that never ends."""
    for _ in range(_LOOKS):
        with suppress(files.Replaced):
            return call()
    raise Unavailable("the files of this namespace are replaced faster than they can be read")


class Parts:
    """The parts in one folder. Every method may raise `files.Replaced`: see `looking_again`."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        """`schema`: the columns of a new part; other parts may have those of a former version."""
        self._folder = folder
        self._schema = schema
        self._lock = folder / NAMESPACE_FILE

    def count(self) -> int:
        with files.translated(f"count the records in {self._folder.name}"):
            return sum(_span(self._folder / name).records for name in self._names())

    def ids_after(self, after: str, limit: int, prefix: str) -> list[str]:
        """Return the first ids in byte order after this one that start with the prefix, each once."""
        ids: set[str] = set()
        with files.translated(f"list the ids in {self._folder.name}"):
            spans = sorted(
                ((_span(self._folder / name), name) for name in self._names()), key=lambda entry: entry[0].first
            )
            for span, name in spans:
                if sum(id < span.first for id in ids) >= limit:
                    break  # whatever follows comes later
                if span.last > after and span.last >= prefix:
                    ids.update(id for id in _ids(self._folder / name) if id > after and id.startswith(prefix))
        return sorted(ids)[:limit]

    def read(self, ids: Collection[str]) -> dict[str, Record]:
        """Return the records with these ids that are there."""
        records: dict[str, Record] = {}
        missing = set(ids)
        with files.translated(f"read records from {self._folder.name}"):
            for name in reversed(self._names()):
                rows = self._rows(name, missing)
                records |= {record.id: record for record in _read(self._folder / name, rows)}
                missing -= records.keys()
        return records

    def write(self, records: Sequence[Record]) -> int:
        """Add a part with these records, each once, and take them out of the others. Returns its number."""
        with files.translated(f"write {len(records):,} records into {self._folder.name}"):
            with files.draft_in(self._folder) as draft:
                table = pa.table(columns.to_arrays(records, self._schema), schema=self._schema)
                _write(table, columns.digests(records), draft)
                with self._alone():
                    others = self._listed()
                    number = 1 + max(map(_number, others), default=0)
                    files.publish(draft, self._folder / _name(number, table))
                    self._take_out({record.id for record in records}, others)
            return number

    def remove(self, ids: Collection[str]) -> None:
        """Take these ids out of every part."""
        with files.translated(f"delete {len(ids):,} records from {self._folder.name}"), self._alone():
            self._take_out(set(ids), self._listed())

    def _take_out(self, ids: set[str], names: Sequence[str]) -> None:
        """Take ids out, oldest part first: cut short at any point, no older record of an id comes to light again."""
        for name in names:
            rows = self._rows(name, ids)
            if rows:
                self._replace(name, set(rows))

    def _replace(self, name: str, without: set[int]) -> None:
        path = self._folder / name
        with pq.ParquetFile(path) as file:
            table = file.read(use_threads=False)
            rows = [row for row in range(table.num_rows) if row not in without]
            digests = b"" if _DIGEST in table.column_names else b"".join(_digests(file, name, rows))
        kept = table.take(pa.array(rows, pa.int64()))
        if kept.num_rows:
            with files.draft_in(self._folder) as draft:
                _write(kept, digests, draft)
                files.publish(draft, self._folder / _name(_number(name), kept))
        path.unlink()
        files.sync_folder(self._folder)

    def _rows(self, name: str, ids: set[str]) -> list[int]:
        """Return the rows of a part that hold one of these ids."""
        span = _span(self._folder / name)
        if not any(span.first <= id <= span.last for id in ids):
            return []
        return [row for row, id in enumerate(_ids(self._folder / name)) if id in ids]

    def _names(self) -> list[str]:
        """Return the names of the parts, oldest first, while no writer changes them. An absent folder has none."""
        try:
            with files.locked(self._lock, exclusive=False):
                return self._listed()
        except FileNotFoundError:
            return []

    def _listed(self) -> list[str]:
        return sorted(path.name for path in self._folder.iterdir() if _NAME.fullmatch(path.name))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock under which no other process writes here, and clear what a dead process left."""
        with files.locked(self._lock, exclusive=True):
            for draft in self._folder.glob(f"{DRAFT}*"):
                with suppress(FileNotFoundError):
                    if time.time() - draft.stat().st_mtime > _DRAFT_SECONDS:
                        draft.unlink()
            yield


def _name(number: int, table: pa.Table) -> str:
    ids = "\0".join(table.column("id").to_pylist()).encode()
    return f"part-{number:010}-{xxhash.xxh3_128_hexdigest(ids)}.parquet"


def _number(name: str) -> int:
    match = _NAME.fullmatch(name)
    assert match is not None, "only parts are listed"
    return int(match[1])


def _write(table: pa.Table, digests: bytes, path: Path) -> None:
    """Write a part; without `digests` they are in its column."""
    plain = table.replace_schema_metadata(None)
    with pq.ParquetWriter(
        path, plain.schema, compression=_COMPRESSION, use_dictionary=False, write_statistics=["id"]
    ) as file:
        file.write_table(plain, row_group_size=GROUP_RECORDS)
        if digests:
            file.add_key_value_metadata({_SHA256: base64.b64encode(digests)})


@contextmanager
def _sound(path: Path) -> Iterator[None]:
    """Raise BadRequest if what is read inside is not what a part holds."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise BadRequest(f"{path.name} is damaged, or another program wrote it") from error


def _read(path: Path, rows: Sequence[int]) -> Iterator[Record]:
    if not rows:
        return
    with _sound(path), pq.ParquetFile(path) as file:
        groups = sorted({row // GROUP_RECORDS for row in rows})
        table = file.read_row_groups(groups, use_threads=False)
        starts = {group: place * GROUP_RECORDS for place, group in enumerate(groups)}
        table = table.take([starts[row // GROUP_RECORDS] + row % GROUP_RECORDS for row in rows])
        if _DIGEST in table.column_names:
            digests = [bytes.fromhex(text) for text in table.column(_DIGEST).to_pylist()]
        else:
            digests = _digests(file, path.name, rows)
        yield from columns.to_records(table, digests)


def _digests(file: pq.ParquetFile, name: str, rows: Sequence[int]) -> list[bytes]:
    """Return the SHA-256 of these rows' records as they were written."""
    text = (file.metadata.metadata or {}).get(_SHA256)
    if text is None:
        raise BadRequest(f"{name} does not tell the digests of its records: another program wrote it")
    held = base64.b64decode(text)
    return [held[columns.SHA256_BYTES * row : columns.SHA256_BYTES * (row + 1)] for row in rows]


# A name holds the digest of the ids: whatever became of the file since, a file of this name holds these ids.
@lru_cache(maxsize=_SPANS_KEPT)
def _span(path: Path) -> Span:
    with _sound(path):
        metadata = pq.read_metadata(path)
        groups = [metadata.row_group(number).column(0).statistics for number in (0, metadata.num_row_groups - 1)]
        first, last = groups[0].min, groups[1].max
        if not (isinstance(first, str) and isinstance(last, str)):
            raise TypeError("no ids")
        return Span(first, last, metadata.num_rows)


@lru_cache(maxsize=_ID_LISTS_KEPT)
def _ids(path: Path) -> tuple[str, ...]:
    with _sound(path), pq.ParquetFile(path) as file:
        return tuple(file.read(columns=["id"], use_threads=False).column("id").to_pylist())
