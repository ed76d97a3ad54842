"""The files of one namespace. A part never changes: its name holds its place in the order, and a digest.

    part-0000000012-9f….parquet      later numbers win for an id that is in several

Their content has one of two forms: `tables`, or `lines` for a document index.

An id is in several parts only while a write has put it into a later one and not yet taken it out of the others. After
a crash in between, the repeated write does that. Writers take turns. Readers look at the list of files in between, and
look again if a file was replaced before they opened it.
"""

import re
import struct
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from vecfleet.errors import BadRequest, Unavailable
from vecfleet.records import Record
from vecfleet.stores.parquet import files
from vecfleet.stores.parquet.folders import DRAFT, NAMESPACE_FILE

T = TypeVar("T")

# By a process, of the files that it read last: a part never changes.
SPANS_KEPT = 100_000
ID_LISTS_KEPT = 256
# A draft this old belongs to a process that died.
_DRAFT_SECONDS = 3_600
_LOOKS = 50

_NAME = re.compile(r"part-(\d{10})-[0-9a-f-]{32,}(\.[a-z]+)")


@dataclass(frozen=True, slots=True)
class Span:
    """A part's first and last id, and its count. Its records are sorted by id."""

    first: str
    last: str
    records: int


class Form(Protocol):
    """The content of a part. Records have rows, by their ids' order."""

    @property
    def ending(self) -> str:
        """Return the end of a file's name."""

    def check(self, record: Record) -> None:
        """Raise BadRequest for a record that no file of this form can hold."""

    def write(self, records: Sequence[Record], draft: Path) -> str:
        """Write a file. Return the digest that its name tells."""

    def write_without(self, path: Path, rows: Collection[int], draft: Path) -> str | None:
        """Write a file again without these rows, and return its digest; None: no row is left, and nothing written."""

    def span(self, path: Path) -> Span: ...
    def ids(self, path: Path) -> tuple[str, ...]: ...
    def read(self, path: Path, rows: Sequence[int]) -> Iterator[Record]:
        """Yield the records of these rows. Raises BadRequest for what is not as it was written."""


@contextmanager
def sound(path: Path) -> Iterator[None]:
    """Raise BadRequest if what is read inside is not what a part holds."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, struct.error) as error:
        raise BadRequest(f"{path.name} is damaged, or another program wrote it") from error


def looking_again(call: Callable[[], T]) -> T:
    """Return the call's result once no file was replaced under it. Raises Unavailable if that never ends."""
    for _ in range(_LOOKS):
        with suppress(files.Replaced):
            return call()
    raise Unavailable("the files of this namespace are replaced faster than they can be read")


class Parts:
    """The parts in one folder. Every method may raise `files.Replaced`: see `looking_again`."""

    def __init__(self, folder: Path, form: Form) -> None:
        self._folder = folder
        self._form = form
        self._lock = folder / NAMESPACE_FILE

    def count(self) -> int:
        with files.translated(f"count the records in {self._folder.name}"):
            return sum(self._form.span(self._folder / name).records for name in self._names())

    def ids_after(self, after: str, limit: int, prefix: str) -> list[str]:
        """Return the first ids in byte order after this one that start with the prefix, each once."""
        ids: set[str] = set()
        with files.translated(f"list the ids in {self._folder.name}"):
            paths = [self._folder / name for name in self._names()]
            spans = sorted(((self._form.span(path), path) for path in paths), key=lambda entry: entry[0].first)
            for span, path in spans:
                if sum(id < span.first for id in ids) >= limit:
                    break  # whatever follows comes later
                if span.last > after and span.last >= prefix:
                    ids.update(id for id in self._form.ids(path) if id > after and id.startswith(prefix))
        return sorted(ids)[:limit]

    def read(self, ids: Collection[str]) -> dict[str, Record]:
        """Return the records with these ids that are there."""
        records: dict[str, Record] = {}
        missing = set(ids)
        with files.translated(f"read records from {self._folder.name}"):
            for name in reversed(self._names()):
                rows = self._rows(name, missing)
                if rows:
                    records |= {record.id: record for record in self._form.read(self._folder / name, rows)}
                    missing -= records.keys()
        return records

    def write(self, records: Sequence[Record]) -> int:
        """Add a part with these records, each once, and take them out of the others. Returns its number."""
        with files.translated(f"write {len(records):,} records into {self._folder.name}"):
            with files.draft_in(self._folder) as draft:
                digest = self._form.write(records, draft)
                with self._alone():
                    others = self._listed()
                    number = 1 + max(map(_number, others), default=0)
                    files.publish(draft, self._path(number, digest))
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
        with files.draft_in(self._folder) as draft:
            digest = self._form.write_without(path, without, draft)
            if digest is not None:
                files.publish(draft, self._path(_number(name), digest))
        path.unlink()
        files.sync_folder(self._folder)

    def _rows(self, name: str, ids: set[str]) -> list[int]:
        """Return the rows of a part that hold one of these ids."""
        span = self._form.span(self._folder / name)
        if not any(span.first <= id <= span.last for id in ids):
            return []
        return [row for row, id in enumerate(self._form.ids(self._folder / name)) if id in ids]

    def _names(self) -> list[str]:
        """Return the names of the parts, oldest first, while no writer changes them. An absent folder has none."""
        try:
            with files.locked(self._lock, exclusive=False):
                return self._listed()
        except FileNotFoundError:
            return []

    def _listed(self) -> list[str]:
        named = (_NAME.fullmatch(path.name) for path in self._folder.iterdir())
        return sorted(match[0] for match in named if match is not None and match[2] == self._form.ending)

    def _path(self, number: int, digest: str) -> Path:
        return self._folder / f"part-{number:010}-{digest}{self._form.ending}"

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock under which no other process writes here, and clear what a dead process left."""
        with files.locked(self._lock, exclusive=True):
            for draft in self._folder.glob(f"{DRAFT}*"):
                with suppress(FileNotFoundError):
                    if time.time() - draft.stat().st_mtime > _DRAFT_SECONDS:
                        draft.unlink()
            yield


def _number(name: str) -> int:
    match = _NAME.fullmatch(name)
    assert match is not None, "only parts are listed"
    return int(match[1])
