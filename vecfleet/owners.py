"""The owner of a record, by its own metadata, else by a look-up's answers. Pure, so the same on every read."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from vecfleet.records import Record

LOOKUP_KEY = "source_id"  # the metadata key by which a record names its source, unless a plan says otherwise


@dataclass(frozen=True, slots=True)
class Owner:
    """An owner: the creator, and the twin as it appears in namespace names (None: creator-wide)."""

    creator: str
    twin: str | None = None


@dataclass(frozen=True, slots=True)
class Ownership:
    """The look-up's answers, read once. Keys are twin ids, and source ids or record ids."""

    twins: Mapping[str, Owner] = field(default_factory=dict)
    sources: Mapping[str, Owner] = field(default_factory=dict)


Told = Literal["metadata", "twin", "source", "record"]


def owner_of(record: Record, ownership: Ownership, lookup_key: str = LOOKUP_KEY) -> tuple[Owner, Told] | None:
    """Return the owner and its source: the record's `creator_id`, or the look-up by its twin, its source or its id.

    None if nothing tells the owner.
    """
    creator, twin = _text(record, "creator_id"), _text(record, "twin_id")
    known = ownership.twins.get(twin) if twin is not None else None
    if creator is not None:
        # The look-up may know this twin under its name: the record joins the rest of its twin there.
        return (known if known is not None and known.creator == creator else Owner(creator, twin)), "metadata"
    if known is not None:
        return known, "twin"
    source = _text(record, lookup_key)
    if source is not None and source in ownership.sources:
        return ownership.sources[source], "source"
    by_id = ownership.sources.get(record.id)
    return (by_id, "record") if by_id is not None else None


def _text(record: Record, key: str) -> str | None:
    """Return an id as text. Databases with numeric keys left numbers, which the stores keep as floats."""
    value = record.metadata.get(key)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(int(value)) if math.isfinite(value) and value == int(value) else None
    return value if isinstance(value, str) and value else None
