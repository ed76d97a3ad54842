"""Read an index for planning and analysing: patiently, politely, and adding up what it cost.

The fleet does its own waiting by the job table; this is for commands that a person watches.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from vecfleet.errors import TooLarge, Transient
from vecfleet.records import Record
from vecfleet.stores.base import Index, Usage

T = TypeVar("T")

ATTEMPTS = 6
_backoff = wait_exponential_jitter(multiplier=0.5, max=30.0)


class Reader:
    """Reads one index; `usage` is what it cost so far. Raises the store's error when patience ends."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self.usage = Usage()

    def ids(self, namespace: str) -> Iterator[str]:
        """Every id of a namespace, in byte order."""
        token: str | None = None
        while True:
            page = patiently(lambda token=token: self.index.list_ids(namespace, token))  # type: ignore[misc]
            self.usage += page.usage
            yield from page.ids
            token = page.next_token
            if token is None:
                return

    def records(self, namespace: str, ids: Iterable[str]) -> Iterator[Record]:
        """The records with these ids that are there, a fetch at a time."""
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


def patiently(call: Callable[[], T]) -> T:
    """Do it, and again after a wait where the store could not answer just now. Only for calls that read."""
    return Retrying(
        retry=retry_if_exception_type(Transient), stop=stop_after_attempt(ATTEMPTS), wait=_wait, reraise=True
    )(call)


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    told = error.retry_after if isinstance(error, Transient) else None
    return max(told or 0.0, _backoff(state))
