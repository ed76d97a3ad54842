"""The client for coroutines: the twin of `client`. `requests` and `rollout` decide for both."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from types import TracebackType
from typing import Any, Self

from vecfleet import names
from vecfleet.errors import StoreError, Transient, Unreachable
from vecfleet.names import Tenant
from vecfleet.settings import Settings
from vecfleet.stores.pinecone import AsyncPineconeServing
from vecfleet.stores.serving import AsyncBefore, AsyncServing, Filter, Hit, Question
from vecfleet.tenancy import erasing, journal, requests, writing
from vecfleet.tenancy.client import PineconeDelphiClient
from vecfleet.tenancy.fences import Books
from vecfleet.tenancy.places import Place, Side, Where, admitted
from vecfleet.tenancy.query_metrics import Observe, QueryMetrics
from vecfleet.tenancy.requests import Answer, Ask
from vecfleet.tenancy.rollout import Rollout
from vecfleet.tenancy.shadow_reads import ShadowLog


class DelphiPineconeClient:
    """Reads and writes a tenant's records where they are now. `async with` it, or `await close()` at the end.

    The arguments are those of `PineconeDelphiClient`. Listing and erasing run in a thread.
    """

    def __init__(
        self,
        index_name: str | None = None,
        *,
        settings: Settings | None = None,
        rollout: Rollout | None = None,
        observe: Observe | None = None,
        shadow: ShadowLog | None = None,
        serving: Callable[[str], AsyncServing] | None = None,
        books: Books | None = None,
    ) -> None:
        self.in_threads = PineconeDelphiClient(index_name, settings=settings, rollout=rollout, books=books)
        self.settings, self.index_name = self.in_threads.settings, self.in_threads.index_name
        self.texts = self.in_threads.texts
        self.rollout = rollout
        self.shadow = shadow or ShadowLog()
        self._observe = observe
        self._make = serving or (lambda name: AsyncPineconeServing(self.settings, name))
        self._open: dict[str, AsyncServing] = {}
        self._background: set[asyncio.Task[object]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let shadow reads and replays end, then close the connections."""
        await asyncio.gather(*self._background, return_exceptions=True)
        for serving in self._open.values():
            await serving.close()

    # Names

    def _get_namespace(self, creator_id: str, twin_id: str | None = None) -> str:
        """Return the tenant's own namespace. Raises BadName for ids that can have none."""
        return names.build(creator_id, twin_id or None)

    get_namespace = _get_namespace

    async def list_creator_twins(self, creator_id: str) -> list[str]:
        """Return the creator's twins that have a namespace, or a route, sorted."""
        return await asyncio.to_thread(self.in_threads.list_creator_twins, creator_id)

    # Writing

    async def upsert_vectors(
        self,
        vectors: Iterable[Any] = (),
        creator_id: str | None = None,
        twin_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> int:
        """Write vectors, each with its owner in its metadata, and `metadata` besides. Returns how many were taken.

        The arguments are not changed. Raises RoutesTooOld if the routes are too old: a write must not miss.
        """
        tenant = requests.tenant_of(creator_id, twin_id)
        where, before = await self._to_write(tenant)
        info = await self._serving(where.write).describe()
        records = requests.records_of(vectors, where, metadata, info)

        ids = [record.id for record in records]
        homes = await self._homes(where, ids)

        async def put(side: Side, _: Sequence[Place]) -> int:
            on_side = requests.records_on(side, where, homes, records)
            return sum([await self._serving(place).write(place.namespace, batch, before) for place, batch in on_side])

        return await self._put(where, ids, put, before)

    async def upsert_texts(
        self, texts: Iterable[Mapping[str, Any]], creator_id: str | None = None, twin_id: str | None = None
    ) -> int:
        """Write texts (`id`, `text`, further fields) into an index that embeds them itself."""
        tenant = requests.tenant_of(creator_id, twin_id)
        where, before = await self._to_write(tenant)
        flat = requests.texts_of(texts, where, self.texts.field)

        ids = [text["_id"] for text in flat]
        homes = await self._homes(where, ids)

        async def put(side: Side, _: Sequence[Place]) -> int:
            on_side = requests.texts_on(side, where, homes, flat)
            return sum(
                [await self._serving(place).write_texts(place.namespace, batch, before) for place, batch in on_side]
            )

        return await self._put(where, ids, put, before)

    async def delete_vectors(
        self, ids: Iterable[str], creator_id: str | None = None, twin_id: str | None = None
    ) -> int:
        """Delete single records of one tenant. Returns how many were there; no other tenant's record is deleted."""
        return await asyncio.to_thread(self.in_threads.delete_vectors, ids, creator_id, twin_id)

    async def replay(self) -> int:
        """Bring to each side what the journal says it is owed. Returns how many records are still owed."""
        return await asyncio.to_thread(self.in_threads.replay)

    # Reading

    async def query(
        self,
        vector: Any = None,
        creator_id: str | None = None,
        twin_id: str | None = None,
        top_k: int = 10,
        filter: Filter | None = None,
        include_metadata: bool = True,
        *,
        query_vector: Any = None,
        text: str | None = None,
        sparse_vector: Any = None,
        include_values: bool = False,
        rerank: bool | None = None,
    ) -> Answer:
        """Return the nearest records of one tenant, best first; without `twin_id`, of the creator-wide namespace."""
        tenant = requests.tenant_of(creator_id, twin_id)
        question = requests.question_of(
            self.texts,
            vector=vector,
            query_vector=query_vector,
            text=text,
            sparse_vector=sparse_vector,
            top_k=top_k,
            filter=filter,
            include_metadata=include_metadata,
            include_values=include_values,
            rerank=rerank,
        )
        return await self._answer(await self._where(tenant), question)

    async def query_across_twins(
        self,
        vector: Any = None,
        creator_id: str | None = None,
        twin_ids: Sequence[str] | None = None,
        top_k: int = 10,
        filter: Filter | None = None,
        include_metadata: bool = True,
        *,
        query_vector: Any = None,
        text: str | None = None,
        sparse_vector: Any = None,
        include_values: bool = False,
        rerank: bool | None = None,
    ) -> list[Hit]:
        """Return the nearest records of several twins (None: of all), asked at once. Each hit says its namespace."""
        creator = requests.tenant_of(creator_id, None).creator
        question = requests.question_of(
            self.texts,
            vector=vector,
            query_vector=query_vector,
            text=text,
            sparse_vector=sparse_vector,
            top_k=top_k,
            filter=filter,
            include_metadata=include_metadata,
            include_values=include_values,
            rerank=rerank,
        )
        twins = requests.twins_of(creator, await self.list_creator_twins(creator) if twin_ids is None else twin_ids)
        sent = requests.sent_often(question)
        wheres = [await self._where(twin) for twin in twins]
        asks = list(chain.from_iterable(requests.asks_of(where.tenant, where.reads, sent) for where in wheres))
        heard = requests.heard(asks, await self._ask_all(asks), metadata=include_metadata)
        return requests.merged(heard, top_k, await self._metric(len(heard)))

    # Erasing

    async def delete_twin(self, creator_id: str, twin_id: str) -> bool:
        """Delete a twin's namespace. True when its absence was confirmed."""
        return (await self.erase(creator_id, requests.twin_of(twin_id))).confirmed

    async def delete_creator(self, creator_id: str) -> bool:
        """Delete every namespace of a creator. True when their absence was confirmed."""
        return (await self.erase(creator_id)).confirmed

    delete_creator_data = delete_creator

    async def erase(
        self,
        creator_id: str,
        twin_id: str | None = None,
        *,
        who: str = "an application",
        export: erasing.Export | None = None,
        repoint: Mapping[str, str] | None = None,
    ) -> erasing.Erased:
        """Erase a creator or a twin from wherever its records are; return what was deleted and what is left."""
        return await asyncio.to_thread(
            self.in_threads.erase, creator_id, twin_id, who=who, export=export, repoint=repoint
        )

    async def verify_deletion(self, creator_id: str) -> bool:
        """Say whether nothing of this creator is there: neither a namespace nor a record among others'."""
        return await asyncio.to_thread(self.in_threads.verify_deletion, creator_id)

    # Inside

    async def _where(self, tenant: Tenant, *, to_write: bool = False) -> Where:
        if self.rollout is None:
            return requests.alone(tenant.creator, tenant.twin)
        if self.rollout.routes is not None and self.rollout.routes.due:
            # Reading a provider blocks.
            await asyncio.to_thread(self.rollout.routes.refresh, to_write=to_write)
        where = self.rollout.where(tenant.creator, tenant.twin, to_write=to_write, own_index=self.index_name)
        return admitted(where)

    async def _to_write(self, tenant: Tenant) -> tuple[Where, AsyncBefore]:
        """Return a write's places, and a check to run before each of its calls leaves and after the last answer."""
        leave = requests.Leave(await self._where(tenant, to_write=True), requests.clock_of(self.rollout))

        async def before() -> None:
            if not leave.stands:
                leave.renew(await self._where(tenant, to_write=True))

        await before()
        return leave.where, before

    def _serving(self, place: Place) -> AsyncServing:
        name = place.index or self.index_name
        serving = self._open.get(name)
        return serving if serving is not None else self._open.setdefault(name, self._make(name))

    async def _homes(self, where: Where, ids: Sequence[str]) -> requests.Homes:
        if not writing.looks(where):
            return {}
        return await asyncio.to_thread(writing.homes_of, where, ids, self.in_threads._index)

    async def _put(
        self,
        where: Where,
        ids: Sequence[str],
        put: Callable[[Side, Sequence[Place]], Awaitable[int]],
        before: AsyncBefore,
    ) -> int:
        """Write to the tenant's side and, on a dual route, to the other too; a failed write there is owed to it."""
        book = self.in_threads.journal
        if not where.dual:
            if where.shares:
                await asyncio.to_thread(book.outdate, where.tenant, ids)
            taken = await put(where.side, where.reads)
            await before()
        else:
            taken = await self._put_to_both(where, ids, put, before)
        if (where.dual or where.shares) and await asyncio.to_thread(book.look):
            self._in_background(self.replay())
        return taken

    async def _put_to_both(
        self,
        where: Where,
        ids: Sequence[str],
        put: Callable[[Side, Sequence[Place]], Awaitable[int]],
        before: AsyncBefore,
    ) -> int:
        book = self.in_threads.journal
        noted, first, both = await asyncio.to_thread(book.note, where, ids), False, False
        try:
            taken = await put(where.side, where.reads)
            await before()
            first = True
            try:
                await put(noted.side, where.other)
                both = True
            except (StoreError, Unreachable) as error:
                journal.tell_owed(noted, error)
        finally:
            await asyncio.to_thread(partial(book.settle, noted, both, taken=first))
        return taken

    def _in_background(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)  # the loop itself keeps no task alive
        task.add_done_callback(self._background.discard)

    async def _metric(self, lists: int) -> str | None:
        return (await self._serving(Place("")).describe()).metric if lists > 1 else None

    async def _answer(self, where: Where, question: Question) -> Answer:
        started = time.perf_counter()
        try:
            hits = await self._best(where.tenant, where.reads, question)
        except (StoreError, Unreachable) as error:
            took_ms = self._tell(where, question, started, [], type(error).__name__)
            if not (isinstance(error, Transient) and requests.may_fall_back(where, self.rollout)):
                raise
            self.shadow.record(where.job, took_ms, True, None)
            return Answer(await self._best(where.tenant, where.other, question), where.other[0].namespace)
        took_ms = self._tell(where, question, started, hits, None)
        if where.other and self.shadow.drawn(where.shadow_share):
            self._in_background(self._compare(where, question, hits, took_ms))
        return Answer(hits, where.reads[0].namespace)

    async def _best(self, tenant: Tenant, places: Sequence[Place], question: Question) -> list[Hit]:
        if len(places) == 1 and places[0].built:  # nearly every query, so it takes the shortest way
            return await self._serving(places[0]).ask(places[0].namespace, question)
        asks = requests.asks_of(tenant, places, question)
        heard = requests.heard(asks, await self._ask_all(asks), metadata=question.metadata)
        return requests.merged(heard, question.top_k, await self._metric(len(heard)))

    async def _ask_all(self, asks: Sequence[Ask]) -> list[list[Hit]]:
        if len(asks) == 1:
            return [await self._ask(asks[0])]
        return list(await asyncio.gather(*map(self._ask, asks)))

    async def _ask(self, ask: Ask) -> list[Hit]:
        return await self._serving(ask.place).ask(ask.place.namespace, ask.question)

    async def _compare(self, where: Where, question: Question, hits: Sequence[Hit], took_ms: float) -> None:
        """Ask the other side the same, and note how the new one compares with the old one."""
        started = time.perf_counter()
        failed, others = False, list[Hit]()
        try:
            others = await self._best(where.tenant, where.other, question)
        except (StoreError, Unreachable):
            failed = True
        requests.note_shadow(self.shadow, where, hits, took_ms, others, (time.perf_counter() - started) * 1000, failed)

    def _tell(self, where: Where, question: Question, started: float, hits: Sequence[Hit], error: str | None) -> float:
        took_ms = (time.perf_counter() - started) * 1000
        if self._observe is not None:
            self._observe(QueryMetrics(took_ms, where.reads[0].namespace, question.top_k, len(hits), error))
        return took_ms
