"""Tools of others, unpatched, work with the emulator. `make compat` makes their environments."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from pinecone import Pinecone

from tests.compat.conftest import ENVIRONMENTS

RECORDS, DEFAULT = 805, 376  # of the seeds: in 30 namespaces, in the default one


def run(tool: str, arguments: list[str], control: str, command: str | None = None) -> str:
    program = ENVIRONMENTS / tool / "bin" / (command or tool)
    if not program.exists():
        pytest.skip(f"no environment with {tool}; `make compat` makes it")
    environment = os.environ | {"PINECONE_CONTROLLER_HOST": control, "PINECONE_API_KEY": "any"}
    ended = subprocess.run([program, *arguments], env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_langchain_s_vector_store_adds_searches_and_deletes(emulated: Callable[..., str]) -> None:
    control = emulated()
    script = Path(__file__).with_name("langchain_store.py")
    told = run("langchain-pinecone", [str(script), control], control, command="python")
    assert told.splitlines() == ["added", "searched", "deleted"]


def test_vec2pg_copies_every_record_to_postgres(emulated: Callable[..., str], empty_database_url: str) -> None:
    postgres = empty_database_url.replace("postgresql+psycopg:", "postgresql:")
    run("vec2pg", ["pinecone", "migrate", "digital-twin-brain", "any", postgres], emulated(seeds=True))
    with psycopg.connect(postgres) as connection:
        query = 'SELECT namespace, count(*) FROM vec2pg."digital-twin-brain" GROUP BY namespace'
        counts = dict(connection.execute(query).fetchall())
    assert (sum(counts.values()), len(counts), counts[""]) == (RECORDS, 30, DEFAULT)


def test_vecparity_reads_an_index_and_finds_parity(emulated: Callable[..., str], tmp_path: Path) -> None:
    """It cannot read records without metadata, here or there."""
    control = emulated()
    pc = Pinecone(api_key="any", host=control)
    pc.create_index(name="small", dimension=2)
    vectors = [{"id": f"r{n}", "values": [1.0, float(n)], "metadata": {"n": n}} for n in range(5)]
    pc.index("small").upsert(vectors=vectors)
    queries = tmp_path / "queries.json"
    queries.write_text(json.dumps([{"query_vector": [0.0, 1.0], "top_k": 3}]), "utf-8")
    ends = ["--from", "pinecone://small", "--to", "memory://copy"]
    told = run("vecparity", ["migrate", *ends, "--verify-parity", "--queries", str(queries)], control)
    assert "Synced 5 records." in told
