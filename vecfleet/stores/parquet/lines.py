"""JSON lines as the form of a part: one document a line, as the service's own import into a document index takes it.

A line has no room for its record's digest, which an import would store as metadata. So the file's name tells its
SHA-256, after the numbers of its lines and bytes, and a file that is not what its name says is refused whole.
"""

import hashlib
import mmap
import re
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import orjson

from vecfleet.errors import BadRequest
from vecfleet.records import Record
from vecfleet.stores import document_text
from vecfleet.stores.documents import Layout
from vecfleet.stores.parquet.parts import ID_LISTS_KEPT, SPANS_KEPT, Span, sound

_MARK = re.compile(r"-(\d+)-(\d+)-([0-9a-f]{64})\.")
_DOCUMENT = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Lines:
    """Files with a line for each record, laid out as the documents of an index."""

    ending = ".jsonl"

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def check(self, record: Record) -> None:
        document_text.check(self._layout, record)

    def write(self, records: Sequence[Record], draft: Path) -> str:
        return _write([document_text.write(self._layout, record) for record in records], draft)

    def write_without(self, path: Path, rows: Collection[int], draft: Path) -> str | None:
        kept = [line for row, line in enumerate(_lines(path)) if row not in rows]
        return _write(kept, draft) if kept else None

    def span(self, path: Path) -> Span:
        return _span(path)

    def ids(self, path: Path) -> tuple[str, ...]:
        return _ids(path)

    def read(self, path: Path, rows: Sequence[int]) -> Iterator[Record]:
        with sound(path):
            lines = _lines(path)
            for row in rows:
                fields = _DOCUMENT.decode(lines[row])
                yield document_text.read(self._layout, _id_in(fields), fields)


def _write(lines: Sequence[bytes], draft: Path) -> str:
    body = b"".join(line + b"\n" for line in lines)
    draft.write_bytes(body)
    return f"{len(lines)}-{len(body)}-{hashlib.sha256(body).hexdigest()}"


def _lines(path: Path) -> list[bytes]:
    body = path.read_bytes()
    if hashlib.sha256(body).hexdigest() != _told(path)[2]:
        raise BadRequest(f"{path.name} is not what was written: its digest differs")
    return body.splitlines()


def _told(path: Path) -> tuple[int, int, str]:
    """Return the number of lines, that of bytes and the SHA-256 that the file's name tells."""
    match = _MARK.search(path.name)
    if match is None:
        raise BadRequest(f"the name of {path.name} does not tell its digest: another program wrote it")
    return int(match[1]), int(match[2]), match[3]


def _id_in(fields: dict[str, Any]) -> str:
    return str(orjson.loads(memoryview(fields[document_text.ID])))


def _id_of(line: bytes) -> str:
    return _id_in(_DOCUMENT.decode(line))


@lru_cache(maxsize=SPANS_KEPT)
def _span(path: Path) -> Span:
    """Return it by the first line and the last: whoever looks for a few ids reads no whole files."""
    records, size, _ = _told(path)
    with sound(path), path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as body:
        if len(body) != size:
            raise ValueError("cut short")
        last = body.rfind(b"\n", 0, size - 1) + 1
        return Span(_id_of(body[: body.find(b"\n")]), _id_of(body[last:]), records)


@lru_cache(maxsize=ID_LISTS_KEPT)
def _ids(path: Path) -> tuple[str, ...]:
    with sound(path):
        return tuple(map(_id_of, _lines(path)))
