"""State of one worker process: connections, open indexes, leases. Built on first use, after a fork."""

import gc
import os
import socket
import threading
import uuid
from functools import cache

import sqlalchemy as sa

from migrations.embedding import Embedding, TextsRef
from migrations.routing import Router
from migrations.texts import TextRows, open_rows
from orchestrator.bootstrap import Fleet
from orchestrator.core import retrying
from orchestrator.core.model import Job, Lease
from orchestrator.core.wording import WORKER
from orchestrator.ledger import jobs, leasing
from orchestrator.telemetry.counters import Counters
from vecfleet.embedders.models import EmbeddingModel
from vecfleet.embedders.opening import open_model
from vecfleet.errors import BadInput
from vecfleet.model_cards import ModelCard
from vecfleet.settings import Settings
from vecfleet.stores.base import Index, IndexInfo, Store
from vecfleet.stores.encoded_ids import seen
from workers.leases import Holder
from workers.pace import Pace

# A batch of 250 records makes some thousands of objects and leaves none behind. At Python's own threshold of 700, the
# collector would visit each object several times while the batch is worked on.
_OBJECTS_PER_COLLECTION = 10_000

leaving = threading.Event()
"""Set once this process was told to stop and its grace is over: no request is begun, and batches are requeued."""


ending = threading.Event()
"""Set as soon as this process was told to stop: it finishes its batches and takes no more wake-ups."""


def leave_after(seconds: float) -> None:
    """Finish begun work for `seconds`; then requeue every batch that still waits or has requests to make.

    A request under way is waited for: if its batch were requeued at once, two workers could write it. Safe to repeat:
    the first call counts.
    """
    if ending.is_set():
        return
    ending.set()
    timer = threading.Timer(seconds, leaving.set)
    timer.daemon = True  # a process that finishes earlier does not wait for the timer
    timer.start()


def leave_now() -> None:
    """Begin no request any more, and requeue every batch in hand, whatever is left of the grace. Safe to repeat."""
    ending.set()
    leaving.set()


class WorkerProcess:
    """The parts that all tasks of a process share. Safe between threads."""

    def __init__(self, fleet: Fleet) -> None:
        if fleet.settings.redis_url is None:
            raise BadInput("REDIS_URL is not set", next_step="set it where the worker starts")
        self.fleet = fleet
        self.settings = fleet.settings
        self.database = fleet.database
        self.pace = Pace(fleet.settings.redis_url.get_secret_value())
        self.counters = Counters(fleet.settings.redis_url.get_secret_value())
        self.owner = leasing.owner_of(os.getpid()) + uuid.uuid4().hex[:8]
        times = self.settings.lease_seconds, self.settings.heartbeat_seconds
        self.holder = Holder(self.database, self.owner, *times, leaving)
        self._indexes: dict[tuple[str, str, bool, bool], Index] = {}
        self._models: dict[ModelCard, EmbeddingModel] = {}
        self._texts: dict[tuple[TextsRef, tuple[str, ...]], TextRows] = {}
        self._routers: dict[int, Router] = {}
        self._jobs: dict[int, tuple[str, Job]] = {}
        self._lock = threading.Lock()
        self._opening = threading.Lock()

    @property
    def is_ending(self) -> bool:
        """Say whether this process takes no further batch."""
        return ending.is_set()

    def describe(self, error: Exception) -> tuple[str, str]:
        """Return the error's class, and a sentence that names this process where what it was given is at fault."""
        name, text = retrying.describe(error)
        if isinstance(error, BadInput):
            text = f"{WORKER}{os.getpid()} on {socket.gethostname()}: {text}"
        return name, text

    def index(self, store: str, info: IndexInfo, *, encoded_ids: bool = False, for_texts: bool = False) -> Index:
        """Return the index at the host that the job has on record. Each process opens an index once.

        `for_texts`: to be written with texts, which it embeds itself.

        An index that was deleted and created again keeps its host, but may have another dimension or kind. The
        lock is short: opening asks the service nothing.
        """
        with self._lock:
            key = store, info.host, encoded_ids, for_texts
            opened = self._indexes.get(key)
            if opened is None or opened.info != info:
                named = self.fleet.store_named(store)
                opened = _opened_for_texts(named, info) if for_texts else seen(named, encoded_ids).open(info)
                self._indexes[key] = opened
            return opened

    def model(self, card: ModelCard) -> EmbeddingModel:
        """Return the embedding model of a card, opened once a process. Raises BadInput or ModelChanged.

        Threads wait for the one that opens a model: each would load a local one, one beside the other.
        """
        opened = self._models.get(card)
        if opened is not None:
            return opened
        with self._opening:
            if card not in self._models:
                self._models[card] = open_model(card, self.settings)
            return self._models[card]

    def texts(self, embedding: Embedding | None) -> TextRows | None:
        """Return the rows that a plan's texts are read from, opened once a process; None if the records hold them.

        Threads wait for the one that reads a file, which may be large. Raises BadInput, NotFound.
        """
        if embedding is None or embedding.rows is None:
            return None
        key = embedding.rows, embedding.keys
        opened = self._texts.get(key)
        if opened is not None:
            return opened
        with self._opening:
            if key not in self._texts:
                self._texts[key] = open_rows(embedding.rows, embedding.keys, self.settings)
            return self._texts[key]

    def job(self, connection: sa.Connection, lease: Lease) -> Job:
        """Return the job of a lease; read it again once its row has changed."""
        version, job = self._jobs.get(lease.job_id, ("", None))
        if job is None or version != lease.job_version:
            job = jobs.get(connection, lease.job_id)
            self._jobs[lease.job_id] = lease.job_version, job
        return job

    def router(self, job: Job) -> Router:
        """Return the routing rules of a job, read once a process: the job's ownership snapshot never changes.

        No lock is held while Postgres is asked: one thread that waits for its answer would stop all others. Threads
        that ask at the same time read the same.
        """
        router = self._routers.get(job.id)
        if router is None:
            with self.database.begin() as connection:
                ownership = jobs.ownership(connection, job.id)
            router = self._routers.setdefault(job.id, Router.of(job.plan, ownership))
        return router


def _opened_for_texts(store: Store, info: IndexInfo) -> Index:
    from vecfleet.stores.pinecone import PineconeStore  # loads the SDK

    assert isinstance(store, PineconeStore), "only Pinecone has indexes that embed texts"
    return store.open_for_texts(info)


_building = threading.Lock()


@cache
def _process(pid: int) -> WorkerProcess:
    parts = WorkerProcess(Fleet(Settings.load(), keeps_plans=True))
    # Objects that exist by now stay, and records have no cycles: visiting either again would be wasted time.
    gc.freeze()
    gc.set_threshold(_OBJECTS_PER_COLLECTION)
    return parts


def process() -> WorkerProcess:
    """Return this process's parts. The pid is the key, so that a forked child builds its own."""
    with _building:
        return _process(os.getpid())
