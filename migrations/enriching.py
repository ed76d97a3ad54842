"""What is added to a record's metadata on its way, and how it is taken off again. Pure, and reversible.

`migrated_from` always; `creator_id` and `twin_id` where the owner is known; `needs_review` for orphans sent to review.
Where one of these keys was there before, its old value travels along in `_vecfleet_prev` (a JSON object as text), so
that the way back needs no other memory.
"""

import json
from dataclasses import dataclass
from typing import Literal

from migrations.routing import Routed
from vecfleet.records import Metadata, MetadataValue, Record

PREVIOUS = "_vecfleet_prev"

ConflictPolicy = Literal["fail", "keep", "overwrite"]


@dataclass(frozen=True, slots=True)
class Conflict:
    """An enriched key already holds something else, and the plan says not to touch it."""

    key: str

    @property
    def reason(self) -> str:
        return f"its metadata key {self.key!r} already holds another value"


def enrich(record: Record, source: str, routed: Routed, policy: ConflictPolicy) -> Record | Conflict:
    """The record as the target should hold it, or the key that stands in the way.

    With policy `keep`, a key that holds something else stays as it is; with `overwrite`, the old value is remembered.
    """
    metadata: dict[str, MetadataValue] = dict(record.metadata)
    previous: dict[str, MetadataValue] = {}
    for key, value in _added(source, routed).items():
        if key in metadata:
            held = metadata[key]
            if not _same(held, value) and policy == "fail":
                return Conflict(key)
            if not _same(held, value) and policy == "keep":
                continue
            previous[key] = held
        metadata[key] = value
    if PREVIOUS in metadata:  # an earlier migration's: remembered inside ours, or undoing would take it for ours
        previous[PREVIOUS] = metadata[PREVIOUS]
    if previous:
        # json and not orjson: it keeps lone surrogates, NaN and integers of any size, which a source may hold.
        metadata[PREVIOUS] = json.dumps(previous, sort_keys=True, separators=(",", ":"))
    return record.with_metadata(metadata)


def restore(record: Record, source: str, routed: Routed) -> Record:
    """The record as it was: touches only keys that still hold what `enrich` put there."""
    metadata: dict[str, MetadataValue] = dict(record.metadata)
    previous = _previous(metadata)
    for key, value in _added(source, routed).items():
        if key not in metadata or not _same(metadata[key], value):
            continue
        if key in previous:
            metadata[key] = previous[key]
        else:
            del metadata[key]
    if previous:
        if PREVIOUS in previous:
            metadata[PREVIOUS] = previous[PREVIOUS]
        else:
            del metadata[PREVIOUS]
    return record.with_metadata(metadata)


def _added(source: str, routed: Routed) -> dict[str, MetadataValue]:
    added: dict[str, MetadataValue] = {"migrated_from": source}
    if routed.owner is not None:
        added["creator_id"] = routed.owner.creator
        if routed.owner.twin is not None:
            added["twin_id"] = routed.owner.twin
    if routed.needs_review:
        added["needs_review"] = True
    return added


def _same(held: MetadataValue, value: MetadataValue) -> bool:
    """Equal in kind too: to Python 1.0 equals True."""
    return type(held) is type(value) and held == value


def _previous(metadata: Metadata) -> dict[str, MetadataValue]:
    text = metadata.get(PREVIOUS)
    if not isinstance(text, str):
        return {}
    try:
        held = json.loads(text)
    except ValueError:
        return {}  # somebody else's key of the same name: not ours to undo
    return held if isinstance(held, dict) else {}
