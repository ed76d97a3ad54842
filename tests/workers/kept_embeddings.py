"""The vectors and costs that the job table keeps of texts, as a test asks for it."""

from collections.abc import Callable, Sequence

import numpy as np
import sqlalchemy as sa
from embedding_service import KEY, EmbeddingService
from job_table import JobTable

from orchestrator.core.model import Lease
from orchestrator.ledger import embeddings as kept
from orchestrator.ledger import tables as t
from orchestrator.ledger.embeddings import Spent, Wanted
from vecfleet.embedders.models import EmbeddingModel
from vecfleet.embedders.opening import open_model
from vecfleet.embedders.texts import cache_key
from vecfleet.settings import Settings
from workers.embedding import Embedded

NAME, REVISION = "openai/a-model", "a-model-2026"
RESERVE_S = 60.0
TEXTS = ["a red apple", "a green pear", "two plums"]

Ask = Callable[..., Embedded]
ANA, BEN = frozenset({"a" * 64}), frozenset({"b" * 64})


def as_card_says(model: EmbeddingModel, **changes: object) -> EmbeddingModel:
    """The same model of the embedding service, with other limits or another price."""
    card = model.card.model_copy(update=changes)
    return open_model(card, Settings(openai_api_key=KEY, openai_base_url=f"http://{card.endpoint}/v1"))  # type: ignore[arg-type]


def costs(table: JobTable) -> Spent:
    with table.begin() as connection:
        return kept.spent(connection, table.job_id)


def keys_kept(table: JobTable) -> int:
    with table.begin() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(t.embedding)).scalar_one())


def wanted(model: EmbeddingModel, texts: Sequence[str], subjects: frozenset[str] = ANA) -> dict[bytes, Wanted]:
    return {cache_key(model.card, "passage", text, cut=False): Wanted(100, subjects) for text in texts}


def next_attempt(table: JobTable, lease: Lease) -> Lease:
    """The worker is dead: its lease expires, and another worker leases the batch."""
    table.expire(lease)
    table.reap()
    (again,) = [lease for lease in table.take() if lease is not None]
    return again


def expected(service: EmbeddingService, texts: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(np.array(service.vector(text), "<f4").tobytes() for text in texts)


def forget(table: JobTable, subjects: frozenset[str]) -> int:
    (subject,) = subjects
    with table.begin() as connection:
        return kept.forget(connection, subject)


def use(table: JobTable, model: EmbeddingModel, text: str, days_ago: int) -> None:
    (key,) = wanted(model, [text])
    with table.begin() as connection:
        ago = sa.func.clock_timestamp() - sa.func.make_interval(0, 0, 0, days_ago)
        connection.execute(sa.update(t.embedding).where(t.embedding.c.key == key).values(used_at=ago))
