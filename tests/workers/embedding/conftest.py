"""A model of a service on loopback, and the embeddings of a worker that holds one of two batches."""

from collections.abc import Callable, Iterator, Sequence
from threading import Event
from typing import Any

import pytest
from embedding_service import KEY, EmbeddingService, serving
from job_table import JobTable, plan_of, planned
from kept_embeddings import (
    ANA,
    NAME,
    RESERVE_S,
    REVISION,
    TEXTS,
    Ask,
)

from orchestrator.core.model import Lease
from orchestrator.ledger.database import Database
from orchestrator.telemetry.counters import Counters
from vecfleet.embedders.models import EmbeddingModel
from vecfleet.embedders.opening import look_up, open_model
from vecfleet.settings import Settings
from workers import calls as calls_of
from workers.calls import Calls
from workers.embedding import Embedded, Embeddings
from workers.leases import Held
from workers.pace import Pace


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls_of, "_FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(calls_of, "_LONGEST_WAIT_S", 0.01)


@pytest.fixture
def service() -> Iterator[EmbeddingService]:
    with serving() as service:
        service.revision = REVISION
        yield service


@pytest.fixture
def table(database_url: str) -> Iterator[JobTable]:
    """A job table with two copy batches that may be leased."""
    database = Database(database_url, pool_size=6)
    table = JobTable(database)
    table.apply(plan_of(planned("s", "t")))
    table.listed({"s": [["a"], ["b"]]})
    yield table
    database.dispose()


@pytest.fixture
def leases(table: JobTable) -> Sequence[Lease]:
    return table.take()


@pytest.fixture
def model(service: EmbeddingService) -> EmbeddingModel:
    settings = Settings(openai_api_key=KEY, openai_base_url=service.url)  # type: ignore[arg-type]
    card = look_up(NAME, settings).model_copy(update={"tokens_per_minute": 1e9, "requests_per_minute": 1e6})
    service.billed.clear()
    service.requests.clear()
    return open_model(card, settings)


@pytest.fixture
def embeddings_of(
    table: JobTable, leases: Sequence[Lease], model: EmbeddingModel, pace: Pace, redis_url: str
) -> Callable[..., Embeddings]:
    """Return the embeddings of a worker that holds one of the batches, or another lease."""

    def embeddings_of(lease: Lease | None = None, asks: EmbeddingModel = model, **options: Any) -> Embeddings:
        calls = Calls(pace, Counters(redis_url), 1.0, Held(lease or leases[0], Event()), 5.0)
        return Embeddings(table.database, asks, calls, RESERVE_S, **options)

    return embeddings_of


@pytest.fixture
def ask(embeddings_of: Callable[..., Embeddings]) -> Ask:
    def ask(
        texts: Sequence[str] = TEXTS,
        subjects: frozenset[str] = ANA,
        before: Callable[[frozenset[str]], None] = lambda subjects: None,
        **options: Any,
    ) -> Embedded:
        return embeddings_of(**options).values_of(texts, [subjects] * len(texts), before)

    return ask
