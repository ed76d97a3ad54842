"""The store's interface for an application's searches: questions with a filter, answers with metadata, on one index.

`base` is about moving records; this is about serving them: one call is one question to one namespace. Failures are the
`StoreError`s of `vecfleet.errors`. An absent namespace has no answers, which is no error.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from vecfleet.records import Record
from vecfleet.stores.base import IndexInfo

Filter = Mapping[str, Any]

Before = Callable[[], object]
"""Called right before each request of a write leaves, also when it is sent again: it raises if it must not leave."""
AsyncBefore = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Rerank:
    """A second opinion on the order of a text search: the model, and the field it reads."""

    model: str
    field: str


class Question(msgspec.Struct, frozen=True):
    """The object of a search: a vector, a sparse vector, both, or a text if the index embeds texts itself.

    A vector may come as its JSON text (`orjson.Fragment`), made once for several questions. `model` made the vector.
    `embed` makes one of the text, where the model of the records is not named.
    """

    vector: Any = None
    sparse: Mapping[str, Any] | None = None
    text: str | None = None
    top_k: int = 10
    filter: Filter | None = None
    values: bool = False
    metadata: bool = True
    rerank: Rerank | None = None
    model: str | None = None
    embed: Callable[[str], Sequence[float]] | None = None


class Keyed:
    """An answer whose fields may be read as keys too, like those of the SDK's answers."""

    __slots__ = ()

    def __getitem__(self, field: str) -> Any:
        try:
            return getattr(self, field)
        except AttributeError:
            raise KeyError(field) from None

    def get(self, field: str, default: Any = None) -> Any:
        return getattr(self, field, default)


class Hit(Keyed, msgspec.Struct, frozen=True):
    """One record found.

    A struct, because it is made ten times a query: a frozen dataclass takes ten times as long.
    """

    id: str
    score: float
    metadata: Mapping[str, Any] | None = None
    values: Sequence[float] = ()
    sparse_values: Any = None
    namespace: str = ""


class Serving(Protocol):
    """One index, asked by the threads of one process."""

    @property
    def info(self) -> IndexInfo: ...

    def ask(self, namespace: str, question: Question) -> list[Hit]: ...

    def write(self, namespace: str, records: Sequence[Record], before: Before) -> int:
        """Write the records, in as many requests as the store's limits require. Returns how many were taken."""

    def write_texts(self, namespace: str, texts: Sequence[Mapping[str, Any]], before: Before) -> int:
        """Write texts that the index embeds. Returns how many were taken."""


class AsyncServing(Protocol):
    """The same for one event loop."""

    async def describe(self) -> IndexInfo: ...

    async def ask(self, namespace: str, question: Question) -> list[Hit]: ...

    async def write(self, namespace: str, records: Sequence[Record], before: AsyncBefore) -> int: ...

    async def write_texts(self, namespace: str, texts: Sequence[Mapping[str, Any]], before: AsyncBefore) -> int: ...

    async def close(self) -> None: ...
