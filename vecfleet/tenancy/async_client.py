"""The client for coroutines: the twin of `client`. `client_core` has the steps of both."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from vecfleet.settings import Settings
from vecfleet.stores.base import Index, IndexInfo, NamespaceInfo
from vecfleet.stores.pinecone import AsyncPineconeServing
from vecfleet.stores.serving import AsyncServing, Filter, Hit
from vecfleet.tenancy import erasing, requests
from vecfleet.tenancy.client import PineconeDelphiClient
from vecfleet.tenancy.client_core import ClientCore, Steps
from vecfleet.tenancy.fences import Books
from vecfleet.tenancy.filtered import AT_MOST, Filtered
from vecfleet.tenancy.places import Place
from vecfleet.tenancy.query_metrics import Observe
from vecfleet.tenancy.question_models import Embed
from vecfleet.tenancy.requests import Answer, Ask, QueryOptions
from vecfleet.tenancy.rollout import Rollout
from vecfleet.tenancy.shadow_reads import ShadowLog

T = TypeVar("T")


class DelphiPineconeClient(ClientCore):
    """Client that reads and writes a tenant's records at their present place. `async with` it, or `await close()`.

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
        embed: Embed | None = None,
    ) -> None:
        make = AsyncPineconeServing if serving is None else lambda _, name, names: serving(name)
        super().__init__(index_name, settings, rollout, observe, shadow, embed, make)
        self.in_threads = PineconeDelphiClient(index_name, settings=self.settings, rollout=rollout, books=books)
        self.journal = self.in_threads.journal
        self._background: set[asyncio.Task[object]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Wait for shadow reads and replays, then close the connections."""
        await asyncio.gather(*self._background, return_exceptions=True)
        for serving in self._open.values():
            await serving.close()

    async def list_creator_twins(self, creator_id: str) -> list[str]:
        """Return the creator's twins that have a namespace, or a route, sorted."""
        return await asyncio.to_thread(self.in_threads.list_creator_twins, creator_id)

    async def held(self, creator_id: str, twin_id: str | None = None) -> list[NamespaceInfo]:
        """Return the namespaces that a tenant reads now and has alone, where there are any. Their counts lag."""
        return await asyncio.to_thread(self.in_threads.held, creator_id, twin_id)

    async def model_of(self, creator_id: str, twin_id: str | None = None) -> str | None:
        """Return the model by which a tenant is asked now, if its route names one: that of vectors to ask with."""
        return await self._run(self._model_of(requests.tenant_of(creator_id, twin_id)))

    # Writing

    async def upsert_vectors(
        self,
        vectors: Iterable[Any] = (),
        creator_id: str | None = None,
        twin_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> int:
        """Write vectors, each with its owner in its metadata, and `metadata` besides. Returns how many were taken.

        The arguments are not changed. Raises RoutesTooOld if the routes are too old, for a write must not miss, and
        WritesFrozen while a job copies the namespace whose plan stops its writers. Both are worth another try.
        """
        return await self._run(self._upsert_vectors(vectors, creator_id, twin_id, metadata))

    async def upsert_texts(
        self, texts: Iterable[Mapping[str, Any]], creator_id: str | None = None, twin_id: str | None = None
    ) -> int:
        """Write texts (`id`, `text`, further fields) into an index that embeds them itself."""
        return await self._run(self._upsert_texts(texts, creator_id, twin_id))

    async def delete_vectors(
        self, ids: Iterable[str], creator_id: str | None = None, twin_id: str | None = None
    ) -> int:
        """Delete single records of one tenant. Returns how many were there; no other tenant's record is deleted."""
        return await asyncio.to_thread(self.in_threads.delete_vectors, ids, creator_id, twin_id)

    async def delete_by_filter(
        self,
        filter: Filter,
        creator_id: str | None = None,
        twin_id: str | None = None,
        *,
        at_most: int = AT_MOST,
        dry_run: bool = False,
    ) -> Filtered:
        """Delete the records of one tenant that a metadata filter matches; no other tenant's record is deleted.

        See `PineconeDelphiClient.delete_by_filter`.
        """
        return await asyncio.to_thread(
            self.in_threads.delete_by_filter, filter, creator_id, twin_id, at_most=at_most, dry_run=dry_run
        )

    async def replay(self) -> int:
        """Copy to each side the records that the journal says it is owed. Returns how many are still owed."""
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
        **options: Unpack[QueryOptions],
    ) -> Answer:
        """Return the nearest records of one tenant, best first; without `twin_id`, of the creator-wide namespace."""
        return await self._run(self._query(vector, creator_id, twin_id, top_k, filter, include_metadata, options))

    async def query_across_twins(
        self,
        vector: Any = None,
        creator_id: str | None = None,
        twin_ids: Sequence[str] | None = None,
        top_k: int = 10,
        filter: Filter | None = None,
        include_metadata: bool = True,
        **options: Unpack[QueryOptions],
    ) -> list[Hit]:
        """Return the nearest records of several twins (None: of all), asked at once. Each hit says its namespace."""
        steps = self._query_twins(vector, creator_id, twin_ids, top_k, filter, include_metadata, options)
        return await self._run(steps)

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
        """Erase a creator or a twin from every place of its records; return the deletions and the records left."""
        return await asyncio.to_thread(
            self.in_threads.erase, creator_id, twin_id, who=who, export=export, repoint=repoint
        )

    async def verify_deletion(self, creator_id: str) -> bool:
        """Say whether this creator has no namespace, and no record among others', any more."""
        return await asyncio.to_thread(self.in_threads.verify_deletion, creator_id)

    # Waiting

    async def _run(self, steps: Steps[T]) -> T:
        """Await whatever a step yields. Errors and cancellations go to the step, which handles them."""
        given: Any = None
        advance: Callable[[Any], Any] = steps.send
        while True:
            try:
                pending = advance(given)
            except StopIteration as end:
                result: T = end.value
                return result
            try:
                given, advance = await pending, steps.send
            except BaseException as error:  # noqa: BLE001 - thrown into the steps, which raise it again
                given, advance = error, steps.throw

    def _info(self, place: Place) -> Awaitable[IndexInfo]:
        described: Awaitable[IndexInfo] = self._serving(place).describe()
        return described

    def _blocking(self, call: Callable[..., T], *arguments: Any) -> Awaitable[T]:
        return asyncio.to_thread(call, *arguments)

    def _ask_all(self, asks: Sequence[Ask], *, apart: bool = False) -> Awaitable[list[list[Hit]]]:
        return asyncio.gather(*map(self._ask, asks))

    def _in_background(self, steps: Steps[object]) -> None:
        self._begin(self._run(steps))

    def _replay_in_background(self) -> None:
        self._begin(self.replay())

    def _begin(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)  # the loop itself keeps no task alive
        task.add_done_callback(self._background.discard)

    def _index(self, place: Place) -> Index:
        return self.in_threads._index(place)
