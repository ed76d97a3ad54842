"""The client for threads. `async_client` is its twin for coroutines; `requests` and `rollout` decide for both."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

from vecfleet import names
from vecfleet.errors import StoreError, Transient, Unreachable
from vecfleet.names import Tenant
from vecfleet.records import Record
from vecfleet.settings import Settings
from vecfleet.stores.base import Index
from vecfleet.stores.pinecone import PineconeServing, PineconeStore
from vecfleet.stores.pinecone.clients import PerProcess
from vecfleet.stores.pinecone.serving import CONNECTIONS
from vecfleet.stores.serving import Before, Filter, Hit, Question, Serving
from vecfleet.tenancy import erasing, finding, journal, requests, writing
from vecfleet.tenancy.fences import Books, books_of
from vecfleet.tenancy.journal import Journal
from vecfleet.tenancy.options import DEFAULT_INDEX, text_options
from vecfleet.tenancy.places import Place, Side, Where, admitted
from vecfleet.tenancy.query_metrics import Observe, QueryMetrics
from vecfleet.tenancy.requests import Answer, Ask
from vecfleet.tenancy.rollout import Rollout, shared_rollout
from vecfleet.tenancy.shadow_reads import ShadowLog


class PineconeDelphiClient:
    """Reads and writes a tenant's records where they are now. Nothing is sent before the first call.

    Without a `rollout` every tenant has its own namespace; with one, its route says which side it uses. `observe` is
    called with every query, `shadow` with every query asked of both sides. `books` keep the fence of an erasure
    (default: those that VECFLEET_FENCE names). On a dual route it writes to both sides; its `journal`, under
    VECFLEET_HOME, says what one of them is still owed. May be shared by threads and carried over a fork.
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
    ) -> None:
        self.settings = settings or Settings.load()
        self.index_name = index_name or self.settings.pinecone_index_name or DEFAULT_INDEX
        self.rollout = rollout
        self.shadow = shadow or ShadowLog()
        self.texts = text_options(self.settings)
        self._observe = observe
        self._make = serving or (lambda name: PineconeServing(self.settings, name))
        self._open: dict[str, Serving] = {}
        self._threads = PerProcess(lambda: ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="twins"))
        self._store = PineconeStore(self.settings)
        self._indexes: dict[str, PerProcess[Index]] = {}
        self.journal = Journal.of(self.settings)
        self.books = books or books_of(self.settings)

    # Names

    def _get_namespace(self, creator_id: str, twin_id: str | None = None) -> str:
        """Return the tenant's own namespace. Raises BadName for ids that can have none."""
        return names.build(creator_id, twin_id or None)

    get_namespace = _get_namespace

    def list_creator_twins(self, creator_id: str) -> list[str]:
        """Return the creator's twins that have a namespace, or a route, sorted."""
        routed = self.rollout.twins(creator_id) if self.rollout is not None else []
        return sorted({*finding.twins_of(self.data, creator_id), *routed})

    @property
    def data(self) -> Index:
        """The index as the fleet sees it: namespaces, ids, records."""
        return self._index(Place(""))

    @property
    def serving(self) -> Serving:
        """The index for questions, of any tenant: for keep-alives. It guards nothing."""
        return self._serving(Place(""))

    # Writing

    def upsert_vectors(
        self,
        vectors: Iterable[Any],
        creator_id: str | None = None,
        twin_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> int:
        """Write vectors, each with its owner in its metadata, and `metadata` besides. Returns how many were taken.

        The arguments are not changed. Raises RoutesTooOld if the routes are too old: a write must not miss.
        """
        tenant = requests.tenant_of(creator_id, twin_id)
        where, before = self._to_write(tenant)
        info = self._serving(where.write).info
        records = requests.records_of(vectors, where, metadata, info)
        ids = [record.id for record in records]
        homes = writing.homes_of(where, ids, self._index)

        def put(side: Side, _: Sequence[Place]) -> int:
            on_side = requests.records_on(side, where, homes, records)
            return sum(self._serving(place).write(place.namespace, batch, before) for place, batch in on_side)

        return self._put(where, ids, put, before)

    def upsert_texts(
        self, texts: Iterable[Mapping[str, Any]], creator_id: str | None = None, twin_id: str | None = None
    ) -> int:
        """Write texts (`id`, `text`, further fields) into an index that embeds them itself."""
        tenant = requests.tenant_of(creator_id, twin_id)
        where, before = self._to_write(tenant)
        flat = requests.texts_of(texts, where, self.texts.field)
        ids = [text["_id"] for text in flat]
        homes = writing.homes_of(where, ids, self._index)

        def put(side: Side, _: Sequence[Place]) -> int:
            on_side = requests.texts_on(side, where, homes, flat)
            return sum(self._serving(place).write_texts(place.namespace, batch, before) for place, batch in on_side)

        return self._put(where, ids, put, before)

    def delete_vectors(self, ids: Iterable[str], creator_id: str | None = None, twin_id: str | None = None) -> int:
        """Delete single records of one tenant. Returns how many were there; no other tenant's record is deleted."""
        tenant = requests.tenant_of(creator_id, twin_id)
        where, before = self._to_write(tenant)
        wanted = requests.ids_of(ids)

        def delete(_: Side, places: Sequence[Place]) -> int:
            unseen = self.journal.unseen
            return sum(writing.delete(self._index(place), place, tenant, wanted, unseen, before) for place in places)

        return self._put(where, wanted, delete, before)

    def replay(self) -> int:
        """Bring to each side what the journal says it is owed and is due. Returns how many records are still owed.

        Writers do so by themselves every few seconds; call it when the application starts, and at times if it is quiet.
        """
        if self.rollout is None:  # nobody tells where the other side is
            return self.journal.count()

        def write(place: Place, records: Sequence[Record], before: Before) -> int:
            return self._serving(place).write(place.namespace, records, before)

        return journal.replay(self.journal, journal.Sides(self._to_write, self._index, write, self.books.fenced))

    # Reading

    def query(
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
        return self._answer(self._where(tenant), question)

    def query_across_twins(
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
        twins = requests.twins_of(creator, self.list_creator_twins(creator) if twin_ids is None else twin_ids)
        sent = requests.sent_often(question)
        wheres = [self._where(twin) for twin in twins]
        asks = list(chain.from_iterable(requests.asks_of(where.tenant, where.reads, sent) for where in wheres))
        heard = requests.heard(asks, self._ask_all(asks), metadata=include_metadata)
        return requests.merged(heard, top_k, self._metric(len(heard)))

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
        """Erase a creator or a twin from wherever its records are; return what was deleted and what is left.

        `export` is given each place before its deletion; `repoint` says where aliases of deleted namespaces lead then.
        """
        tenant = requests.tenant_of(creator_id, twin_id)
        known, indexes, elsewhere = self._where_all(tenant)
        self.journal.forget(tenant)
        erased = erasing.erase(
            indexes,
            tenant,
            known=known,
            books=self.books,
            who=who,
            export=export,
            repoint=repoint,
            elsewhere=elsewhere,
            lands_s=erasing.lands_s(self.settings, indexes),
        )
        self.journal.forget(tenant)  # for writes that were under way
        return erased

    def verify_deletion(self, creator_id: str) -> bool:
        """Say whether nothing of this creator is there: no namespace that the index lists, no record among others'."""
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

    # Inside

    def _where(self, tenant: Tenant, *, to_write: bool = False) -> Where:
        if self.rollout is None:
            return requests.alone(tenant.creator, tenant.twin)
        where = self.rollout.where(tenant.creator, tenant.twin, to_write=to_write, own_index=self.index_name)
        return admitted(where)

    def _to_write(self, tenant: Tenant) -> tuple[Where, Before]:
        """Return a write's places, and a check to run before each of its calls leaves and after the last answer."""
        leave = requests.Leave(self._where(tenant, to_write=True), requests.clock_of(self.rollout))

        def before() -> None:
            if not leave.stands:
                leave.renew(self._where(tenant, to_write=True))

        before()
        return leave.where, before

    def _serving(self, place: Place) -> Serving:
        name = place.index or self.index_name
        serving = self._open.get(name)
        return serving if serving is not None else self._open.setdefault(name, self._make(name))

    def _index(self, place: Place) -> Index:
        name = place.index or self.index_name
        opened: PerProcess[Index] = PerProcess(lambda: self._store.open(self._store.describe(name)))
        return self._indexes.setdefault(name, opened).get()

    def _put(
        self, where: Where, ids: Sequence[str], put: Callable[[Side, Sequence[Place]], int], before: Before
    ) -> int:
        """Write to the tenant's side and, on a dual route, to the other too; a failed write there is owed to it."""
        if not where.dual:
            if where.shares:
                self.journal.outdate(where.tenant, ids)
            taken = put(where.side, where.reads)
            before()
        else:
            taken = writing.put_to_both(self.journal, where, ids, put, before)
        if (where.dual or where.shares) and self.journal.look():
            self._threads.get().submit(self.replay).add_done_callback(journal.tell_unexpected)
        return taken

    def _metric(self, lists: int) -> str | None:
        return self.serving.info.metric if lists > 1 else None

    def _answer(self, where: Where, question: Question) -> Answer:
        started = time.perf_counter()
        try:
            hits = self._best(where.tenant, where.reads, question)
        except (StoreError, Unreachable) as error:
            took_ms = self._tell(where, question, started, [], type(error).__name__)
            if not (isinstance(error, Transient) and requests.may_fall_back(where, self.rollout)):
                raise
            self.shadow.record(where.job, took_ms, True, None)
            return Answer(self._best(where.tenant, where.other, question), where.other[0].namespace)
        took_ms = self._tell(where, question, started, hits, None)
        if where.other and self.shadow.drawn(where.shadow_share):
            self._threads.get().submit(self._compare, where, question, hits, took_ms)
        return Answer(hits, where.reads[0].namespace)

    def _best(self, tenant: Tenant, places: Sequence[Place], question: Question) -> list[Hit]:
        if len(places) == 1 and places[0].built:  # nearly every query, so it takes the shortest way
            return self._serving(places[0]).ask(places[0].namespace, question)
        asks = requests.asks_of(tenant, places, question)
        heard = requests.heard(asks, self._ask_all(asks), metadata=question.metadata)
        return requests.merged(heard, question.top_k, self._metric(len(heard)))

    def _ask_all(self, asks: Sequence[Ask]) -> list[list[Hit]]:
        if len(asks) == 1:
            return [self._ask(asks[0])]
        return list(self._threads.get().map(self._ask, asks))

    def _ask(self, ask: Ask) -> list[Hit]:
        return self._serving(ask.place).ask(ask.place.namespace, ask.question)

    def _compare(self, where: Where, question: Question, hits: Sequence[Hit], took_ms: float) -> None:
        """Ask the other side the same, and note how the new one compares with the old one."""
        started = time.perf_counter()
        failed, others = False, list[Hit]()
        try:
            asks = requests.asks_of(where.tenant, where.other, question)
            # One after the other: this runs on the threads that `_ask_all` would wait for.
            heard = requests.heard(asks, [self._ask(ask) for ask in asks], metadata=question.metadata)
            others = requests.merged(heard, question.top_k, self._metric(len(heard)))
        except (StoreError, Unreachable):
            failed = True
        requests.note_shadow(self.shadow, where, hits, took_ms, others, (time.perf_counter() - started) * 1000, failed)

    def _tell(self, where: Where, question: Question, started: float, hits: Sequence[Hit], error: str | None) -> float:
        took_ms = (time.perf_counter() - started) * 1000
        if self._observe is not None:
            self._observe(QueryMetrics(took_ms, where.reads[0].namespace, question.top_k, len(hits), error))
        return took_ms


PineconeServerlessManager = PineconeDelphiClient
"""The name it has in seed 003."""

_shared = PerProcess(lambda: PineconeDelphiClient(rollout=shared_rollout()))


def get_delphi_client() -> PineconeDelphiClient:
    """Return the one client of this process, made from the environment when first asked for."""
    return _shared.get()
