"""`python -m benchmarks.pgvector`: copies inside a database, searches, and the way to Pinecone, each against its like.

Every figure is a ratio of two things done in turns on this machine, so that its load counts for both. `JSON` names a
file for the raw samples; `--share 0.1` is a quick look.
"""

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import orjson
import psycopg
from pgvector.psycopg import register_vector

from benchmarks.data import Load, fill
from benchmarks.fleet import Running, end, running, verified_in
from benchmarks.showing import machine
from migrations.between import StoresOptions, plan_stores
from migrations.plan import Policies
from migrations.recipes import Common, IndexOptions, plan_index
from orchestrator import applying
from orchestrator.bootstrap import Fleet
from vecfleet.pgvector import NamespaceMigration, VectorStore
from vecfleet.pgvector.database import DatabaseConnection
from vecfleet.pgvector.indexes import lists_for
from vecfleet.pgvector.schema import EmbeddingSchema

DIMENSION = 1_536
ROWS = 100_000
SMALL_ROWS = 10_000
MOVED_ROWS = 5_000
ROUNDS = 3
COPY_ROUNDS = 2
SEARCHES = 200
WHO = "benchmark"
# Of every session, ours and by hand: with the server's 64 MB, hnsw of 100,000 rows would spill and take for ever.
_MEMORY = "ALTER DATABASE vectordb SET maintenance_work_mem = '1GB'"
_ROWS_AT_ONCE = 2_000


@dataclass(frozen=True, slots=True)
class Figure:
    """One measure: what it is, the samples, and what was to be reached."""

    name: str
    unit: str
    samples: tuple[float, ...]
    reach: str

    @property
    def value(self) -> float:
        return median(self.samples)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pgvector", description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the rows; 0.1 for a quick look")
    parser.add_argument("--only", choices=["copies", "searches", "fleet"], help="one part alone")
    given = parser.parse_args()
    with TemporaryDirectory(prefix="vecfleet-bench-") as folder, running(Path(folder) / "state") as fleet:
        figures = list(_measure(fleet, given.share, given.only))
    for one in figures:
        print(f"{one.name}: {one.value:.3f} {one.unit}   (reach: {one.reach}; samples: {_round(one.samples)})")
    document = {
        "at": datetime.now(UTC).isoformat(),
        "machine": machine(),
        "share": given.share,
        "figures": [{**asdict(one), "value": one.value} for one in figures],
    }
    print(orjson.dumps(document).decode())
    place = os.environ.get("JSON")
    if place:
        Path(place).write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    return 0


def _measure(fleet: Running, share: float, only: str | None) -> Any:
    url = _vectors(fleet)
    _ask(url, _MEMORY)
    database = DatabaseConnection(database_url=url)
    schema = EmbeddingSchema(url, dimension=DIMENSION, database=database)
    rows = int(ROWS * share)
    if only in (None, "copies", "searches"):
        _fill(url, schema, "large", rows)
    if only in (None, "copies"):
        _fill(url, schema, "small", int(SMALL_ROWS * share) - 1)
        yield from _copies(url, database, rows)
    if only in (None, "searches"):
        yield from _searches(url, database, rows)
    if only in (None, "fleet"):
        yield from _fleet(fleet, url, schema, int(MOVED_ROWS * share))
    database.close()


# --- copies inside a database -----------------------------------------------------------------------------------------


def _copies(url: str, database: DatabaseConnection, rows: int) -> Any:
    migration = NamespaceMigration(url, database=database)
    ways: dict[str, Callable[[], object]] = {
        "bare": lambda: _bare_copy(url, rows),
        "count": lambda: migration.run("large", "copied", digest=False),
        "digest": lambda: migration.run("large", "copied", digest=True),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(COPY_ROUNDS):
        names = list(ways) if number % 2 == 0 else list(reversed(ways))
        for name in names:
            taken[name].append(_timed(ways[name]))
            _ask(url, "DROP TABLE embeddings_copied")
            _ask(url, "CHECKPOINT")
    title = f"in-database copy of {rows:,} × {DIMENSION:,}-d"
    yield Figure(f"{title}, count compared / bare SQL", "×", _ratios(taken["count"], taken["bare"]), "≤ 1.15")
    yield Figure(f"{title}, content compared / bare SQL", "×", _ratios(taken["digest"], taken["bare"]), "≤ 1.5")
    yield Figure(f"{title}, content compared", "s", tuple(taken["digest"]), "< 30")
    yield Figure(f"{title}, bare SQL", "s", tuple(taken["bare"]), "-")
    small = _timed(lambda: migration.run("small", "copied"))
    yield Figure("in-database copy of fewer than 10,000 rows, content compared", "s", (small,), "< 5")
    _ask(url, "DROP TABLE embeddings_copied")


def _bare_copy(url: str, rows: int) -> None:
    """What a person types who trusts that nothing goes wrong; the indexes of the copy are those of ours."""
    with psycopg.connect(_plain(url)) as connection:
        connection.execute("CREATE TABLE embeddings_copied (LIKE embeddings_large INCLUDING DEFAULTS)")
        connection.execute("INSERT INTO embeddings_copied SELECT * FROM embeddings_large")
        connection.execute("ALTER TABLE embeddings_copied ADD PRIMARY KEY (id), ADD UNIQUE (chunk_id)")
        for column in ("collection_name", "document_id", "strategy"):
            connection.execute(f"CREATE INDEX ON embeddings_copied ({column})")
        connection.execute(
            "CREATE INDEX ON embeddings_copied USING ivfflat (embedding vector_cosine_ops)"
            f" WITH (lists = {lists_for(rows)})"
        )


# --- searches ---------------------------------------------------------------------------------------------------------


def _searches(url: str, database: DatabaseConnection, rows: int) -> Any:
    _ask(url, "DROP INDEX IF EXISTS embeddings_large_vector_idx")
    built = _timed(lambda: EmbeddingSchema(url, method="hnsw", database=database).create_namespace("large"))
    yield Figure(f"building the hnsw index of {rows:,} rows", "s", (built,), "-")
    store = VectorStore(database, "large")
    chance = np.random.default_rng(7)
    asked = [_unit(chance.standard_normal(DIMENSION)) for _ in range(SEARCHES)]
    ours: list[float] = []
    by_hand: list[float] = []
    with psycopg.connect(_plain(url), autocommit=True) as connection:
        register_vector(connection)
        for number, vector in enumerate([*asked[:20], *asked]):
            ways = [lambda v=vector: store.similarity_search(v, 10), lambda v=vector: _search(connection, v)]
            times = [_timed(way) for way in (ways if number % 2 else reversed(ways))]
            first, second = times if number % 2 else reversed(times)
            if number >= 20:  # the first ones fill caches
                ours.append(first)
                by_hand.append(second)
    title = f"similarity_search among {rows:,} rows, hnsw"
    yield Figure(f"{title}, p95 / the same SQL by hand", "×", (_p95(ours) / _p95(by_hand),), "≤ 1.1")
    yield Figure(f"{title}, p95", "ms", (_p95(ours) * 1e3,), "-")
    yield Figure(f"{title}, p95 by hand", "ms", (_p95(by_hand) * 1e3,), "-")
    yield Figure(f"{title}, median / the same SQL by hand", "×", (median(ours) / median(by_hand),), "-")


_BY_HAND = """
    SELECT id, chunk_id, document_id, collection_name, text, strategy, content_type, path, parent_chunk_id,
           depth_level, hierarchy_level, semantic_density, confidence, chunk_size, token_count, key_count,
           contains_arrays, is_leaf, domain_tags, original_keys, metadata, created_at, updated_at,
           embedding <=> %(like)s::vector AS distance
    FROM embeddings_large ORDER BY embedding <=> %(like)s::vector LIMIT 10"""


def _search(connection: psycopg.Connection[Any], vector: list[float]) -> list[tuple[Any, ...]]:
    with connection.transaction():
        return connection.execute(_BY_HAND, {"like": np.asarray(vector, "<f4")}).fetchall()


# --- to Pinecone ------------------------------------------------------------------------------------------------------


def _fleet(fleet: Running, url: str, schema: EmbeddingSchema, rows: int) -> Any:
    """The fleet copies the same records from Postgres and from Pinecone to Pinecone, in turns."""
    load = Load("bench-source", DIMENSION, rows, seed=7)
    fill(fleet.settings, load)
    parts = Fleet(fleet.settings)
    common = Common(policies=Policies(exclusive=True, cut_over="none", soak_seconds=0))
    into = StoresOptions(source="bench-source", target="bench", common=common)
    _run(fleet, plan_stores(parts.store, parts.tables, into, now=datetime.now(UTC)))
    rates: dict[str, list[float]] = {"tables": [], "pinecone": []}
    for number in range(ROUNDS):
        order = list(rates) if number % 2 == 0 else list(reversed(rates))
        for name in order:
            target = f"bench-{name}-{number}"
            if name == "tables":
                options = StoresOptions(source="bench", target=target, cloud="aws", region="us-east-1", common=common)
                plan = plan_stores(parts.tables, parts.store, options, now=datetime.now(UTC))
            else:
                plan = plan_index(
                    parts.store,
                    IndexOptions(source="bench-source", target=target, common=common),
                    now=datetime.now(UTC),
                )
            rates[name].append(_run(fleet, plan))
    title = f"{rows:,} × {DIMENSION:,}-d to Pinecone (emulator), copied and verified"
    ratios = tuple(ours / theirs for ours, theirs in zip(rates["tables"], rates["pinecone"], strict=True))
    yield Figure(f"{title}: from Postgres / from Pinecone", "×", ratios, "≥ 0.8")
    yield Figure(f"{title}: from Postgres", "vectors/s", tuple(rates["tables"]), "-")
    yield Figure(f"{title}: from Pinecone", "vectors/s", tuple(rates["pinecone"]), "-")


def _run(fleet: Running, plan: Any) -> float:
    """Vectors copied a second, listing included, by the database's clock."""
    job_id = applying.apply(fleet.fleet, plan, who=WHO, no_backup=True)
    records, seconds = verified_in(fleet.fleet, job_id)
    end(fleet.fleet, job_id)  # a live job keeps its namespaces from the next one
    return records / seconds


# --- parts ------------------------------------------------------------------------------------------------------------


def _vectors(fleet: Running) -> str:
    """A database of its own on the stack's Postgres, named to the workers as PGVECTOR_URL."""
    url = fleet.settings.pgvector_url
    assert url is not None, "the stack was started with it"
    return url.get_secret_value()


def _fill(url: str, schema: EmbeddingSchema, namespace: str, rows: int) -> None:
    schema.create_namespace(namespace)
    chance = np.random.default_rng(rows)
    columns = "chunk_id, document_id, collection_name, text, embedding, strategy, content_type, metadata"
    with psycopg.connect(_plain(url)) as connection:
        for start in range(0, rows, _ROWS_AT_ONCE):
            count = min(_ROWS_AT_ONCE, rows - start)
            vectors = chance.standard_normal((count, DIMENSION), dtype="<f4")
            # Clusters, as embeddings have: an index of pure noise has nothing to find.
            vectors[:, :32] += 4 * np.sign(chance.standard_normal((count, 32), dtype="<f4"))
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            with connection.cursor().copy(
                f"COPY embeddings_{namespace} ({columns}) FROM STDIN (FORMAT BINARY)"
            ) as copy:
                copy.set_types(["text", "text", "text", "text", "bytea", "text", "text", "bytea"])
                for n in range(count):
                    number = start + n
                    wire = DIMENSION.to_bytes(2) + b"\0\0" + vectors[n].astype(">f4").tobytes()
                    text = f"chunk {number} " + "of a document about something " * 12
                    body = b'\x01{"page": %d, "source": "document"}' % number
                    copy.write_row(
                        (f"c{number:07}", f"d{number // 10}", f"k{number % 7}", text, wire, "semantic", "object", body)
                    )
    schema.create_namespace(namespace)
    _ask(url, f"ANALYZE embeddings_{namespace}")


def _ask(url: str, statement: str) -> None:
    with psycopg.connect(_plain(url), autocommit=True) as connection:
        connection.execute(statement)  # type: ignore[call-overload]


def _plain(url: str) -> str:
    return url.replace("+psycopg", "")


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _ratios(ours: list[float], theirs: list[float]) -> tuple[float, ...]:
    return tuple(one / other for one, other in zip(ours, theirs, strict=True))


def _p95(samples: list[float]) -> float:
    return quantiles(samples, n=20)[-1]


def _unit(vector: Any) -> list[float]:
    numbers: list[float] = (vector / np.linalg.norm(vector)).tolist()
    return numbers


def _round(samples: tuple[float, ...]) -> list[float]:
    return [round(sample, 3) for sample in samples]


if __name__ == "__main__":
    raise SystemExit(main())
