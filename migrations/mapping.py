"""A metadata map: set, drop, rename, copy and compose metadata keys on a record's way, and undo these changes. Pure.

The order is fixed. Renames, copies and templates read the record as its source holds it. Then dropped and renamed keys
leave. Then the values that were read, and those of `set`, are written. So the order of a map's lines decides nothing.
If a key that a rename, copy or template reads is missing, that line writes nothing.

If the map can be undone, each record carries a mark under `_vecfleet_map`: the digest of the map, and all that cannot
be read from the mapped record (`was`: values that were dropped or replaced; `gone`: keys that were not there). A record
that already carries the mark of the same map is not renamed, copied or composed again: only repeatable changes are
made.
"""

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

from vecfleet.enriching import Conflict, ConflictPolicy
from vecfleet.records import Metadata, MetadataValue
from vecfleet.structs import Struct

MARK = "_vecfleet_map"
Undo = Literal["travels", "none"]

PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]+)\}")
"""A doubled brace, which stands for itself, or a key in braces."""

_EXACT_INTEGER = 2**53
_DIGEST_CHARS = 12


@dataclass(frozen=True)
class MetadataMap:
    """The changes to metadata keys. `rename` and `copy` map old → new; `template` maps new → text with {keys}.

    `undo`: whether the record carries all that a way back needs.
    """

    __pydantic_config__ = {"extra": "forbid"}  # read from a plan file, which has no other fields

    set: dict[str, MetadataValue] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    rename: dict[str, str] = field(default_factory=dict)
    copy: dict[str, str] = field(default_factory=dict)
    template: dict[str, str] = field(default_factory=dict)
    undo: Undo = "travels"

    @property
    def travels(self) -> bool:
        return self.undo == "travels"

    @cached_property
    def digest(self) -> str:
        """A digest of the changes, the same whether or not the map can be undone."""
        body = asdict(self) | {"drop": sorted(self.drop), "undo": None}
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:_DIGEST_CHARS]

    @cached_property
    def removes(self) -> frozenset[str]:
        """The keys that may leave a record."""
        return frozenset({*self.drop, *self.rename})

    @cached_property
    def writes(self) -> frozenset[str]:
        """The keys that a record may get."""
        return frozenset({*self.set, *self.rename.values(), *self.copy.values(), *self.template})

    @cached_property
    def keys(self) -> frozenset[str]:
        return self.removes | self.writes | self.reads

    def applied(self, metadata: Metadata, conflicts: ConflictPolicy) -> Metadata | Conflict:
        """Return the mapped metadata, or the key that holds another value already.

        `set` replaces present values. Under `keep`, a rename, copy or template whose key is taken writes nothing.
        """
        again = self._note(metadata) is not None
        made, removed = self._changes(metadata, again=again)
        while blocked := self._blocked(metadata, made, removed):
            if conflicts == "fail":
                return Conflict(blocked[0])
            if conflicts == "overwrite":
                break
            for key in blocked:
                del made[key]
                removed -= {old for old, new in self.rename.items() if new == key} - {*self.drop}
        if not self.travels:
            return _with(metadata, made, removed | {MARK})  # an earlier map's mark may hold values that this map drops
        made[MARK] = self._remembered(metadata, made, removed, again=again)
        return _with(metadata, made, removed)

    def undone(self, metadata: Metadata) -> Metadata | None:
        """Return the metadata as they were before this map; None if they do not carry its mark.

        A key that somebody changed since keeps the newer value.
        """
        note = self._note(metadata)
        if note is None:
            return None
        again, was, gone = note.get("again") is True, note.get("was", {}), note.get("gone", ())
        there = {key: value for key, value in metadata.items() if key != MARK}
        back = self._led_back(there, again=again)
        for key in gone:
            back.pop(key, None)
        back |= was
        made, _ = self._changes(back, again=again)
        unmoved = {new for old, new in self.rename.items() if old in was or old in gone}
        for key in (self.writes - {*self.rename.values()} | {*self.drop} | unmoved) & there.keys():
            if not any(_equal(there[key], candidate) for candidate in (made.get(key), back.get(key))):
                back[key] = there[key]
        return back

    def fields(self, filterable: Mapping[str, Any], *, backward: bool = False) -> dict[str, Any]:
        """Return the filterable fields of a target, given those of its source. Keys that the map adds are included."""
        new = {"filterable": True}
        if backward:
            kept = {key: spec for key, spec in filterable.items() if key not in self.writes and key != MARK}
            renamed = {old: filterable[name] for old, name in self.rename.items() if name in filterable}
            return kept | dict.fromkeys(self.drop, new) | renamed
        kept = {key: spec for key, spec in filterable.items() if key not in self.removes}
        moved = {**self.rename, **self.copy}
        return (
            kept
            | {name: filterable[old] for old, name in moved.items() if old in filterable}
            | dict.fromkeys((*self.set, *self.template), new)
        )

    @cached_property
    def reads(self) -> frozenset[str]:
        """The keys whose values a rename, a copy or a template takes."""
        return frozenset({*self.rename, *self.copy, *(key for text in self.template.values() for key in keys_of(text))})

    def _changes(self, metadata: Metadata, *, again: bool) -> tuple[dict[str, MetadataValue], "frozenset[str]"]:
        """Return the values to write, and the keys that leave. `again`: only changes that may be repeated."""
        if again:
            dropped = {key for key in self.drop if key in metadata and key not in self.writes | self.reads}
            return dict(self.set), frozenset(dropped)
        read = {key: metadata[key] for key in self.reads if metadata.get(key) is not None}
        made = {new: read[old] for old, new in (*self.rename.items(), *self.copy.items()) if old in read}
        for new, template in self.template.items():
            if all(key in read for key in keys_of(template)):
                made[new] = filled(template, read)
        removed = {key for key in self.drop if key in metadata} | (self.rename.keys() & read.keys())
        return made | self.set, frozenset(removed)

    def _blocked(self, metadata: Metadata, made: Metadata, removed: Collection[str]) -> list[str]:
        """Return the keys to write, other than by `set`, that hold another value and do not leave."""
        return sorted(
            key
            for key in made.keys() - self.set.keys()
            if metadata.get(key) is not None and key not in removed and not _same(metadata[key], made[key])
        )

    def _remembered(self, metadata: Metadata, made: Metadata, removed: Collection[str], *, again: bool) -> str:
        """Return the mark, as JSON text: all that undoing the map needs beside the mapped record."""
        before = {key: metadata[key] for key in self.keys if metadata.get(key) is not None}
        after = {key: value for key, value in before.items() if key not in removed} | dict(made)
        back = self._led_back(after, again=again)
        was = {key: value for key, value in before.items() if key not in back or not _same(back[key], value)}
        if metadata.get(MARK) is not None:  # an earlier map's, kept inside ours
            was[MARK] = metadata[MARK]
        gone = sorted(back.keys() - before.keys())
        note = {"map": self.digest, "again": again, "was": was, "gone": gone}
        # json and not orjson: it keeps lone surrogates, NaN and integers of any size, which a source may hold.
        return json.dumps({key: value for key, value in note.items() if value}, sort_keys=True, separators=(",", ":"))

    def _led_back(self, fields: Metadata, *, again: bool) -> dict[str, MetadataValue]:
        """Return the likely record before the map: without the added keys, and with the renamed ones as they were."""
        if again:
            return {key: value for key, value in fields.items() if key not in self.set}
        added = self.writes - {*self.rename.values()}
        back = {key: value for key, value in fields.items() if key not in added}
        renamed = {old: back.pop(new) for old, new in self.rename.items() if new in back}
        return back | renamed

    def _note(self, metadata: Metadata) -> dict[str, Any] | None:
        """Return the parsed mark if it is this map's; else None."""
        text = metadata.get(MARK)
        if not isinstance(text, str) or self.digest not in text:
            return None
        try:
            note = json.loads(text)
        except ValueError:
            return None  # somebody else's key of the same name
        if not isinstance(note, dict) or note.get("map") != self.digest:
            return None
        sound = isinstance(note.get("was", {}), dict) and isinstance(note.get("gone", []), list)
        return note if sound else None


def keys_of(template: str) -> list[str]:
    """Return the keys that a template reads."""
    return [match[1] for match in PLACEHOLDER.finditer(template) if match[1]]


def filled(template: str, read: Metadata) -> str:
    return PLACEHOLDER.sub(lambda match: _as_text(read[match[1]]) if match[1] else match[0][0], template)


def _as_text(value: MetadataValue) -> str:
    """Return a value as a template writes it: the same text for 7 and 7.0, because a store may not tell them apart."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(value)
    whole = isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT_INTEGER
    return str(int(value)) if whole else str(value)


def _with(metadata: Metadata, made: Mapping[str, MetadataValue], removed: Collection[str]) -> Metadata:
    if isinstance(metadata, Struct):
        return metadata.with_fields({key: _as_float(value) for key, value in made.items()}, removed)
    return {key: value for key, value in metadata.items() if key not in removed} | dict(made)


def _as_float(value: MetadataValue) -> MetadataValue:
    return float(value) if type(value) is int else value


def _same(held: MetadataValue, value: MetadataValue) -> bool:
    """Say whether both are equal bit by bit and in kind. For Python 1.0 equals True, and 0.0 equals -0.0."""
    return type(held) is type(value) and held == value and (type(held) is not float or str(held) == str(value))


def _equal(there: MetadataValue, made: MetadataValue | None) -> bool:
    """Say whether a store's value is the written one. A store may keep an integer as a float."""
    numbers = (int, float)
    if type(there) in numbers and type(made) in numbers:
        return there == made
    return type(there) is type(made) and there == made
