"""A job that embeds, in one process: the namespace `s` of `brain` into `brain-small`, by the local model."""

from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from embedding_service import KEY, EmbeddingService
from in_one_process import DEADLINE_S, One, Stored
from job_table import AT_ONCE, JobTable
from pydantic import SecretStr

from migrations.embedding import Embedding
from migrations.plan import Policies
from migrations.questions import gate_of
from migrations.recipes import Common
from migrations.reembedding import ReembedOptions, plan_reembed
from migrations.sealing import key_name
from migrations.texts import open_rows, rows_of
from orchestrator.ledger.database import Database
from vecfleet.embedders import LOCAL_MODEL
from vecfleet.embedders.opening import look_up, open_model
from vecfleet.records import Record
from vecfleet.settings import Settings
from vecfleet.stores.base import IndexInfo, Kind, Limits
from vecfleet.stores.memory import MemoryIndex, MemoryStore
from workers.process import WorkerProcess

DIMENSION = 64
OLD = IndexInfo("brain", Kind.DENSE, 8, "cosine", host="brain.local", cloud="aws", region="us-east-1")


def old(id: str, **metadata: Any) -> Record:
    """A record with a vector of the old model."""
    values = np.random.default_rng([*id.encode()]).standard_normal(8, dtype="<f4")
    return Record(id, values.tobytes(), metadata=metadata)


def open_embedding(
    ending: ExitStack,
    database_url: str,
    redis_url: str,
    root: Path,
    records: list[Record],
    *,
    questions: str | None = None,
    least_recall: float = 0.8,
    least_overlap: float = 0.0,
    namespace: str = "s",
    service: EmbeddingService | None = None,
    model: str = "openai/a-model",
    cache_key: str | None = None,
    price: float = 0.0,
    dollars_cap: float | None = None,
    texts_from: str | None = None,
    texts_url: str | None = None,
    cut_at: int | None = None,
    cache: bool = True,
    **policies: Any,
) -> One:
    """A job by the local model, or by the model of a service that costs so many dollars for a million tokens.

    `cut_at`: the model takes no more tokens, and the plan has longer texts cut.
    """
    provider = model.partition("/")[0]
    asked = {} if service is None else {f"{provider}_api_key": KEY, f"{provider}_base_url": service.url}
    settings = Settings(
        database_url=SecretStr(database_url),
        redis_url=SecretStr(redis_url),
        vecfleet_root=root,
        freshness_wait_seconds=0.2,
        request_deadline_seconds=DEADLINE_S,
        embedding_cache_key=SecretStr(cache_key) if cache_key is not None else None,
        texts_database_url=SecretStr(texts_url) if texts_url is not None else None,
        **asked,  # type: ignore[arg-type]
        _env_file=None,  # type: ignore[call-arg]
    )
    store = MemoryStore()
    source = store.create(OLD, Limits(upsert_records=10))
    for start in range(0, len(records), 10):
        source.upsert(namespace, records[start : start + 10])
    card = look_up(LOCAL_MODEL, settings, DIMENSION) if service is None else look_up(model, settings)
    if cut_at is not None:
        card = card.model_copy(update={"max_tokens": cut_at})
    rows = rows_of(settings, texts_from, "id")
    embedding = Embedding(
        card=card.model_copy(update={"dollars_per_million_tokens": price}),
        text="{text}",
        rows=rows,
        too_long="park" if cut_at is None else "cut",
        cache=cache,
        dollars_cap=dollars_cap,
        cache_key=key_name(settings),
        gate=gate_of(root, questions, least_recall, least_overlap),
    )
    chosen = Policies(**{"cut_over": "none", "soak_seconds": 0, **policies})
    texts = open_rows(rows, embedding.keys, settings) if rows is not None else None
    common = Common(policies=chosen, texts=texts)
    options = ReembedOptions(source="brain", target="brain-small", embedding=embedding, common=common)
    opened = open_model(embedding.card, settings)
    plan = plan_reembed(store, store, options, model=opened, now=datetime.now(UTC))
    like = replace(plan.target_like(source.info), name="brain-small", host="")
    target = store.create(like, Limits(upsert_records=10, reads_lag=False)).info
    fleet, table = Stored(settings, store), JobTable(Database(database_url, pool_size=4))
    table.apply(plan, target, source.info, AT_ONCE)
    ending.callback(table.database.dispose)
    ending.callback(fleet.database.dispose)
    return One(table, WorkerProcess(fleet), store.open(target))


def open_texts(
    ending: ExitStack,
    database_url: str,
    redis_url: str,
    root: Path,
    texts: list[str],
    service: EmbeddingService,
    **options: Any,
) -> One:
    """A job of a record for each text, by the model of this service, whose bill begins with the job."""
    records = [old(f"r{number:02}", text=text) for number, text in enumerate(texts)]
    one = open_embedding(ending, database_url, redis_url, root, records, service=service, **options)
    service.billed.clear()
    service.requests.clear()
    service.tokens = 0
    return one


def held(one: One) -> dict[str, Record]:
    """Return what the target holds."""
    assert isinstance(one.index, MemoryIndex)
    return dict(one.index.fetch("s", one.ids("s")).records)
