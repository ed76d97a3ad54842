"""vector-io, unpatched, copies an index of the emulator. Its client speaks TLS alone: a front has it. `make compat`."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pinecone import Pinecone

from emulator.server import Running, start
from tests.compat.conftest import ENVIRONMENTS
from tests.compat.tls_front import ADDRESS, BEHIND, Front

PYTHON = ENVIRONMENTS / "vector-io" / "bin" / "python"
INDEX, COPY = "small", "small-2"


@pytest.fixture
def served() -> Iterator[Running]:
    emulator = start(port=0, absent_version="2024-07", bare_hosts=True, host_name=ADDRESS)
    yield emulator
    emulator.stop()


def test_vector_io_exports_an_index_and_imports_every_record(served: Running, tmp_path: Path) -> None:
    if not PYTHON.exists():
        pytest.skip("no environment with vector-io; `make compat` makes it")
    # Given an index with records in two namespaces, each with metadata: vector-io makes columns of them
    control = served.control.replace(ADDRESS, BEHIND)
    pc = Pinecone(api_key="any", host=control)
    pc.create_index(name=INDEX, dimension=3)
    [port] = [index.host.rpartition(":")[2] for index in pc.list_indexes()]
    written = pc.index(host=f"http://{BEHIND}:{port}")
    namespaces = ("", "tenant")
    for namespace in namespaces:
        vectors = [{"id": f"r{n}", "values": [1.0, 0.1, n], "metadata": {"n": n, "kind": "é"}} for n in range(5)]
        written.upsert(vectors=vectors, namespace=namespace)
    # When vector-io exports it and imports it into an index that it creates
    with Front(control, tmp_path) as front:
        addressed = {"PINECONE_CONTROLLER_HOST": control, "PINECONE_API_KEY": "any"}
        environment = os.environ | addressed | front.trusted()
        script = str(Path(__file__).with_name("vector_io.py"))
        ended = subprocess.run(
            [PYTHON, script, INDEX, "us-east-1", "copy"],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            timeout=300,
        )
    told = (ended.stdout + ended.stderr).decode()
    assert ended.returncode == 0, told
    assert "exported 10\n" in told and "imported\n" in told
    # Then every record is there, with its id among its metadata, as vector-io writes it
    [port] = [index.host.rpartition(":")[2] for index in pc.list_indexes() if index.name == COPY]
    copied = pc.index(host=f"http://{BEHIND}:{port}")
    for namespace in namespaces:
        before, after = (
            index.fetch(ids=[f"r{n}" for n in range(5)], namespace=namespace).vectors for index in (written, copied)
        )
        assert {id: one.values for id, one in after.items()} == {id: one.values for id, one in before.items()}
        assert {id: one.metadata for id, one in after.items()} == {
            id: {**(one.metadata or {}), "id": id} for id, one in before.items()
        }
