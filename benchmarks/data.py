"""The records to copy: unit vectors with metadata, the same for the same seed."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import httpx
import numpy as np
import orjson

from benchmarks.fleet import Running
from vecfleet import names
from vecfleet.records import FLOAT32_BYTES, MetadataValue, Record
from vecfleet.settings import Settings
from vecfleet.stores.base import Index, IndexInfo, Kind
from vecfleet.stores.pinecone import PineconeStore

SEED = 20_260_211
METADATA_BYTES = 500
_WRITTEN_BYTES = 1_500_000  # of a request's 2 MB
_WRITTEN_AT_ONCE = 1_000
# What the fleet adds to the metadata, and the loops that it is compared with.
_ENRICHED = "creator_id,twin_id,migrated_from"


@dataclass(frozen=True, slots=True)
class Load:
    """So many records of so many dimensions, spread evenly over the namespaces of one index; `metadata` in bytes of
    JSON, 0 for none.
    """

    index: str
    dimension: int
    records: int
    metadata: int = METADATA_BYTES
    spread: int = 10
    seed: int = SEED

    @property
    def namespaces(self) -> dict[str, int]:
        share, rest = divmod(self.records, self.spread)
        return {f"source-{number}": share + (number < rest) for number in range(self.spread)}


def fill(settings: Settings, load: Load) -> IndexInfo:
    """Create the index and write its records."""
    store = PineconeStore(settings)
    info = create(store, load.index, load.dimension)
    write(store.open(info), load)
    return info


def write(index: Index, load: Load, into: str | None = None) -> None:
    """Write the records: each to its namespace, or all into one."""
    at_once = min(_WRITTEN_AT_ONCE, _WRITTEN_BYTES // (FLOAT32_BYTES * load.dimension + load.metadata + 200))
    for namespace, count in load.namespaces.items():
        for start in range(0, count, at_once):
            numbers = range(start, min(start + at_once, count))
            index.upsert(into or namespace, list(records(load, namespace, numbers)))


def create(store: PineconeStore, index: str, dimension: int) -> IndexInfo:
    """An empty index of dense vectors."""
    fields = {"_values": {"type": "dense_vector", "dimension": dimension, "metric": "cosine"}}
    shape = IndexInfo(index, Kind.DENSE, dimension, "cosine", host="", schema={"fields": fields})
    return store.create_like(index, shape, "aws", "us-east-1")


def require_byte_equal(settings: Settings, load: Load, creator: str, sources: Sequence[str]) -> None:
    """Raises ValueError where a creator's copy does not hold what its source does, the enriched keys apart. It is the
    emulator that says so, with code of its own.
    """
    answer = httpx.get(
        f"{settings.pinecone_controller_host}/_emulator/digest",
        params={"index": load.index, "ignore": _ENRICHED},
        timeout=60,
    ).raise_for_status()
    digests = answer.json()["namespaces"]
    for source in sources:
        copy = names.build(creator, source)
        if digests[source] != digests[copy] or digests[copy]["count"] != load.namespaces[source]:
            raise ValueError(f"{copy} is not byte-equal to {source}")


def fill_one(fleet: Running, index: str, records: int, dimension: int, text: str = "") -> None:
    """An index of one namespace, `twin`: random vectors, each with this text, or without metadata."""
    store = PineconeStore(fleet.settings)
    opened = store.open(create(store, index, dimension))
    values = np.random.default_rng(7).standard_normal((min(records, 1_000), dimension)).astype("<f4")
    metadata: dict[str, MetadataValue] = {"text": text} if text else {}
    at_once = int(_WRITTEN_BYTES / (values.itemsize * dimension + len(text) + 100))
    for start in range(0, records, min(at_once, 1_000)):
        numbers = range(start, min(start + min(at_once, 1_000), records))
        opened.upsert("twin", [Record(f"r{n:07}", values[n % 1_000].tobytes(), metadata=metadata) for n in numbers])


def records(load: Load, namespace: str, numbers: range) -> Iterator[Record]:
    """Return the records of a namespace with these numbers: the same each time they are asked for together."""
    rng = np.random.default_rng((load.seed, load.dimension, zlib.crc32(namespace.encode()), numbers.start))
    values = rng.standard_normal((len(numbers), load.dimension)).astype("<f4")
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    letters = rng.integers(ord("a"), ord("z") + 1, (len(numbers), load.metadata), dtype=np.uint8)
    for place, number in enumerate(numbers):
        yield Record(
            f"{namespace}-doc-{number // 10:05}#chunk-{number % 10}",
            values[place].tobytes(),
            metadata=_metadata(number, letters[place].tobytes().decode()) if load.metadata else {},
        )


def _metadata(number: int, letters: str) -> dict[str, MetadataValue]:
    """As many bytes of JSON as there are letters."""
    metadata: dict[str, MetadataValue] = {
        "source_id": f"document-{number // 10:05}",
        "page": float(number % 10),
        "reviewed": number % 3 == 0,
        "tags": ["benchmark", f"shelf-{number % 7}"],
        "text": "",
    }
    return metadata | {"text": letters[: len(letters) - len(orjson.dumps(metadata))]}
