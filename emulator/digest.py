"""A second opinion on a namespace's content; shares no code with the fleet's own digests."""

import hashlib
from collections.abc import Collection, Iterable

import orjson

from emulator.records import Record


def digest(records: Iterable[Record], ignore: Collection[str] = ()) -> tuple[int, str]:
    """Return the count, and the sum modulo 2^256 of each record's SHA-256 over id, values, sparse values, metadata."""
    count = total = 0
    for record in records:
        count += 1
        total += int.from_bytes(hashlib.sha256(_image(record, ignore)).digest(), "big")
    return count, f"{total % (1 << 256):064x}"


def _image(record: Record, ignore: Collection[str]) -> bytes:
    fields = {key: value for key, value in record.fields().items() if key not in ignore}
    parts = (
        record.id.encode(),
        record.values,
        record.sparse.indices if record.sparse else b"",
        record.sparse.weights if record.sparse else b"",
        orjson.dumps(fields, option=orjson.OPT_SORT_KEYS),
    )
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)
