"""The vectors of texts that are kept take no more room than they may, and no dead worker holds a text for ever."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from embedding_service import KEY, serving
from job_table import JobTable, plan_of, planned
from kept_embeddings import costs, keys_kept, wanted

from orchestrator.core.model import Lease
from orchestrator.ledger import embeddings as kept
from orchestrator.ledger import tables as t
from orchestrator.ledger.database import Database
from orchestrator.services.kept_vectors import Trim
from vecfleet.embedders.models import EmbeddingModel
from vecfleet.embedders.opening import look_up, open_model
from vecfleet.settings import Settings

TEXTS = ["a red apple", "a green pear", "two plums"]
VECTOR = b"\0" * 4 * 8
RESERVE_S = 60.0


@pytest.fixture
def table(database_url: str) -> Iterator[JobTable]:
    database = Database(database_url)
    table = JobTable(database)
    table.apply(plan_of(planned("s", "t")))
    table.listed({"s": [["a"]]})
    yield table
    database.dispose()


@pytest.fixture
def lease(table: JobTable) -> Lease:
    (lease,) = table.take()
    return lease


@pytest.fixture
def model() -> EmbeddingModel:
    """A model that is asked for nothing: what is kept here was made up."""
    with serving() as service:
        settings = Settings(openai_api_key=KEY, openai_base_url=service.url)  # type: ignore[arg-type]
        return open_model(look_up("openai/a-model", settings), settings)


def answer(table: JobTable, lease: Lease, model: EmbeddingModel) -> None:
    """Every text is asked for and kept, unless it is kept already."""
    texts = wanted(model, TEXTS)
    with table.begin() as connection:
        kept.reserve(connection, lease, texts, RESERVE_S)
        kept.begin_request(connection, lease, list(texts), RESERVE_S)
        kept.keep(connection, lease, dict.fromkeys(texts, VECTOR))


def test_what_runs_beside_the_dispatcher_keeps_no_more_than_it_may(
    table: JobTable, lease: Lease, model: EmbeddingModel
) -> None:
    answer(table, lease, model)
    trim = Trim(table.database, 2 * len(VECTOR))
    assert not trim.step()
    assert keys_kept(table) == 2
    answer(table, lease, model)
    trim.step()
    assert keys_kept(table) == 3, "every five minutes is enough"


def test_texts_reserved_by_workers_long_dead_are_freed_and_what_they_may_have_cost_stays(
    table: JobTable, lease: Lease, model: EmbeddingModel
) -> None:
    texts = wanted(model, TEXTS)
    with table.begin() as connection:
        kept.reserve(connection, lease, texts, RESERVE_S)
        kept.begin_request(connection, lease, list(texts), RESERVE_S)
        long_ago = sa.func.clock_timestamp() - sa.text("interval '2 days'")
        connection.execute(sa.update(t.embedding).values(reserved_until=long_ago))
        kept.trim(connection, 10**9)
    assert keys_kept(table) == 0 and costs(table).unanswered == 300
