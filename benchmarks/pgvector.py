"""Copies inside Postgres, searches, and the way to Pinecone, each against its like.

    python -m benchmarks.pgvector [--quick] [--only copies|searches|fleet]

Every ratio is of two things done in turns on this machine, so that its load counts for both.
"""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psycopg
from pgvector.psycopg import register_vector

from benchmarks.data import Load, fill
from benchmarks.figures import Figure
from benchmarks.fleet import Running, end, running, verified_in
from benchmarks.reach import REACHES
from benchmarks.runner import parser, report
from migrations.between import StoresOptions, plan_stores
from migrations.plan import NewIndex, Policies
from migrations.recipes import Common, IndexOptions, plan_index
from orchestrator.bootstrap import Fleet
from orchestrator.services import apply
from vecfleet.pgvector import NamespaceMigration, VectorStore
from vecfleet.pgvector.database import DatabaseConnection
from vecfleet.pgvector.indexes import lists_for
from vecfleet.pgvector.schema import EmbeddingSchema

DIMENSION = 1_536
ROWS = 100_000
SMALL_ROWS = 10_000
MOVED_ROWS = 5_000
QUICK_SHARE = 0.05
ROUNDS = 3
COPY_ROUNDS = 2
SEARCHES = 200
WHO = "benchmark"
# Of every session, ours and by hand: with the server's 64 MB, hnsw of 100,000 rows would spill and take for ever.
_MEMORY = "ALTER DATABASE vectordb SET maintenance_work_mem = '1GB'"
_ROWS_AT_ONCE = 2_000


def measure(quick: bool) -> Iterator[Figure]:
    return measured(QUICK_SHARE if quick else 1.0, None)


def measured(share: float, only: str | None) -> Iterator[Figure]:
    with TemporaryDirectory(prefix="vecfleet-bench-") as folder, running(Path(folder) / "state") as fleet:
        yield from _measure(fleet, share, only)


def _measure(fleet: Running, share: float, only: str | None) -> Iterator[Figure]:
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
        # Fewer would measure how a job starts.
        yield from _fleet(fleet, url, schema, int(MOVED_ROWS * max(share, 0.5)))
    database.close()


# --- copies inside a database -----------------------------------------------------------------------------------------


def _copies(url: str, database: DatabaseConnection, rows: int) -> Iterator[Figure]:
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
    title = f"in-database copy of {rows:,} × {DIMENSION:,}-d"
    ratios = _ratios(taken["count"], taken["bare"])
    yield Figure.of(f"{title}, count compared / bare SQL", "×", ratios, REACHES["count compared / bare SQL"])
    ratios = _ratios(taken["digest"], taken["bare"])
    yield Figure.of(f"{title}, content compared / bare SQL", "×", ratios, REACHES["content compared / bare SQL"])
    reach = REACHES["copy of 100,000 rows"] if rows == ROWS else None
    yield Figure.of(f"{title}, content compared", "s", taken["digest"], reach)
    yield Figure.of(f"{title}, bare SQL", "s", taken["bare"])
    small = _timed(lambda: migration.run("small", "copied"))
    name = "in-database copy of fewer than 10,000 rows, content compared"
    yield Figure(name, small, "s", REACHES["copy of a small table"])
    _ask(url, "DROP TABLE embeddings_copied")


def _bare_copy(url: str, rows: int) -> None:
    """Copy as a person does who trusts that nothing goes wrong. The copy gets the same indexes as ours."""
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


def _searches(url: str, database: DatabaseConnection, rows: int) -> Iterator[Figure]:
    _ask(url, "DROP INDEX IF EXISTS embeddings_large_vector_idx")
    built = _timed(lambda: EmbeddingSchema(url, method="hnsw", database=database).create_namespace("large"))
    yield Figure(f"building the hnsw index of {rows:,} rows", built, "s")
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
    ratio = _p95(ours) / _p95(by_hand)
    yield Figure(f"{title}, p95 / the same SQL by hand", ratio, "×", REACHES["search / by hand"])
    yield Figure(f"{title}, p95", _p95(ours) * 1e3, "ms")
    yield Figure(f"{title}, p95 by hand", _p95(by_hand) * 1e3, "ms")
    yield Figure(f"{title}, median / the same SQL by hand", median(ours) / median(by_hand), "×")


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


def _fleet(fleet: Running, url: str, schema: EmbeddingSchema, rows: int) -> Iterator[Figure]:
    """The fleet copies the same records from Postgres and from Pinecone to Pinecone, in turns."""
    load = Load("bench-source", DIMENSION, rows)
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
                place = NewIndex(cloud="aws", region="us-east-1")
                options = StoresOptions(source="bench", target=target, new=place, common=common)
                plan = plan_stores(parts.tables, parts.store, options, now=datetime.now(UTC))
            else:
                plan = plan_index(
                    parts.store,
                    IndexOptions(source="bench-source", target=target, common=common),
                    now=datetime.now(UTC),
                )
            rates[name].append(_run(fleet, plan))
    title = f"{rows:,} × {DIMENSION:,}-d to Pinecone (emulator), copied and verified"
    ratios, reach = _ratios(rates["tables"], rates["pinecone"]), REACHES["from Postgres / from Pinecone"]
    yield Figure.of(f"{title}: from Postgres / from Pinecone", "×", ratios, reach)
    yield Figure.of(f"{title}: from Postgres", "records/s", rates["tables"])
    yield Figure.of(f"{title}: from Pinecone", "records/s", rates["pinecone"])


def _run(fleet: Running, plan: Any) -> float:
    """Vectors copied a second, listing included, by the database's clock."""
    job_id = apply.apply(fleet.fleet, plan, who=WHO, no_backup=True)
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
        connection.execute(statement)


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


def main() -> int:
    arguments = parser("python -m benchmarks.pgvector", __doc__)
    arguments.add_argument("--only", choices=["copies", "searches", "fleet"], help="one part alone")
    given = arguments.parse_args()
    share = QUICK_SHARE if given.quick else 1.0
    return report({"pgvector": lambda quick: measured(share, given.only)}, given)


if __name__ == "__main__":
    raise SystemExit(main())
