"""Fields added to a record's metadata on its way, and their removal. Pure, and reversible.

`migrated_from` is always added; `creator_id` and `twin_id` if the owner is known; `needs_review` for orphans sent to
review. If one of these keys was there before, its old value travels along in `_vecfleet_prev` (a JSON object as text),
so that the way back needs nothing else. `migrated_from` marks such a record, because every policy sets it anew. The
fleet and an application that writes to both sides share this form.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from vecfleet.owners import Owner
from vecfleet.records import Metadata, MetadataValue
from vecfleet.structs import Struct

PREVIOUS = "_vecfleet_prev"
SOURCE = "migrated_from"
OWNER_KEYS = frozenset({"creator_id", "twin_id", "needs_review"})

HELD_ALREADY = "already holds another value"
"""The end of the reason for every record that a plan's policy about conflicts parks."""

ConflictPolicy = Literal["fail", "keep", "overwrite"]


@dataclass(frozen=True, slots=True)
class Conflict:
    """An enriched key already holds something else, and the plan says not to touch it."""

    key: str

    @property
    def reason(self) -> str:
        return f"its metadata key {self.key!r} {HELD_ALREADY}"


def additions(source: str, owner: Owner | None, *, needs_review: bool = False) -> Mapping[str, str | bool]:
    """Return the fields to add to the records of `source`, given their owner."""
    added: dict[str, str | bool] = {SOURCE: source}
    if owner is not None:
        added["creator_id"] = owner.creator
        if owner.twin is not None:
            added["twin_id"] = owner.twin
    if needs_review:
        added["needs_review"] = True
    return added


def enriched(metadata: Metadata, added: Mapping[str, str | bool], policy: ConflictPolicy) -> Metadata | Conflict:
    """Return the metadata as the target should hold it, or the conflicting key.

    With policy `keep`, a key that holds another value stays as it is; with `overwrite`, the old value is remembered.
    `migrated_from` is always overwritten and remembered: a record with another origin in it could not go back.
    """
    changed: dict[str, str | bool] = {}
    previous: dict[str, MetadataValue] = {}
    for key, value in added.items():
        if key in metadata:
            held = metadata[key]
            if key != SOURCE and not _same(held, value):
                if policy == "fail":
                    return Conflict(key)
                if policy == "keep":
                    continue
            previous[key] = held
        changed[key] = value
    if PREVIOUS in metadata:  # an earlier migration's: kept inside ours, or undoing would mistake it for ours
        previous[PREVIOUS] = metadata[PREVIOUS]
    if previous:
        # json and not orjson: it keeps lone surrogates, NaN and integers of any size, which a source may hold.
        changed[PREVIOUS] = json.dumps(previous, sort_keys=True, separators=(",", ":"))
    return metadata.with_fields(changed) if isinstance(metadata, Struct) else {**metadata, **changed}


def restored(metadata: Metadata, added: Metadata) -> Metadata:
    """Return the metadata as it was. Only keys that still hold the value from `enriched` are changed."""
    fields: dict[str, MetadataValue] = dict(metadata)
    previous = _previous(fields)
    for key, value in added.items():
        if key not in fields or not _same(fields[key], value):
            continue
        if key in previous:
            fields[key] = previous[key]
        else:
            del fields[key]
    if previous:
        if PREVIOUS in previous:
            fields[PREVIOUS] = previous[PREVIOUS]
        else:
            del fields[PREVIOUS]
    return fields


def _same(held: MetadataValue, value: MetadataValue) -> bool:
    """Say whether both are equal in kind too: to Python 1.0 equals True."""
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
