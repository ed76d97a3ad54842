"""A small world to plan in: indexes in memory, filled by name and number."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from vecfleet.records import Record
from vecfleet.stores.base import BulkImport, Conversion, IndexInfo, Kind
from vecfleet.stores.memory import MemoryIndex, MemoryStore

DIMENSION = 8
NOW = datetime(2026, 2, 11, 21, tzinfo=UTC)
SEEDS = {
    "__default__": 376,
    "eeeed554-9180-4229-a9af-0f8dd2c69e9b": 87,
    "d080d547-5aac-4a92-91b2-6d3ff728af4c": 73,
    "5698a809-87a5-4169-ab9b-c4a6222ae2dd": 68,
    "ad1eeace-26d1-4eff-9560-39643832d0f2": 47,
} | {f"00000000-0000-4000-8000-0000000000{number:02d}": 7 if number < 4 else 6 for number in range(25)}


class World(MemoryStore):
    """A store in which a line makes an index, and another fills a namespace.

    `imported`, `converted`: by the service, long ago.
    """

    imported: Sequence[BulkImport] = ()
    converted: Conversion | None = None

    def index(self, name: str, kind: Kind = Kind.DENSE, **other: Any) -> MemoryIndex:
        described: dict[str, Any] = {"dimension": DIMENSION, "metric": "cosine", "host": f"{name}.local"} | other
        return self.create(IndexInfo(name, kind, **{"cloud": "aws", "region": "us-east-1"} | described))

    def conversions(self) -> "World":
        return self

    def find(self, source: str, target: str) -> Conversion | None:
        return self.converted

    def imports(self, info: IndexInfo) -> "World":
        return self

    def of(self, uri: str) -> list[BulkImport]:
        return [begun for begun in self.imported if begun.uri == uri]

    def seeded(self, name: str = "digital-twin-brain") -> MemoryIndex:
        index = self.index(name)
        for namespace, count in SEEDS.items():
            fill(index, namespace, [f"{namespace[:8]}-{number:04d}" for number in range(count)])
        return index


def fill(
    index: MemoryIndex,
    namespace: str,
    ids: list[str],
    metadata: Mapping[str, Any] | None = None,
    schema: Mapping[str, Any] | None = None,
) -> None:
    if schema is not None:
        index.create_namespace(namespace, schema)
    values = np.arange(1, (index.info.dimension or DIMENSION) + 1, dtype="<f4").tobytes()
    index.upsert(namespace, [Record(id, values, metadata=dict(metadata or {"text": "hello"})) for id in ids])
