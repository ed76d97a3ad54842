"""The client for threads. `async_client` is its twin for coroutines; `client_core` has the steps of both."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, Unpack

from vecfleet import names
from vecfleet.filters import compile_filter
from vecfleet.names import Tenant
from vecfleet.records import Record
from vecfleet.settings import Settings
from vecfleet.stores.base import Index, IndexInfo, NamespaceInfo
from vecfleet.stores.pinecone import Accounts, PineconeServing
from vecfleet.stores.pinecone.clients import PerProcess
from vecfleet.stores.pinecone.serving import CONNECTIONS
from vecfleet.stores.serving import Before, Filter, Hit, Serving
from vecfleet.tenancy import erasing, filtered, finding, journal, requests, writing
from vecfleet.tenancy.client_core import ClientCore, Names, Steps
from vecfleet.tenancy.fences import Books, books_of
from vecfleet.tenancy.filtered import AT_MOST, Filtered, Wanted
from vecfleet.tenancy.journal import Journal
from vecfleet.tenancy.places import Place, Side, Where, holds_only
from vecfleet.tenancy.query_metrics import Observe
from vecfleet.tenancy.question_models import Embed
from vecfleet.tenancy.requests import Answer, Ask, QueryOptions
from vecfleet.tenancy.rollout import Rollout, shared_rollout
from vecfleet.tenancy.shadow_reads import ShadowLog

T = TypeVar("T")


class PineconeDelphiClient(ClientCore):
    """Client that reads and writes a tenant's records at their present place. Nothing is sent before the first call.

    Without a `rollout` every tenant has its own namespace. With one, the tenant's route names the side it uses.
    `observe` is called with every query, `shadow` with every query asked of both sides. `books` keep the fence of an
    erasure (default: those that VECFLEET_FENCE names). `embed` makes the vector of a question's text by the model of a
    route (default: as this environment reaches that model). On a dual route the client writes to both sides; its
    `journal`, under VECFLEET_HOME, holds the records that one side is still owed. May be shared by threads and carried
    over a fork.
    """

    def __init__(
        self,
        index_name: str | None = None,
        *,
        settings: Settings | None = None,
        rollout: Rollout | None = None,
        observe: Observe | None = None,
        shadow: ShadowLog | None = None,
        serving: Callable[[str], Serving] | None = None,
        books: Books | None = None,
        embed: Embed | None = None,
    ) -> None:
        make = PineconeServing if serving is None else lambda _, name, names: serving(name)
        super().__init__(index_name, settings, rollout, observe, shadow, embed, make)
        self._threads = PerProcess(lambda: ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="twins"))
        self._accounts = Accounts(self.settings)
        self._indexes: dict[tuple[str, Names], PerProcess[Index]] = {}
        self.journal = Journal.of(self.settings)
        self.books = books or books_of(self.settings)

    # Names

    def list_creator_twins(self, creator_id: str) -> list[str]:
        """Return the creator's twins that have a namespace, or a route, sorted."""
        routed = self.rollout.twins(creator_id) if self.rollout is not None else []
        return sorted({*finding.twins_of(self.data, creator_id), *routed})

    def held(self, creator_id: str, twin_id: str | None = None) -> list[NamespaceInfo]:
        """Return the namespaces that a tenant reads now and has alone, where there are any. Their counts lag.

        What it has in a namespace that tenants share is not among them.
        """
        places = self._run(self._where(requests.tenant_of(creator_id, twin_id))).reads
        infos = (self._index(place).namespace(place.namespace) for place in places if holds_only(place))
        return [info for info in infos if info is not None]

    def model_of(self, creator_id: str, twin_id: str | None = None) -> str | None:
        """Return the model by which a tenant is asked now, if its route names one: that of vectors to ask with."""
        return self._run(self._model_of(requests.tenant_of(creator_id, twin_id)))

    @property
    def data(self) -> Index:
        """The index as the fleet sees it: namespaces, ids, records."""
        return self._index(Place(""))

    @property
    def serving(self) -> Serving:
        """The index for questions about any tenant, without any guard: for keep-alives."""
        serving: Serving = self._serving(Place(""))
        return serving

    # Writing

    def upsert_vectors(
        self,
        vectors: Iterable[Any],
        creator_id: str | None = None,
        twin_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> int:
        """Write vectors, each with its owner in its metadata, and `metadata` besides. Returns how many were taken.

        The arguments are not changed. Raises RoutesTooOld if the routes are too old, for a write must not miss, and
        WritesFrozen while a job copies the namespace whose plan stops its writers. Both are worth another try.
        """
        return self._run(self._upsert_vectors(vectors, creator_id, twin_id, metadata))

    def upsert_texts(
        self, texts: Iterable[Mapping[str, Any]], creator_id: str | None = None, twin_id: str | None = None
    ) -> int:
        """Write texts (`id`, `text`, further fields) into an index that embeds them itself."""
        return self._run(self._upsert_texts(texts, creator_id, twin_id))

    def delete_vectors(self, ids: Iterable[str], creator_id: str | None = None, twin_id: str | None = None) -> int:
        """Delete single records of one tenant. Returns how many were there; no other tenant's record is deleted."""
        return self._run(self._delete(ids, requests.tenant_of(creator_id, twin_id)))

    def _delete(self, ids: Iterable[str], tenant: Tenant) -> Steps[int]:
        where, before = yield from self._to_write(tenant)
        wanted = requests.ids_of(ids)

        def delete(_: Side, places: Sequence[Place]) -> Steps[int]:
            deleted, unseen = 0, self.journal.unseen
            for place in places:
                deleted += yield writing.delete(self._index(place), place, tenant, wanted, unseen, before)
            return deleted

        return (yield from self._put(where, wanted, delete, before))

    def delete_by_filter(
        self,
        filter: Filter,
        creator_id: str | None = None,
        twin_id: str | None = None,
        *,
        at_most: int = AT_MOST,
        dry_run: bool = False,
    ) -> Filtered:
        """Delete the records of one tenant that a metadata filter matches; no other tenant's record is deleted.

        It reads all of the tenant's records, and each match again right before it is deleted. What changed within the
        time of these two requests may go though it matches no more. Raises Refused, and deletes nothing, if more than
        `at_most` match. A dry run only counts, and is refused where a deletion would be. Raises RoutesTooOld and
        WritesFrozen, as a write does: what was deleted before stays deleted, and the same again deletes the rest.
        """
        filtered.require_cap(at_most)
        wanted = Wanted(requests.tenant_of(creator_id, twin_id), compile_filter(filter))
        return self._run(self._delete_by_filter(wanted, at_most, dry_run))

    def _delete_by_filter(self, wanted: Wanted, at_most: int, dry_run: bool) -> Steps[Filtered]:
        where, before = yield from self._to_write(wanted.tenant)
        found = filtered.look(where.reads, self._index, wanted, at_most)
        if dry_run:
            return found.after(deleted=0)
        filtered.require_few(found.count, at_most)
        deleted = 0
        for ids in finding.chunks(found.ids, filtered.AT_ONCE):
            deleted += yield from self._delete_if_wanted(where, wanted, ids, before)
        return found.after(deleted)

    def _delete_if_wanted(self, where: Where, wanted: Wanted, ids: Sequence[str], before: Before) -> Steps[int]:
        """Delete of these what the readers' side still shows to be wanted; on a dual route the same ids elsewhere."""
        gone: list[str] = []

        def delete(side: Side, places: Sequence[Place]) -> Steps[int]:
            for place in places:
                index = self._index(place)
                if side == where.side:
                    gone.extend((yield filtered.delete(index, place, wanted, ids, before)))
                else:
                    yield writing.delete(index, place, wanted.tenant, gone, self.journal.unseen, before)
            return len(gone)

        return (yield from self._put(where, ids, delete, before))

    def replay(self) -> int:
        """Copy to each side the due records that the journal says it is owed. Returns how many are still owed.

        Writers do so by themselves every few seconds. Call this when the application starts, and now and then if it
        writes rarely.
        """
        if self.rollout is None:  # nothing says where the other side is
            return self.journal.count()

        def to_write(tenant: Tenant) -> tuple[Where, Before]:
            return self._run(self._to_write(tenant))

        def write(place: Place, records: Sequence[Record], before: Before) -> object:
            return self._serving(place).write(place.namespace, records, before)

        return journal.replay(self.journal, journal.Sides(to_write, self._index, write, self.books.fenced))

    # Reading

    def query(
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
        return self._run(self._query(vector, creator_id, twin_id, top_k, filter, include_metadata, options))

    def query_across_twins(
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
        return self._run(self._query_twins(vector, creator_id, twin_ids, top_k, filter, include_metadata, options))

    # Erasing

    def delete_twin(self, creator_id: str, twin_id: str) -> bool:
        """Delete a twin's namespace. True when its absence was confirmed."""
        return self.erase(creator_id, requests.twin_of(twin_id)).confirmed

    def delete_creator(self, creator_id: str) -> bool:
        """Delete every namespace of a creator. True when their absence was confirmed."""
        return self.erase(creator_id).confirmed

    delete_creator_data = delete_creator

    def erase(
        self,
        creator_id: str,
        twin_id: str | None = None,
        *,
        who: str = "an application",
        export: erasing.Export | None = None,
        repoint: Mapping[str, str] | None = None,
    ) -> erasing.Erased:
        """Erase a creator or a twin from every place of its records; return the deletions and the records left.

        `export` gets each place before its deletion; `repoint` says where aliases of deleted namespaces then lead.
        """
        tenant = requests.tenant_of(creator_id, twin_id)
        known, indexes, elsewhere = self._where_all(tenant)
        erased = erasing.erase(
            indexes,
            tenant,
            known=known,
            books=self.books,
            who=who,
            export=export,
            repoint=repoint,
            elsewhere=elsewhere,
            on_begun=lambda: self.journal.forget(tenant),
            lands_s=erasing.lands_s(self.settings, indexes),
        )
        self.journal.forget(tenant)  # for writes that were under way
        return erased

    def verify_deletion(self, creator_id: str) -> bool:
        """Say whether this creator has no listed namespace, and no record among others', any more."""
        tenant = requests.tenant_of(creator_id, None)
        known, indexes, elsewhere = self._where_all(tenant)
        return not elsewhere and not any(finding.find(index, tenant, known(index.info.name)).found for index in indexes)

    def _where_all(self, tenant: Tenant) -> tuple[finding.KnownAt, list[Index], list[str]]:
        """Return what is known of a tenant, the indexes that may hold its records, and the places out of reach."""
        names.build(tenant.creator, tenant.twin)
        if self.rollout is None:
            return finding.known_nowhere, [self.data], []
        told = self.rollout.known_of(tenant, self.index_name)
        if told is None:
            return finding.known_nowhere, [self.data], ["the old namespaces: the routes that name them cannot be read"]
        known, named = told
        others = [self._index(Place("", name)) for name in sorted(named - {self.index_name})]
        return known, [self.data, *others], []

    # Waiting

    def _run(self, steps: Steps[T]) -> T:
        given: Any = None
        while True:
            try:
                given = steps.send(given)
            except StopIteration as end:
                result: T = end.value
                return result

    def _info(self, place: Place) -> IndexInfo:
        info: IndexInfo = self._serving(place).info
        return info

    def _blocking(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return call(*arguments)

    def _ask_all(self, asks: Sequence[Ask], *, apart: bool = False) -> list[list[Hit]]:
        if apart:  # one after the other, because this runs on the threads that the code below waits for
            return [self._ask(ask) for ask in asks]
        return list(self._threads.get().map(self._ask, asks))

    def _in_background(self, steps: Steps[object]) -> None:
        self._threads.get().submit(self._run, steps)

    def _replay_in_background(self) -> None:
        self._threads.get().submit(self.replay).add_done_callback(journal.tell_unexpected)

    def _index(self, place: Place) -> Index:
        key = place.index or self.index_name, place.names
        opened: PerProcess[Index] = PerProcess(lambda: self._accounts.open(*key))
        return self._indexes.setdefault(key, opened).get()


PineconeServerlessManager = PineconeDelphiClient
"""The client's name in seed 003."""

_shared = PerProcess(lambda: PineconeDelphiClient(rollout=shared_rollout()))


def get_delphi_client() -> PineconeDelphiClient:
    """Return the one client of this process, made from the environment when first asked for."""
    return _shared.get()
