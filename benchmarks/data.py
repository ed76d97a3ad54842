"""What is copied: unit vectors with 500 bytes of metadata, the same for the same seed."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import orjson

from benchmarks.fleet import Running
from vecfleet.records import MetadataValue, Record
from vecfleet.settings import Settings
from vecfleet.stores.base import IndexInfo, Kind
from vecfleet.stores.pinecone import PineconeStore

METADATA_BYTES = 500
NAMESPACES = 10
_WRITTEN_AT_ONCE = 40  # 1.6 MB of request at 3,072 dimensions
_WRITTEN_BYTES = 1_500_000


@dataclass(frozen=True, slots=True)
class Load:
    """So many records of so many dimensions, spread evenly over the namespaces of one index."""

    index: str
    dimension: int
    records: int
    seed: int

    @property
    def namespaces(self) -> dict[str, int]:
        share, rest = divmod(self.records, NAMESPACES)
        return {f"source-{number}": share + (number < rest) for number in range(NAMESPACES)}


def fill(settings: Settings, load: Load) -> IndexInfo:
    """Create the index and write its records."""
    store = PineconeStore(settings)
    fields = {"_values": {"type": "dense_vector", "dimension": load.dimension, "metric": "cosine"}}
    shape = IndexInfo(load.index, Kind.DENSE, load.dimension, "cosine", host="", schema={"fields": fields})
    info = store.create_like(load.index, shape, "aws", "us-east-1")
    index = store.open(info)
    for number, (namespace, count) in enumerate(load.namespaces.items()):
        rng = np.random.default_rng((load.seed, load.dimension, number))
        records = list(_records(rng, namespace, load.dimension, count))
        for start in range(0, count, _WRITTEN_AT_ONCE):
            index.upsert(namespace, records[start : start + _WRITTEN_AT_ONCE])
    return info


def fill_one(fleet: Running, index: str, records: int, dimension: int, text: str = "") -> None:
    """An index of one namespace, `twin`: random vectors, each with this text, or without metadata."""
    store = PineconeStore(fleet.settings)
    fields = {"_values": {"type": "dense_vector", "dimension": dimension, "metric": "cosine"}}
    wanted = IndexInfo(index, Kind.DENSE, dimension, "cosine", host="", schema={"fields": fields})
    opened = store.open(store.create_like(index, wanted, "aws", "us-east-1"))
    values = np.random.default_rng(7).standard_normal((min(records, 1_000), dimension)).astype("<f4")
    metadata: dict[str, MetadataValue] = {"text": text} if text else {}
    at_once = int(_WRITTEN_BYTES / (values.itemsize * dimension + len(text) + 100))
    for start in range(0, records, min(at_once, 1_000)):
        numbers = range(start, min(start + min(at_once, 1_000), records))
        opened.upsert("twin", [Record(f"r{n:07}", values[n % 1_000].tobytes(), metadata=metadata) for n in numbers])


def _records(rng: np.random.Generator, namespace: str, dimension: int, count: int) -> Iterator[Record]:
    values = rng.standard_normal((count, dimension)).astype("<f4")
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    letters = rng.integers(ord("a"), ord("z") + 1, (count, METADATA_BYTES), dtype=np.uint8)
    for number in range(count):
        yield Record(
            f"{namespace}-doc-{number // 10:05}#chunk-{number % 10}",
            values[number].tobytes(),
            metadata=_metadata(number, letters[number].tobytes().decode()),
        )


def _metadata(number: int, letters: str) -> dict[str, str | float | bool | list[str]]:
    metadata: dict[str, str | float | bool | list[str]] = {
        "source_id": f"document-{number // 10:05}",
        "page": float(number % 10),
        "reviewed": number % 3 == 0,
        "tags": ["benchmark", f"shelf-{number % 7}"],
        "text": "",
    }
    return metadata | {"text": letters[: METADATA_BYTES - len(orjson.dumps(metadata))]}
