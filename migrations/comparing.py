"""Comparing two places record by record, in byte order of namespaces and ids, in memory that does not grow. Reads only.

Every store lists its ids in byte order. So the two listings are joined as they come. Records that both sides list are
fetched from both, one batch a thread. Results come in order, so another comparison can go on where one stopped.
"""

import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from itertools import islice
from typing import TypeVar
from urllib.parse import unquote

from migrations.findings import few
from migrations.places import Counterparts
from migrations.reading import Reader
from vecfleet.digests import differing_keys, differing_parts, record_digest
from vecfleet.errors import BadRequest, StoreError, TooLarge, WrongKind
from vecfleet.records import Record
from vecfleet.stores.base import IdPage

T = TypeVar("T")

# Records of each side that one thread holds: 3 MB at 3,072 dimensions.
BATCH_RECORDS = 250
# Namespaces whose first ids are listed before their turn: small ones would otherwise wait for each listing.
PAIRS_AHEAD = 8

IN_METADATA = "metadata: "
"""Begins what is said of a record that differs in its metadata alone."""

_IN_A_PATH = re.compile(r"[%\x00-\x1f\x7f]")
_IN_A_LABEL = re.compile(r"[%/\x00-\x1f\x7f]")


class Symbol(StrEnum):
    """The outcome for one id, with the symbols of `rclone check`: A is its source, B its destination."""

    EQUAL = "="
    ONLY_B = "-"
    ONLY_A = "+"
    DIFFERS = "*"
    ERROR = "!"


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A record by the label of its namespace and its id."""

    label: str
    id: str

    @classmethod
    def of(cls, path: str, *, labelled: bool) -> "Position":
        """Read a path in the form that `Result.path` writes."""
        label, _, id = path.partition("/") if labelled else ("", "", path)
        return cls(unquote(label), unquote(id))


@dataclass(frozen=True, slots=True)
class Result:
    """One compared id, or (`id` is None) a namespace whose further ids could not be compared.

    `why`: the error, or the parts that differ. `keys`: the metadata keys that differ.
    """

    symbol: Symbol
    label: str
    id: str | None
    why: str | None = None
    keys: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """Return NAMESPACE/ID on one line: control characters and %, in a namespace also /, are percent-encoded."""
        id = _encoded(_IN_A_PATH, self.id or "")
        return f"{_encoded(_IN_A_LABEL, self.label)}/{id}" if self.label or self.id is None else id


def _encoded(characters: re.Pattern[str], text: str) -> str:
    return characters.sub(lambda found: f"%{ord(found[0]):02X}", text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """The scope of a comparison. `ignored`: metadata keys. `after`, `until`: only ids behind `after`, up to `until`."""

    ids_only: bool = False
    one_way: bool = False
    ignored: frozenset[str] = frozenset()
    after: Position | None = None
    until: Position | None = None

    def wants(self, pair: Counterparts) -> bool:
        return not (
            (self.one_way and pair.a is None)
            or (self.after is not None and pair.label < self.after.label)
            or (self.until is not None and pair.label > self.until.label)
        )

    def within(self, label: str, held: Iterator["_Held"]) -> Iterator["_Held"]:
        """Yield the ids of one namespace that lie between `after` and `until`."""
        for entry in held:
            position = Position(label, entry.id)
            if self.until is not None and position > self.until:
                return
            if (self.after is None or position > self.after) and (entry.at_a or not self.one_way):
                yield entry


@dataclass(frozen=True, slots=True)
class _Held:
    """An id, and which side listed it."""

    id: str
    at_a: bool
    at_b: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """Compares two places through their readers, with a limited number of requests at once."""

    a: Reader
    b: Reader
    wish: Wish
    threads: int

    def results(self, pairs: Sequence[Counterparts]) -> Iterator[Result]:
        """Yield every result in order.

        An error of one record or one namespace is among the results. If a store refuses the key, or does not answer for
        longer than patience lasts, the namespace ends with an error result, and the store's error is raised.
        """
        wanted = filter(self.wish.wants, pairs)
        pool = ThreadPoolExecutor(self.threads)
        try:
            window: deque[tuple[str, Future[list[Result]]]] = deque()
            for label, task in self._tasks(wanted, pool):
                window.append((label, pool.submit(task)))
                if len(window) > self.threads:
                    yield from _outcome(*window.popleft())
            while window:
                yield from _outcome(*window.popleft())
        finally:
            for reader in (self.a, self.b):
                reader.ended.set()  # a person who interrupts this does not wait for a store that is away
            pool.shutdown(cancel_futures=True)

    def _tasks(
        self, pairs: Iterator[Counterparts], pool: ThreadPoolExecutor
    ) -> Iterator[tuple[str, Callable[[], list[Result]]]]:
        """Yield a task for each batch of ids; after a listing that failed for good, a task that raises its error."""
        opened = ((pair, _Listing(pool, self.a, pair.a), _Listing(pool, self.b, pair.b)) for pair in pairs)
        for pair, at_a, at_b in _ahead(opened, PAIRS_AHEAD):
            held = self.wish.within(pair.label, _joined(at_a.ids(), at_b.ids()))
            try:
                while batch := list(islice(held, BATCH_RECORDS)):
                    yield pair.label, partial(self._compared, pair, batch)
            except (WrongKind, BadRequest) as error:
                unlisted = Result(Symbol.ERROR, pair.label, None, error.message)
                yield pair.label, partial(list, [unlisted])
            except StoreError as error:
                yield pair.label, partial(_raise, error)
                return

    def _compared(self, pair: Counterparts, batch: Sequence[_Held]) -> list[Result]:
        both = [entry.id for entry in batch if entry.at_a and entry.at_b]
        if self.wish.ids_only or not both:
            return [_listed(pair.label, entry) for entry in batch]
        assert pair.a is not None and pair.b is not None, "both sides list ids of this namespace"
        at_a, at_b = self._records(self.a, pair.a, both), self._records(self.b, pair.b, both)
        results = (
            self._read(pair, entry.id, at_a.get(entry.id), at_b.get(entry.id))
            if entry.at_a and entry.at_b
            else _listed(pair.label, entry)
            for entry in batch
        )
        return [result for result in results if result is not None and self._asked_for(result)]

    def _read(
        self, pair: Counterparts, id: str, a: Record | StoreError | None, b: Record | StoreError | None
    ) -> Result | None:
        """Return the result for a record that both sides listed; None if it was deleted on both sides since."""
        if isinstance(a, StoreError):
            return Result(Symbol.ERROR, pair.label, id, a.message)
        if isinstance(b, StoreError):
            return Result(Symbol.ERROR, pair.label, id, b.message)
        if a is None and b is None:
            assert pair.a is not None and pair.b is not None, "both sides list ids of this namespace"
            listed = self.a.lists(pair.a, id) or self.b.lists(pair.b, id)
            return Result(Symbol.ERROR, pair.label, id, "it is listed, and neither side gives it") if listed else None
        if a is None or b is None:
            return Result(Symbol.ONLY_B if a is None else Symbol.ONLY_A, pair.label, id)
        if record_digest(a) == record_digest(b):
            return Result(Symbol.EQUAL, pair.label, id)
        keys = tuple(differing_keys(a.metadata, b.metadata))
        return Result(Symbol.DIFFERS, pair.label, id, _difference(a, b, keys), keys)

    def _asked_for(self, result: Result) -> bool:
        return result.symbol is not Symbol.ONLY_B or not self.wish.one_way

    def _records(self, reader: Reader, namespace: str, ids: list[str]) -> dict[str, Record | StoreError]:
        """Return the records that are there, and the errors of those that could not be read."""
        try:
            return {record.id: self._comparable(record) for record in reader.records(namespace, ids)}
        except (BadRequest, TooLarge) as error:
            if len(ids) == 1:
                return {ids[0]: error}
            half = len(ids) // 2
            return self._records(reader, namespace, ids[:half]) | self._records(reader, namespace, ids[half:])

    def _comparable(self, record: Record) -> Record:
        """Return the record in the form in which both stores can return it, without what is ignored."""
        if self.wish.ignored:
            kept = {key: value for key, value in record.metadata.items() if key not in self.wish.ignored}
            record = record.with_metadata(kept)
        return self.b.index.normalise(self.a.index.normalise(record))


def _difference(a: Record, b: Record, keys: Sequence[str]) -> str:
    """Say on one line in which parts two records differ, and in which metadata keys."""
    named = {"metadata": f"{IN_METADATA}{few((_encoded(_IN_A_PATH, key) for key in keys), quoted=False)}"}
    return "; ".join(named.get(part, part) for part in differing_parts(a, b))


class _Listing:
    """The ids of one namespace (None: it is absent), listed one page ahead. The listing begins at once."""

    def __init__(self, pool: ThreadPoolExecutor, reader: Reader, namespace: str | None) -> None:
        self._pages = reader.pages(namespace) if namespace is not None else iter(())
        self._pool = pool
        self._namespace = namespace
        self._upcoming = self._list()

    def ids(self) -> Iterator[str]:
        """Yield the ids. Raises WrongKind if they are not in byte order, because the two listings are joined by it."""
        last = ""
        while (page := self._upcoming.result()) is not None:
            self._upcoming = self._list()
            for id in page.ids:
                if id <= last:
                    raise WrongKind(
                        f"the ids of {self._namespace!r} are not listed in byte order: {id!r} after {last!r}",
                        next_step="compare again; if that does not help, this store cannot be compared",
                    )
                last = id
                yield id

    def _list(self) -> Future[IdPage | None]:
        return self._pool.submit(next, self._pages, None)


def _joined(at_a: Iterator[str], at_b: Iterator[str]) -> Iterator[_Held]:
    """Yield the ids of two listings in byte order, each once."""
    a, b = next(at_a, None), next(at_b, None)
    while a is not None or b is not None:
        if b is None or (a is not None and a < b):
            assert a is not None, "one of the listings has an id left"
            yield _Held(a, at_a=True, at_b=False)
            a = next(at_a, None)
        elif a is None or b < a:
            yield _Held(b, at_a=False, at_b=True)
            b = next(at_b, None)
        else:
            yield _Held(a, at_a=True, at_b=True)
            a, b = next(at_a, None), next(at_b, None)


def _ahead(opened: Iterator[T], count: int) -> Iterator[T]:
    """Yield the iterator's values, with `count` of them computed ahead."""
    window = deque(islice(opened, count))
    while window:
        first = window.popleft()
        window.extend(islice(opened, 1))
        yield first


def _listed(label: str, entry: _Held) -> Result:
    symbol = Symbol.EQUAL if entry.at_a and entry.at_b else Symbol.ONLY_A if entry.at_a else Symbol.ONLY_B
    return Result(symbol, label, entry.id)


def _outcome(label: str, compared: Future[list[Result]]) -> Iterator[Result]:
    try:
        results = compared.result()
    except StoreError as error:
        yield Result(Symbol.ERROR, label, None, error.message)
        raise
    yield from results


def _raise(error: StoreError) -> list[Result]:
    raise error
