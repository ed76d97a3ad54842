"""A job that embeds, in one process: the namespace `s` of `brain` into `brain-small`, by the local model."""

from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from in_one_process import DEADLINE_S, One, Stored
from job_table import AT_ONCE, JobTable
from pydantic import SecretStr

from migrations.embedding import Embedding
from migrations.plan import Policies
from migrations.questions import gate_of
from migrations.recipes import Common
from migrations.reembedding import ReembedOptions, plan_reembed
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
    **policies: Any,
) -> One:
    settings = Settings(
        database_url=SecretStr(database_url),
        redis_url=SecretStr(redis_url),
        vecfleet_root=root,
        freshness_wait_seconds=0.2,
        request_deadline_seconds=DEADLINE_S,
        _env_file=None,  # type: ignore[call-arg]
    )
    store = MemoryStore()
    source = store.create(OLD, Limits(upsert_records=10))
    for start in range(0, len(records), 10):
        source.upsert("s", records[start : start + 10])
    embedding = Embedding(
        card=look_up(LOCAL_MODEL, settings, DIMENSION),
        text="{text}",
        gate=gate_of(root, questions, least_recall, least_overlap),
    )
    common = Common(policies=Policies(**{"cut_over": "none", "soak_seconds": 0, **policies}))
    options = ReembedOptions(source="brain", target="brain-small", embedding=embedding, common=common)
    model = open_model(embedding.card, settings)
    plan = plan_reembed(store, store, options, model=model, now=datetime.now(UTC))
    target = store.create_like("brain-small", plan.target_like(source.info), None, None)
    fleet, table = Stored(settings, store), JobTable(Database(database_url, pool_size=4))
    table.apply(plan, target, source.info, AT_ONCE)
    ending.callback(table.database.dispose)
    ending.callback(fleet.database.dispose)
    return One(table, WorkerProcess(fleet), store.open(target))


def held(one: One) -> dict[str, Record]:
    """Return what the target holds."""
    assert isinstance(one.index, MemoryIndex)
    return dict(one.index.fetch("s", one.ids("s")).records)
