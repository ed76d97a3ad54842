"""Facts about the service on which its sources disagree, or are silent, as switches; the first value is in force."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

from emulator.errors import invalid

VALUES: dict[str, tuple[str, ...]] = {
    "undeclared_sparse": ("refuse", "accept"),
    "vector_fields": ("declared", "both"),
    "long_names": ("refuse", "accept"),
    "null_fields": ("drop", "refuse"),
    "filtered_fetch": ("finds", "finds-nothing"),
    "equal_vectors": ("keep", "drop"),
    "extra_columns": ("refuse", "ignore"),
    "converted_names": ("skip", "drop"),
    "converted_sparse": ("skip", "drop"),
}


@dataclass(frozen=True)
class Contested:
    undeclared_sparse: str = "refuse"  # sparse values for a dense dotproduct index declared with `_values` alone
    vector_fields: str = "declared"  # the fields that a dense vector index is described with, or both there are
    long_names: str = "refuse"  # names of over 64 bytes for the metadata of documents
    null_fields: str = "drop"  # null as the value of a document's field
    filtered_fetch: str = "finds"  # fetch by filter of documents that have a dense vector alone
    equal_vectors: str = "keep"  # an import of JSON lines and documents with equal vectors
    extra_columns: str = "refuse"  # columns of an import's Parquet files that the kind of index does not have
    converted_names: str = "skip"  # a conversion and a record with metadata under `_…`: without it, or without that key
    converted_sparse: str = "skip"  # a conversion and sparse values for which the schema has no field

    @classmethod
    def parse(cls, texts: Iterable[str]) -> "Contested":
        """Read switches of the form `long-names=accept`."""
        chosen: dict[str, str] = {}
        for text in texts:
            name, _, value = text.partition("=")
            key = name.replace("-", "_")
            if value not in VALUES.get(key, ()):
                raise invalid(f"'{text}' is no switch; there are {', '.join(switches())}")
            chosen[key] = value
        return cls(**chosen)


DEFAULTS = Contested()


def switches() -> list[str]:
    """Return the switches as they are typed, with their values."""
    return [f"{item.name.replace('_', '-')}={'|'.join(VALUES[item.name])}" for item in fields(Contested)]
