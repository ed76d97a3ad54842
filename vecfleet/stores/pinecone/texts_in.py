"""An index that embeds texts itself, as the target of a plan: texts are sent, and records are compared without vectors.

The vector of a record is the service's, which made it of the text. So a record is here what its id and its metadata
are; its text is among them, in the field that the index embeds. Writing a record again has its text embedded again.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson

from vecfleet.errors import BadRequest
from vecfleet.names import canonical
from vecfleet.records import FLOAT32_BYTES, Record
from vecfleet.stores import rules
from vecfleet.stores.base import Fetched, Usage, Written
from vecfleet.stores.pinecone.errors import translated
from vecfleet.stores.pinecone.index import PineconeIndex

TEXTS_PER_REQUEST = 96  # the service's limit
_ID = "_id"
_LINE_BYTES = len('"_id":,\n')


class TextIndex(PineconeIndex):
    """One such index."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.limits = replace(self.limits, upsert_records=TEXTS_PER_REQUEST)

    def fetch(self, namespace: str, ids: Sequence[str]) -> Fetched:
        fetched = super().fetch(namespace, ids)
        return replace(fetched, records={id: _bare(record) for id, record in fetched.records.items()})

    def upsert(self, namespace: str, records: Sequence[Record]) -> Written:
        if not records:
            return Written(0)
        doing = f"upsert texts into {namespace!r}"
        self._check_count(doing, len(records), self.limits.upsert_records)
        lines = list(map(_line, records))
        self._check_size(doing, sum(map(self.request_bytes, records)))
        with translated(doing):
            self._client.get().upsert_records(namespace=canonical(namespace), records=lines)
        vectors = FLOAT32_BYTES * (self.info.dimension or 0) * len(records)
        units = rules.write_units(vectors + sum(rules.billed_bytes(_bare(record)) for record in records))
        return Written(len(records), usage=Usage(requests=1, write_units=units))

    def request_bytes(self, record: Record) -> int:
        return len(orjson.dumps(record.id)) + rules.metadata_bytes(record.metadata) + _LINE_BYTES

    def normalise(self, record: Record) -> Record:
        return _bare(super().normalise(record))


def _line(record: Record) -> dict[str, Any]:
    if _ID in record.metadata:
        raise BadRequest(f"the record {record.id!r} has a metadata key {_ID!r}, where a text has its id")
    return {**record.metadata, _ID: record.id}


def _bare(record: Record) -> Record:
    return Record(record.id, b"", None, record.metadata)
