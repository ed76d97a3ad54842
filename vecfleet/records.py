"""A record: id, values, sparse values, metadata. Values travel as float32 bytes, never as Python floats."""

from collections.abc import Mapping
from dataclasses import dataclass, field

MetadataValue = str | float | int | bool | list[str]
Metadata = Mapping[str, MetadataValue]

FLOAT32_BYTES = 4
UINT32_BYTES = 4


@dataclass(frozen=True, slots=True)
class Sparse:
    """Sparse values: `indices` little-endian uint32 bytes, `values` little-endian float32 bytes, the same count."""

    indices: bytes
    values: bytes

    def __len__(self) -> int:
        return len(self.indices) // UINT32_BYTES


@dataclass(frozen=True, slots=True)
class Record:
    """One vector with its id. `values` are little-endian float32 bytes (4 × dimension; empty for sparse-only records).

    `metadata` is read-only by agreement: to change it, make a new mapping (`with_metadata`).
    """

    id: str
    values: bytes
    sparse: Sparse | None = None
    metadata: Metadata = field(default_factory=dict)

    @property
    def dimension(self) -> int:
        return len(self.values) // FLOAT32_BYTES

    def with_metadata(self, metadata: Metadata) -> "Record":
        return Record(self.id, self.values, self.sparse, metadata)
