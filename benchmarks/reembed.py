"""An index embedded anew by the local model: records a second, and the share of the workers' time that is embedding.

    python -m benchmarks.reembed [--quick] [--json FILE]

Each job is a real one, whose verification is of ids alone, so that the workers copy and do little else. The share is
that of the model's own CPU for the same texts, measured in this process, of the CPU of the worker processes.
"""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.data import SEED, create
from benchmarks.figures import Figure
from benchmarks.fleet import WHO, WORKERS, Running, end, reached, running, verified_in
from benchmarks.loops import client_of
from benchmarks.runner import alone
from migrations.embedding import Embedding
from migrations.plan import Policies
from migrations.recipes import Common
from migrations.reembedding import ReembedOptions, plan_reembed
from orchestrator.core.states import JobState
from orchestrator.services import apply
from vecfleet.embedders import LOCAL_MODEL
from vecfleet.embedders.opening import look_up, open_model
from vecfleet.embedders.texts import prepare
from vecfleet.records import Record
from vecfleet.stores.pinecone import PineconeStore

SOURCE, TARGET = "bench-old-model", "bench-new-model"
OLD_DIMENSION = 1_536
RECORDS, QUICK_RECORDS = 20_000, 4_000
ROUNDS, QUICK_ROUNDS = 5, 2
SPREAD = 2 * WORKERS
# About as long as a chunk of a document: 600 bytes.
WORDS = 110
_WRITTEN_AT_ONCE = 200


def measure(quick: bool) -> Iterator[Figure]:
    texts = texts_of(QUICK_RECORDS if quick else RECORDS)
    with TemporaryDirectory(prefix="vecfleet-bench-") as folder, running(Path(folder) / "state") as fleet:
        fill(fleet, texts)
        embedding = Embedding(card=look_up(LOCAL_MODEL, fleet.settings), text="{text}")
        rates, shares = list[float](), list[float]()
        own = model_cpu_s(fleet, embedding, texts)
        for number in range(1 + (QUICK_ROUNDS if quick else ROUNDS)):  # the first one warms up
            per_second, cpu_s = embedded(fleet, embedding, len(texts))
            if number:
                rates.append(per_second)
                shares.append(100 * own / cpu_s)
    about = f"{LOCAL_MODEL}, {embedding.card.dimension}-d, texts of {len(texts[0]):,} B"
    yield Figure.of(f"re-embed, {about}", "records/s", rates)
    yield Figure.of(f"of it embedding, {about}", "% of workers' CPU", shares)
    yield Figure(f"embedding alone, one thread, {about}", len(texts) / own, "texts/s")


def texts_of(count: int) -> list[str]:
    """Return different texts of made-up words, the same for the same seed."""
    rng = np.random.default_rng(SEED)
    letters = rng.integers(ord("a"), ord("z") + 1, (2_000, 6), dtype=np.uint8)
    words = [row.tobytes().decode()[: 3 + number % 4] for number, row in enumerate(letters)]
    chosen = rng.integers(0, len(words), (count, WORDS))
    return [f"{number} " + " ".join(words[place] for place in row) for number, row in enumerate(chosen)]


def fill(fleet: Running, texts: Sequence[str]) -> None:
    store = PineconeStore(fleet.settings)
    index = store.open(create(store, SOURCE, OLD_DIMENSION))
    values = np.random.default_rng(SEED).standard_normal((_WRITTEN_AT_ONCE, OLD_DIMENSION)).astype("<f4")
    for start in range(0, len(texts), _WRITTEN_AT_ONCE):
        batch = [
            Record(f"r{start + n:06}", values[n].tobytes(), metadata={"text": text})
            for n, text in enumerate(texts[start : start + _WRITTEN_AT_ONCE])
        ]
        index.upsert(f"source-{start // _WRITTEN_AT_ONCE % SPREAD}", batch)


def model_cpu_s(fleet: Running, embedding: Embedding, texts: Sequence[str]) -> float:
    """Return the CPU seconds of the model for the texts: counted, and embedded by the hundred, as workers do."""
    model = open_model(embedding.card, fleet.settings)
    at_once = embedding.card.texts_per_request
    model.request(texts[:at_once])  # which loads it
    began = time.process_time()
    for start in range(0, len(texts), at_once):
        for text in texts[start : start + at_once]:
            prepare(model, text)
        model.request(texts[start : start + at_once])
    return time.process_time() - began


def embedded(fleet: Running, embedding: Embedding, count: int) -> tuple[float, float]:
    """Run one job. Return its records a second, and the CPU seconds of the workers for its copy."""
    policies = Policies(exclusive=True, cut_over="none", soak_seconds=0, verify="ids")
    options = ReembedOptions(source=SOURCE, target=TARGET, embedding=embedding, common=Common(policies=policies))
    parts = fleet.fleet
    model = open_model(embedding.card, fleet.settings)
    plan = plan_reembed(parts.store, parts.store, options, model=model, now=datetime.now(UTC))
    cpu = fleet.cpu_seconds("worker")
    job = apply.apply(parts, plan, who=WHO, no_backup=True)
    reached(parts, job, JobState.COPIED, JobState.VERIFIED)
    cpu_s = fleet.cpu_seconds("worker") - cpu
    records, seconds = verified_in(parts, job)
    if records != count:
        raise ValueError(f"{records:,} records of {count:,} were embedded")
    end(parts, job)
    client_of(fleet).indexes.delete(TARGET)
    return records / seconds, cpu_s


if __name__ == "__main__":
    raise SystemExit(alone("reembed", measure, __doc__))
