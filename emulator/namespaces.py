"""One namespace: its records, their byte order, and the older states that lagging readers still see."""

import math
import time
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from emulator.errors import invalid
from emulator.records import Record


class Change(NamedTuple):
    at: float  # time.monotonic()
    lsn: int
    id: str
    before: Record | None


class Page(NamedTuple):
    ids: list[str]
    more: bool


class Namespace:
    def __init__(self, name: str, filterable: frozenset[str] | None = None, lsn: int = 0) -> None:
        self.name = name
        self.filterable = filterable  # None: every field
        self.lsn = lsn
        self.dropped_at = math.inf  # time.monotonic()
        self.records: dict[str, Record] = {}
        self.size_bytes = 0  # as billed; updated with each write, so that describing a large namespace costs nothing
        self._order: list[str] | None = []
        self._changes: deque[Change] = deque()

    def load(self, record: Record) -> None:
        """Put back a record that was kept; this is no write."""
        self._store(record, self.records.get(record.id))

    def put(self, records: Iterable[Record], remember_s: float) -> None:
        """Store records as one write. Readers may lag by `remember_s`, so the state before is kept that long."""
        self._begin(remember_s)
        for record in records:
            before = self.records.get(record.id)
            if remember_s:
                self._changes.append(Change(time.monotonic(), self.lsn, record.id, before))
            self._store(record, before)

    def remove(self, ids: Iterable[str], remember_s: float) -> None:
        """Remove records as one write; ids that are not there do not matter."""
        self._begin(remember_s)
        for id in ids:
            before = self.records.pop(id, None)
            if before is not None:
                self._order = None
                self.size_bytes -= before.billed_bytes()
                if remember_s:
                    self._changes.append(Change(time.monotonic(), self.lsn, id, before))

    def _store(self, record: Record, before: Record | None) -> None:
        if before is None:
            self._order = None
        else:
            self.size_bytes -= before.billed_bytes()
        self.size_bytes += record.billed_bytes()
        self.records[record.id] = record

    def _begin(self, remember_s: float) -> None:
        self.lsn += 1
        horizon = time.monotonic() - remember_s
        while self._changes and self._changes[0].at < horizon:
            self._changes.popleft()

    def seen(self, lag_s: float) -> Mapping[str, Record]:
        """Return the records as they were `lag_s` ago."""
        hidden = self._hidden(lag_s)
        if not hidden:
            return self.records
        view = dict(self.records)
        for change in reversed(hidden):
            if change.before is None:
                view.pop(change.id, None)
            else:
                view[change.id] = change.before
        return view

    def seen_lsn(self, lag_s: float) -> int:
        """Return the newest write that a reader with this lag has seen whole."""
        hidden = self._hidden(lag_s)
        return hidden[0].lsn - 1 if hidden else self.lsn

    def _hidden(self, lag_s: float) -> list[Change]:
        if not lag_s or not self._changes:
            return []
        horizon = time.monotonic() - lag_s
        return [change for change in self._changes if change.at > horizon]

    def page(self, prefix: str, after: str, limit: int, lag_s: float = 0) -> Page:
        """Return a page of ids in byte order (ids are ASCII, so Python's order is the byte order)."""
        view = self.seen(lag_s)
        if view is self.records:
            if self._order is None:
                self._order = sorted(self.records)
            order = self._order
        else:
            order = sorted(view)
        start = max(bisect_right(order, after), bisect_left(order, prefix))
        ids: list[str] = []
        for id in order[start : start + limit + 1]:
            if not id.startswith(prefix):
                break
            ids.append(id)
        return Page(ids[:limit], len(ids) > limit)


def read_schema(schema: object) -> frozenset[str] | None:
    """Return the filterable fields of a namespace's schema; None, without a schema, means all."""
    if schema is None:
        return None
    fields = schema.get("fields") if isinstance(schema, dict) else None
    if not isinstance(fields, dict):
        raise invalid("schema must be an object with fields")
    for name, config in fields.items():
        if not isinstance(config, dict) or config.get("filterable") is not True:
            raise invalid(
                f"Field '{name}' is set to filterable: false. Only filterable: true is supported. "
                "To avoid indexing the field, omit it from the list of fields."
            )
    return frozenset(fields)
