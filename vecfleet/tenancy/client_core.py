"""The steps of both clients, written once: generators that yield every slow call, and a shell that waits for it.

The shell makes the values that a step yields: in the client for threads the result itself, in the client for coroutines
something to await. `requests` decides without waiting.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from vecfleet import logs, names
from vecfleet.connections import PINECONE
from vecfleet.errors import BadInput, StoreError, Transient, Unreachable
from vecfleet.names import Tenant
from vecfleet.settings import Settings
from vecfleet.stores.serving import Filter, Hit, Question
from vecfleet.tenancy import journal, requests, writing
from vecfleet.tenancy.journal import Journal
from vecfleet.tenancy.options import DEFAULT_INDEX, text_options
from vecfleet.tenancy.places import Place, RecordModel, Side, Where, admitted
from vecfleet.tenancy.query_metrics import Observe, QueryMetrics
from vecfleet.tenancy.question_models import Embed, by_vector, embedding_by, may_ask_other, model_to_ask
from vecfleet.tenancy.requests import Answer, Ask, QueryOptions
from vecfleet.tenancy.rollout import Rollout
from vecfleet.tenancy.shadow_reads import ShadowLog

log = logs.get_logger("vecfleet.tenancy")

T = TypeVar("T")
Steps = Generator[Any, Any, T]
Put = Callable[[Side, Sequence[Place]], Steps[int]]
OnSide = Callable[[Side, Where, requests.Homes], Iterable[tuple[Place, Any]]]
Names = tuple[tuple[str, str], ...]
Check = Callable[[], Any]
"""A `Before` of the client for threads, an `AsyncBefore` of the one for coroutines."""


class ClientCore(ABC):
    """One index for tenants. A shell says how to wait, what runs in a thread, and what goes on in the background."""

    journal: Journal

    def __init__(
        self,
        index_name: str | None,
        settings: Settings | None,
        rollout: Rollout | None,
        observe: Observe | None,
        shadow: ShadowLog | None,
        embed: Embed | None,
        make: Callable[[Settings, str, Names], Any],
    ) -> None:
        self.settings = settings or Settings.load()
        self._embed = embed or embedding_by(self.settings)
        named = index_name or self.settings.pinecone_index_name or DEFAULT_INDEX
        self.index_name = named.removeprefix(f"{PINECONE}:")  # as routes and certificates spell it
        self.texts = text_options(self.settings)
        self.rollout = rollout
        self.shadow = shadow or ShadowLog()
        self._observe = observe
        self._make = make
        self._open: dict[tuple[str, Names], Any] = {}

    @abstractmethod
    def _run(self, steps: Steps[Any]) -> Any:
        """Run the steps to their end; return their result, or something to await for it."""

    @abstractmethod
    def _info(self, place: Place) -> Any:
        """Return the description of a place's index."""

    @abstractmethod
    def _blocking(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Make a call that reads a disk or the network."""

    @abstractmethod
    def _ask_all(self, asks: Sequence[Ask], *, apart: bool = False) -> Any:
        """Ask several questions at once. `apart`: in the background, for a caller who has an answer already."""

    @abstractmethod
    def _in_background(self, steps: Steps[object]) -> None:
        """Run the steps while the caller goes on."""

    @abstractmethod
    def _replay_in_background(self) -> None: ...

    @abstractmethod
    def _index(self, place: Place) -> Any:
        """Return a place's index as the fleet sees it."""

    # Names

    def _get_namespace(self, creator_id: str, twin_id: str | None = None) -> str:
        """Return the tenant's own namespace. Raises BadName for ids that can have none."""
        return names.build(creator_id, twin_id or None)

    get_namespace = _get_namespace

    def _serving(self, place: Place) -> Any:
        key = place.index or self.index_name, place.names
        serving = self._open.get(key)
        return serving if serving is not None else self._open.setdefault(key, self._make(self.settings, *key))

    def _where(self, tenant: Tenant, *, to_write: bool = False) -> Steps[Where]:
        if self.rollout is None:
            return requests.alone(tenant.creator, tenant.twin)
        routes = self.rollout.routes
        if routes is not None and routes.due:
            yield self._blocking(lambda: routes.refresh(to_write=to_write))
        where = self.rollout.where(tenant.creator, tenant.twin, to_write=to_write, own_index=self.index_name)
        return admitted(where)

    def _model_of(self, tenant: Tenant) -> Steps[str | None]:
        where = yield from self._where(tenant)
        model = where.reads[0].model
        return model.name if model is not None else None

    # Writing

    def _to_write(self, tenant: Tenant) -> Steps[tuple[Where, Check]]:
        """Return a write's places, and a check to run before each of its calls leaves and after the last answer."""
        where = yield from self._where(tenant, to_write=True)
        leave = requests.Leave(where, requests.clock_of(self.rollout))

        def renewed() -> Steps[None]:
            if not leave.stands:
                leave.renew((yield from self._where(tenant, to_write=True)))

        yield from renewed()
        requests.require_not_frozen(leave.where)
        return leave.where, lambda: self._run(renewed())

    def _upsert_vectors(
        self, vectors: Iterable[Any], creator_id: str | None, twin_id: str | None, metadata: Mapping[str, Any] | None
    ) -> Steps[int]:
        where, before = yield from self._to_write(requests.tenant_of(creator_id, twin_id))
        records = requests.records_of(vectors, where, metadata, (yield self._info(where.write)))
        ids = [record.id for record in records]
        return (yield from self._upsert(where, before, ids, partial(requests.records_on, items=records), "write"))

    def _upsert_texts(
        self, texts: Iterable[Mapping[str, Any]], creator_id: str | None, twin_id: str | None
    ) -> Steps[int]:
        where, before = yield from self._to_write(requests.tenant_of(creator_id, twin_id))
        flat = requests.texts_of(texts, where, self.texts.field)
        ids = [text["_id"] for text in flat]
        return (yield from self._upsert(where, before, ids, partial(requests.texts_on, items=flat), "write_texts"))

    def _upsert(self, where: Where, before: Check, ids: Sequence[str], on_side: OnSide, method: str) -> Steps[int]:
        looks = writing.looks(where)
        homes = (yield self._blocking(writing.homes_of, where, ids, self._index)) if looks else {}

        def put(side: Side, _: Sequence[Place]) -> Steps[int]:
            taken = 0
            for place, batch in on_side(side, where, homes):
                taken += yield getattr(self._serving(place), method)(place.namespace, batch, before)
            return taken

        return (yield from self._put(where, ids, put, before))

    def _put(self, where: Where, ids: Sequence[str], put: Put, before: Check) -> Steps[int]:
        """Write to the tenant's side; on a dual route also to the other one, which is owed the records if it fails."""
        if where.dual:
            taken = yield from self._put_to_both(where, ids, put, before)
        else:
            if where.shares:
                yield self._blocking(self.journal.outdate, where.tenant, ids)
            taken = yield from put(where.side, where.reads)
            yield before()
        if (where.dual or where.shares) and (yield self._blocking(self.journal.look)):
            self._replay_in_background()
        return taken

    def _put_to_both(self, where: Where, ids: Sequence[str], put: Put, before: Check) -> Steps[int]:
        """Write to the side of the readers, then to the other one, which is owed the records of a failed write.

        A process that dies in between leaves these records in the journal. Safe to repeat: a repeated write is the
        same.
        """
        noted = yield self._blocking(self.journal.note, where, ids)
        first = both = False
        try:
            taken = yield from put(where.side, where.reads)
            yield before()
            first = True
            try:
                yield from put(noted.side, where.other)
                both = True
            except (StoreError, Unreachable) as error:
                journal.tell_owed(noted, error)
        finally:
            yield self._blocking(lambda: self.journal.settle(noted, both, taken=first))
        return taken

    # Reading

    def _query(
        self,
        vector: Any,
        creator_id: str | None,
        twin_id: str | None,
        top_k: int,
        filter: Filter | None,
        include_metadata: bool,
        options: QueryOptions,
    ) -> Steps[Answer]:
        tenant = requests.tenant_of(creator_id, twin_id)
        question = requests.question_of(self.texts, vector, top_k, filter, include_metadata, **options)
        where = yield from self._where(tenant)
        asked = yield from self._in_model(where.reads, question)
        started = time.perf_counter()
        try:
            hits = yield from self._best(tenant, where.reads, asked)
        except (StoreError, Unreachable) as error:
            took_ms = self._tell(where, question, started, [], type(error).__name__)
            may_fall_back = requests.may_fall_back(where, self.rollout) and may_ask_other(where, question)
            if not (isinstance(error, Transient) and may_fall_back):
                raise
            self.shadow.record(where.job, took_ms, True, None)
            asked = yield from self._in_model(where.other, question)
            return Answer((yield from self._best(tenant, where.other, asked)), where.other[0].namespace)
        took_ms = self._tell(where, question, started, hits, None)
        if where.other and may_ask_other(where, question) and self.shadow.drawn(where.shadow_share):
            self._in_background(self._compare(where, question, hits, took_ms))
        return Answer(hits, where.reads[0].namespace)

    def _query_twins(
        self,
        vector: Any,
        creator_id: str | None,
        twin_ids: Sequence[str] | None,
        top_k: int,
        filter: Filter | None,
        include_metadata: bool,
        options: QueryOptions,
    ) -> Steps[list[Hit]]:
        creator = requests.tenant_of(creator_id, None).creator
        question = requests.question_of(self.texts, vector, top_k, filter, include_metadata, **options)
        every = twin_ids if twin_ids is not None else (yield self.list_creator_twins(creator))
        sent: dict[RecordModel | None, Question] = {}
        asks: list[Ask] = []
        for twin in requests.twins_of(creator, every):
            where = yield from self._where(twin)
            model = where.reads[0].model
            if model not in sent:
                sent[model] = requests.sent_often((yield from self._in_model(where.reads, question)))
            asks += requests.asks_of(twin, where.reads, sent[model])
        return (yield from self._merged(asks, top_k, include_metadata))

    @abstractmethod
    def list_creator_twins(self, creator_id: str) -> Any:
        """Return the creator's twins that have a namespace, or a route, sorted."""

    def _in_model(self, places: Sequence[Place], question: Question) -> Steps[Question]:
        """Return the question as these places are asked: in the model of their records, where their route names it."""
        model = model_to_ask(places, question)
        if model is not None:
            return by_vector(question, (yield self._blocking(self._embed, model, question.text)))
        if question.text is not None and question.embed is not None:
            return by_vector(question, (yield self._blocking(question.embed, question.text)))
        return question

    def _best(
        self, tenant: Tenant, places: Sequence[Place], question: Question, *, apart: bool = False
    ) -> Steps[list[Hit]]:
        if len(places) == 1 and places[0].built:  # nearly every query, so it takes the shortest way
            hits: list[Hit] = yield self._serving(places[0]).ask(places[0].namespace, question)
            return hits
        asks = requests.asks_of(tenant, places, question)
        return (yield from self._merged(asks, question.top_k, question.metadata, apart=apart))

    def _merged(self, asks: Sequence[Ask], top_k: int, metadata: bool, *, apart: bool = False) -> Steps[list[Hit]]:
        answers = [(yield self._ask(asks[0]))] if len(asks) == 1 else (yield self._ask_all(asks, apart=apart))
        lists = requests.heard(asks, answers, metadata=metadata)
        metric = (yield self._info(Place(""))).metric if len(lists) > 1 else None
        return requests.merged(lists, top_k, metric)

    def _ask(self, ask: Ask) -> Any:
        return self._serving(ask.place).ask(ask.place.namespace, ask.question)

    def _compare(self, where: Where, question: Question, hits: Sequence[Hit], took_ms: float) -> Steps[None]:
        """Ask the other side the same question, and note how the new side compares with the old one."""
        try:
            asked = yield from self._in_model(where.other, question)
        except (BadInput, StoreError, Unreachable) as error:  # of the model, and no evidence about a side
            log.warning("a shadow read is left out: its question is not embedded", why=type(error).__name__)
            return
        started = time.perf_counter()
        failed, others = False, list[Hit]()
        try:
            others = yield from self._best(where.tenant, where.other, asked, apart=True)
        except (StoreError, Unreachable):
            failed = True
        requests.note_shadow(self.shadow, where, hits, took_ms, others, (time.perf_counter() - started) * 1000, failed)

    def _tell(self, where: Where, question: Question, started: float, hits: Sequence[Hit], error: str | None) -> float:
        took_ms = (time.perf_counter() - started) * 1000
        if self._observe is not None:
            self._observe(QueryMetrics(took_ms, where.reads[0].namespace, question.top_k, len(hits), error))
        return took_ms
