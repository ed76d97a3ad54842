"""Reading of an index for planning and analysing: patient, polite, and adding up what it cost.

The fleet waits by the job table; this is for commands that a person watches.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

from vecfleet.errors import TooLarge
from vecfleet.patience import ATTEMPTS, patiently
from vecfleet.records import Record
from vecfleet.stores.base import Index, Usage

__all__ = ["ATTEMPTS", "Reader", "patiently"]


class Reader:
    """Reads one index; `usage` is the cost so far. Raises the store's error when patience ends."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self.usage = Usage()

    def ids(self, namespace: str) -> Iterator[str]:
        """Yield every id of a namespace, in byte order."""
        token: str | None = None
        while True:
            page = patiently(lambda token=token: self.index.list_ids(namespace, token))  # type: ignore[misc]
            self.usage += page.usage
            yield from page.ids
            token = page.next_token
            if token is None:
                return

    def records(self, namespace: str, ids: Iterable[str]) -> Iterator[Record]:
        """Yield the records with these ids that exist, a fetch at a time."""
        waiting = iter(ids)
        while chunk := list(islice(waiting, self.index.limits.fetch_ids)):
            yield from self._fetch(namespace, chunk)

    def _fetch(self, namespace: str, ids: list[str]) -> Iterator[Record]:
        try:
            answer = patiently(lambda: self.index.fetch(namespace, ids))
        except TooLarge:
            if len(ids) == 1:
                raise
            half = len(ids) // 2
            yield from self._fetch(namespace, ids[:half])
            yield from self._fetch(namespace, ids[half:])
            return
        self.usage += answer.usage
        yield from answer.records.values()
