"""Read an index for planning, analysing and comparing: with retries, safe between threads, and adding up the cost.

The fleet's workers retry by the job table; this is for commands that a person watches.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from vecfleet.errors import TooLarge
from vecfleet.patience import ATTEMPTS, patiently
from vecfleet.records import Record
from vecfleet.stores.base import IdPage, Index, Usage

__all__ = ["ATTEMPTS", "Reader", "patiently"]

T = TypeVar("T")


class Reader:
    """Reader of one index; safe between threads. `usage`: the cost so far. Raises the store's error after the last try.

    Once `ended` is set, no call is tried again.
    """

    def __init__(self, index: Index) -> None:
        self.index = index
        self.usage = Usage()
        self.ended = threading.Event()
        self._adding = threading.Lock()

    def ids(self, namespace: str) -> Iterator[str]:
        """Yield every id of a namespace, in byte order."""
        for page in self.pages(namespace):
            yield from page.ids

    def pages(self, namespace: str) -> Iterator[IdPage]:
        """Yield the ids of a namespace, page by page."""
        token: str | None = None
        while True:
            page = self._patiently(lambda token=token: self.index.list_ids(namespace, token))  # type: ignore[misc]
            self._add(page.usage)
            yield page
            token = page.next_token
            if token is None:
                return

    def records(self, namespace: str, ids: Iterable[str]) -> Iterator[Record]:
        """Yield the records of these ids that exist, one fetch at a time."""
        waiting = iter(ids)
        while chunk := list(islice(waiting, self.index.fetch_room)):
            yield from self._fetch(namespace, chunk)

    def lists(self, namespace: str, id: str) -> bool:
        """Say whether a listing made now shows this id."""
        page = self._patiently(lambda: self.index.list_ids(namespace, prefix=id))
        self._add(page.usage)
        return id in page.ids

    def _fetch(self, namespace: str, ids: list[str]) -> Iterator[Record]:
        try:
            answer = self._patiently(lambda: self.index.fetch(namespace, ids))
        except TooLarge:
            if len(ids) == 1:
                raise
            half = len(ids) // 2
            yield from self._fetch(namespace, ids[:half])
            yield from self._fetch(namespace, ids[half:])
            return
        self._add(answer.usage)
        yield from answer.records.values()

    def _patiently(self, call: Callable[[], T]) -> T:
        return patiently(call, ended=self.ended)

    def _add(self, usage: Usage) -> None:
        with self._adding:
            self.usage += usage
