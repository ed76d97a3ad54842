"""Document indexes: how a record stands in one, and which record cannot.

Each vector has a field of its own name, and metadata keys are fields beside it. Names that begin with an underscore are
the service's own: keys of such names stand under others, which the index's plan says (`IndexInfo.names`). Keys that we
add ourselves (`_vecfleet_…`) lose their underscore. Facts: Pinecone's create_index and upsert_documents pages.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

from vecfleet.errors import BadRequest
from vecfleet.records import FLOAT32_BYTES, Record
from vecfleet.stores import rules
from vecfleet.stores.base import IndexInfo

DENSE_TYPE = "dense_vector"
SPARSE_TYPE = "sparse_vector"
FULL_TEXT = "full_text_search"
EMBEDDINGS = ("embed", "sparse_embed")
"""The parts of a field whose text the service embeds."""

METADATA_BYTES = 40_000  # without the texts that are searched
TEXT_BYTES = 100_000
NAME_BYTES = 64
SPARSE_VALUES = 2_048
_ZERO = 1e-8
_SERVICE_MARKS = ("_", "$")
_OURS, _OURS_SPELLED = "_vecfleet_", "vecfleet_"


@dataclass(frozen=True)
class Layout:
    """The fields of a document index. `names`: metadata key → its name there, where that is another."""

    dense: str | None
    sparse: str | None
    texts: frozenset[str] = frozenset()
    dimension: int | None = None
    names: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, info: IndexInfo) -> Self | None:
        """Return the layout of a document index that holds vectors; None for any other."""
        fields: Mapping[str, Mapping[str, Any]] = info.schema.get("fields") or {}
        by_type = {described.get("type"): name for name, described in fields.items()}
        dense, sparse = by_type.get(DENSE_TYPE), by_type.get(SPARSE_TYPE)
        vectors = [name for name in (dense, sparse) if name is not None]
        if not vectors or any(name.startswith(_SERVICE_MARKS) for name in vectors):
            return None
        texts = frozenset(name for name, described in fields.items() if FULL_TEXT in described)
        return cls(dense, sparse, texts, info.dimension, info.names)

    @property
    def fields(self) -> tuple[str | None, str | None, frozenset[str]]:
        return self.dense, self.sparse, self.texts

    @property
    def scores_by_either(self) -> bool:
        """Say whether a search goes by dense or by sparse values: none goes by both."""
        return self.dense is not None and self.sparse is not None

    @property
    def metadata_bytes(self) -> int:
        """Return the most bytes of a record's metadata, searched texts among them."""
        return METADATA_BYTES + TEXT_BYTES * len(self.texts)

    def name_of(self, key: str) -> str:
        """Return the field that holds this metadata key."""
        named = self.names.get(key)
        if named is not None:
            return named
        return _OURS_SPELLED + key.removeprefix(_OURS) if key.startswith(_OURS) else key

    def key_of(self, name: str) -> str:
        """Return the metadata key that this field holds."""
        key = self._keys.get(name)
        if key is not None:
            return key
        return _OURS + name.removeprefix(_OURS_SPELLED) if name.startswith(_OURS_SPELLED) else name

    @cached_property
    def _keys(self) -> dict[str, str]:
        return {name: key for key, name in self.names.items()}

    def objection(self, record: Record) -> str | None:
        """Say why this record cannot stand in the index; None if it can. Names the metadata key, not the record."""
        try:
            return self._about_vectors(record) or self._about_metadata(record)
        except BadRequest as error:
            return error.message

    def objection_to_names(self) -> str | None:
        """Say why its fields or `names` cannot be: each name must be one that a field may have, and no other has."""
        vectors = [name for name in (self.dense, self.sparse) if name is not None]
        names = [*self.names.values()]
        reasons = [(name, _about_spelling(name)) for name in (*vectors, *self.texts)]
        reasons += [(name, self._about_name(name)) for name in names]
        reasons += [(name, "stands for another key already") for name in names if names.count(name) > 1]
        return next((f"the name {name!r} {why}" for name, why in reasons if why is not None), None)

    def _about_vectors(self, record: Record) -> str | None:
        rules.check_name("an id", record.id)
        entries = len(record.sparse) if record.sparse is not None else 0
        if self.dense is not None and not record.values:
            return f"it has no dense values, which the field {self.dense!r} requires"
        if self.dense is None and record.values:
            return "it has dense values, and the index has no field for them"
        if self.dimension is not None and record.values and len(record.values) != FLOAT32_BYTES * self.dimension:
            return f"it has {record.dimension} values, not {self.dimension}"
        if record.values and not _has_direction(record.values):
            return "all its dense values are zero"
        if entries and self.sparse is None:
            return "it has sparse values, and the index has no field for them"
        if not entries and not record.values:
            return f"it has no sparse values, and the index holds nothing else (field {self.sparse!r})"
        if entries > SPARSE_VALUES:
            return f"it has {entries:,} sparse values; a document holds {SPARSE_VALUES:,}"
        return None

    def _about_metadata(self, record: Record) -> str | None:
        others: dict[str, Any] = {}
        for key, value in record.metadata.items():
            if value is None:
                continue
            name = self.name_of(key)
            why = self._about_name(name) if name == key else None
            if why is None and name == key and self._keys.get(key, key) != key:
                why = "is the name that another key gets"
            if why is None:
                why = self._about_text(value) if name in self.texts else _about_value(value)
            if why is not None:
                return f"its metadata key {key!r} {why}"
            if name not in self.texts:
                others[name] = value
        size = rules.metadata_bytes(others)
        if size > METADATA_BYTES:
            return f"its metadata have {size:,} bytes; a document holds {METADATA_BYTES:,}"
        return None

    def _about_name(self, name: str) -> str | None:
        return "is the name of a field for vectors" if name in (self.dense, self.sparse) else _about_spelling(name)

    @staticmethod
    def _about_text(value: object) -> str | None:
        if not isinstance(value, str):
            return "is no text, and its field is searched as one"
        size = len(value.encode(errors="surrogatepass"))
        return f"has {size:,} bytes; a text that is searched has at most {TEXT_BYTES:,}" if size > TEXT_BYTES else None


def _has_direction(values: bytes) -> bool:
    """Say whether any value is more than what the service takes for zero. One that is not a number counts as more."""
    import numpy as np  # not above: commands that only name a layout would wait for it

    return not bool((np.abs(np.frombuffer(values, "<f4")) < _ZERO).all())


def _about_spelling(name: str) -> str | None:
    if not name:
        return "is empty"
    if name.startswith(_SERVICE_MARKS):
        return f"begins with {name[0]}, as only names of the service may"
    if name.startswith(_OURS_SPELLED):
        return f"begins with {_OURS_SPELLED}, as only keys that vecfleet adds may"
    size = len(name.encode(errors="surrogatepass"))
    return f"has {size} bytes; a name has at most {NAME_BYTES}" if size > NAME_BYTES else None


def _about_value(value: object) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return "is not a finite number"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return None
    if isinstance(value, str | bool | int | float):
        return None
    return "is neither text, number, true or false, nor a list of texts"
