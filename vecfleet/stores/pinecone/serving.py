"""Pinecone for an application's searches: the SDK's clients over REST, with its own bounded retries.

The fleet decides itself when to try again. An application's single question is best repeated where it is asked, so the
SDK's retries (at most three, with its backoff, honouring Retry-After) stay on here. We repeat a write as often: each
time before it leaves, its caller says whether it still may. Each request ends by its deadline as a whole, however
slowly the other side takes and gives. For a coroutine's question, which the SDK repeats, the end holds for all its
requests together.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from pinecone import AsyncIndex, Index
from pinecone.models.vectors.responses import QueryResponse
from pinecone.models.vectors.search import SearchRecordsResponse

from vecfleet.errors import BadRequest, TimedOut
from vecfleet.names import canonical
from vecfleet.patience import patiently, patiently_async
from vecfleet.records import Record
from vecfleet.settings import CALL_LASTS_DEADLINES, Settings
from vecfleet.stores.base import IndexInfo, Limits
from vecfleet.stores.documents import Layout
from vecfleet.stores.pinecone import document_serving as documents
from vecfleet.stores.pinecone import records as wire
from vecfleet.stores.pinecone.accounts import Accounts
from vecfleet.stores.pinecone.clients import PerProcess, api_key, bound_calls, switch_retries_off
from vecfleet.stores.pinecone.errors import AbsentNamespace, translated
from vecfleet.stores.pinecone.index import wire_name
from vecfleet.stores.serving import AsyncBefore, Before, Hit, Question

T = TypeVar("T")
Client = TypeVar("Client", Index, AsyncIndex)

# This many questions may be under way at once: a creator's twins are asked together.
CONNECTIONS = 64
TEXTS_PER_REQUEST = 96  # the documented limit of an upsert of texts
_WRITES = 4  # as often as the SDK sends a question

_LIMITS = Limits()


class PineconeServing:
    """One index, named INDEX or pinecone@NAME:INDEX. Nothing is sent before the first call; clients are per process.

    `names`: metadata keys with the names of their fields in documents, where these are others.
    """

    def __init__(self, settings: Settings, index: str, names: Iterable[tuple[str, str]] = ()) -> None:
        self._store, name = Accounts(settings).located(index)
        self._info = PerProcess(lambda: replace(self._store.describe(name), names=dict(names)))
        self._client = PerProcess(self._made)
        self._writer = PerProcess(lambda: _once(self._made()))

    def _made(self) -> Index:
        client = Index(host=self._store.host(self.info), **_options(self._store.settings))
        bound_calls(client, self._store.settings.request_deadline_seconds)
        return client

    @property
    def info(self) -> IndexInfo:
        return self._info.get()

    def ask(self, namespace: str, question: Question) -> list[Hit]:
        client = self._client.get()
        try:
            with translated(f"search {namespace!r}"):
                layout = Layout.of(self.info)
                if layout is not None:
                    answer = client.documents.search(**documents.search(layout, namespace, question))
                    return documents.found(answer, layout, question, namespace)
                if question.text is not None:
                    return _found(client.search(**_search(namespace, question)), namespace)
                return _matched(client.query(**_query(namespace, question)), namespace)
        except AbsentNamespace:
            return []

    def write(self, namespace: str, records: Sequence[Record], before: Before) -> int:
        client, taken = self._writer.get(), 0
        for send, doing in _upserts(client, Layout.of(self.info), namespace, records):
            taken += _sent(send, before, doing).upserted_count
        return taken

    def write_texts(self, namespace: str, texts: Sequence[Mapping[str, Any]], before: Before) -> int:
        client = self._writer.get()
        for batch in _text_requests(texts):
            send = partial(client.upsert_records, namespace=canonical(namespace), records=batch)
            _sent(send, before, f"upsert {len(batch):,} texts into {namespace!r}")
        return len(texts)


class AsyncPineconeServing:
    """One index by name, for coroutines. The SDK's client belongs to the event loop that first asks."""

    def __init__(self, settings: Settings, index: str, names: Iterable[tuple[str, str]] = ()) -> None:
        self._store, name = Accounts(settings).located(index)
        self._settings = self._store.settings
        self._info = PerProcess(lambda: replace(self._store.describe(name), names=dict(names)))
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncIndex] = WeakKeyDictionary()
        self._writers: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncIndex] = WeakKeyDictionary()

    async def describe(self) -> IndexInfo:
        return await asyncio.to_thread(self._info.get)

    async def ask(self, namespace: str, question: Question) -> list[Hit]:
        client = await self._client(self._clients)
        try:
            with translated(f"search {namespace!r}"), _ends_by(f"search {namespace!r}"):
                layout = Layout.of(await self.describe())
                async with asyncio.timeout(CALL_LASTS_DEADLINES * self._settings.request_deadline_seconds):
                    if layout is not None:
                        answer = await client.documents.search(**documents.search(layout, namespace, question))
                        return documents.found(answer, layout, question, namespace)
                    if question.text is not None:
                        return _found(await client.search(**_search(namespace, question)), namespace)
                    return _matched(await client.query(**_query(namespace, question)), namespace)
        except AbsentNamespace:
            return []

    async def write(self, namespace: str, records: Sequence[Record], before: AsyncBefore) -> int:
        client, taken = await self._client(self._writers), 0
        for send, doing in _upserts(client, Layout.of(await self.describe()), namespace, records):
            answer = await _sent_async(send, before, doing, self._settings.request_deadline_seconds)
            taken += answer.upserted_count
        return taken

    async def write_texts(self, namespace: str, texts: Sequence[Mapping[str, Any]], before: AsyncBefore) -> int:
        client = await self._client(self._writers)
        for batch in _text_requests(texts):
            send = partial(client.upsert_records, namespace=canonical(namespace), records=batch)
            doing = f"upsert {len(batch):,} texts into {namespace!r}"
            await _sent_async(send, before, doing, self._settings.request_deadline_seconds)
        return len(texts)

    async def close(self) -> None:
        for clients in (self._clients, self._writers):
            client = clients.pop(asyncio.get_running_loop(), None)
            if client is not None:
                await client.close()

    async def _client(self, clients: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncIndex]) -> AsyncIndex:
        loop = asyncio.get_running_loop()
        if loop not in clients:
            host = self._store.host(await self.describe())
            made = AsyncIndex(host=host, **_options(self._settings))
            # Another coroutine may have made a client meanwhile; then that one is kept.
            clients.setdefault(loop, _once(made) if clients is self._writers else made)
        return clients[loop]


def _once(client: Client) -> Client:
    """Return the client, set to send each request once."""
    switch_retries_off(client)
    return client


def _sent(send: Callable[[], T], before: Before, doing: str) -> T:
    def attempt() -> T:
        before()
        with translated(doing):
            return send()

    return patiently(attempt, _WRITES)


async def _sent_async(send: Callable[[], Awaitable[T]], before: AsyncBefore, doing: str, deadline_s: float) -> T:
    async def attempt() -> T:
        await before()
        with translated(doing), _ends_by(doing):
            async with asyncio.timeout(deadline_s):
                return await send()

    return await patiently_async(attempt, _WRITES)


@contextmanager
def _ends_by(doing: str) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise TimedOut(f"cannot {doing}: no answer by the deadline") from error


def _options(settings: Settings) -> dict[str, Any]:
    return {
        "api_key": api_key(settings),
        "timeout": settings.request_deadline_seconds,
        "connection_pool_maxsize": CONNECTIONS,
    }


def _query(namespace: str, question: Question) -> dict[str, Any]:
    return {
        "namespace": wire_name(namespace),
        "vector": question.vector,
        "sparse_vector": question.sparse,
        "top_k": question.top_k,
        "filter": question.filter,
        "include_values": question.values,
        "include_metadata": question.metadata,
    }


def _search(namespace: str, question: Question) -> dict[str, Any]:
    rerank = None
    if question.rerank is not None:
        rerank = {"model": question.rerank.model, "rank_fields": [question.rerank.field], "top_n": question.top_k}
    return {
        "namespace": canonical(namespace),
        "inputs": {"text": question.text},
        "top_k": question.top_k,
        "filter": question.filter,
        "rerank": rerank,
    }


def _matched(answer: QueryResponse, namespace: str) -> list[Hit]:
    return [
        Hit(match.id, match.score, match.metadata, match.values, match.sparse_values, namespace)
        for match in answer.matches
    ]


def _found(answer: SearchRecordsResponse, namespace: str) -> list[Hit]:
    return [Hit(hit.id, hit.score, hit.fields, namespace=namespace) for hit in answer.result.hits]


def _upserts(
    client: Any, layout: Layout | None, namespace: str, records: Sequence[Record]
) -> Iterator[tuple[Callable[[], Any], str]]:
    """Yield each request that writes some of the records, and what it does."""
    for batch in documents.requests(layout, records) if layout is not None else _requests(records):
        doing = f"upsert {len(batch):,} records into {namespace!r}"
        if layout is not None:
            yield partial(client.documents.upsert, documents=batch, namespace=canonical(namespace)), doing
        else:
            yield partial(client.upsert, vectors=batch, namespace=wire_name(namespace)), doing


def _requests(records: Sequence[Record]) -> Iterator[list[Any]]:
    """Yield the records in as many requests as their bytes and their number require."""
    batch: list[Any] = []
    size = wire.body_bytes([])
    for record in records:
        if not record.id:
            raise BadRequest("a record has no id")
        added = wire.request_bytes(record)
        if batch and (len(batch) == _LIMITS.upsert_records or size + added > _LIMITS.upsert_bytes):
            yield batch
            batch, size = [], wire.body_bytes([])
        batch.append(wire.to_vector(record))
        size += added
    if batch:
        yield batch


def _text_requests(texts: Sequence[Mapping[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(texts), TEXTS_PER_REQUEST):
        yield [dict(text) for text in texts[start : start + TEXTS_PER_REQUEST]]
