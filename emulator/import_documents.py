"""The files of a bulk import into a document index: JSON lines, packed or not, each line a document as in an upsert."""

import gzip
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

from emulator.bodies import object_of_line
from emulator.documents import read_document
from emulator.import_files import BATCH_ROWS, Format, unreadable
from emulator.index import Index
from emulator.records import Record


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _count(_index: Index, path: Path) -> int:
    return sum(len(batch) for batch in _batches(path))


def _batches(path: Path) -> Iterator[list[bytes]]:
    """Yield the lines that are not empty."""
    try:
        with _open(path) as file:
            lines = (line for line in file if line.strip())
            while batch := list(islice(lines, BATCH_ROWS)):
                yield batch
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, "JSON lines", error) from None


def _row(index: Index, line: Any) -> Record:
    return read_document(index, object_of_line(line))[0]


JSON_LINES = Format("JSON lines", (".jsonl", ".jsonl.gz"), _count, _batches, _row)
