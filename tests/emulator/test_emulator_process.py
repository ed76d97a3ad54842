"""The emulator as its own process: the ready line, the seeds, and a folder that survives it."""

import hashlib
import json
import signal
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from pinecone import Pinecone, ServerlessSpec
from pinecone.errors.exceptions import PineconeConnectionError, ServiceError, UnauthorizedError

from orchestrator.embedded.ports import free_port

REPOSITORY = Path(__file__).resolve().parents[2]


@contextmanager
def emulator(*options: str) -> Iterator[tuple[dict[str, Any], subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "emulator", "--port", "0", *options]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield json.loads(process.stdout.readline()), process
    finally:
        process.terminate()
        process.wait(timeout=60)


def new_index(control: str) -> str:
    """The address of an index of two dimensions."""
    spec = ServerlessSpec(cloud="aws", region="us-east-1")
    return str(Pinecone(api_key="x", host=control).create_index(name="two", dimension=2, spec=spec).host)


TWIN = "eeeed554-9180-4229-a9af-0f8dd2c69e9b"
TWINS_VALUES = "dc34ba2444e9e599eaa661fde07a5f62ab20551b6d9b0e1bd4efa26b9a7c80f0"
"""SHA-256 of the float32 values of this namespace, in the order of ids: the same whatever processor made them."""


def test_the_seeds_are_the_first_users_index() -> None:
    with emulator("--load", "seeds") as (ready, _):
        index = Pinecone(api_key="x", host=ready["control"]).index("digital-twin-brain")
        stats = index.describe_index_stats()
        assert (stats.total_vector_count, stats.dimension, stats.metric) == (805, 3072, "cosine")
        counts = {name: summary.vector_count for name, summary in stats.namespaces.items()}
        assert len(counts) == 30
        assert [counts[name] for name in ("__default__", TWIN)] == [376, 87]
        ids = Counter(item.id for name in counts for page in index.list(namespace=name) for item in page.vectors)
        assert sum(ids.values()) == 805
        assert max(ids.values()) > 1
        held = sorted(item.id for page in index.list(namespace=TWIN) for item in page.vectors)
        records = index.fetch(ids=held, namespace=TWIN).vectors
        values = b"".join(struct.pack("<3072f", *records[id].values) for id in held)
        assert hashlib.sha256(values).hexdigest() == TWINS_VALUES


def test_the_seeds_ownership_names_every_namespace_and_three_creators(tmp_path: Path) -> None:
    file = tmp_path / "ownership.yaml"
    subprocess.run([sys.executable, "-m", "emulator", "--write-ownership", str(file)], cwd=REPOSITORY, check=True)
    ownership = yaml.safe_load(file.read_text("utf-8"))
    assert len(ownership["twins"]) == 29
    assert {twin["creator_id"] for twin in ownership["twins"]} == {"sainath.no.1", "creator-b", "creator-c"}
    assert {source["twin_id"] for source in ownership["sources"]} == {twin["id"] for twin in ownership["twins"]}


def test_what_was_acknowledged_survives_a_kill_at_the_same_address(tmp_path: Path) -> None:
    with emulator("--data", str(tmp_path)) as (ready, process):
        pc = Pinecone(api_key="x", host=ready["control"])
        pc.create_index(name="things", dimension=2, metric="cosine")
        host = pc.describe_index("things").host
        index = pc.index("things")
        index.upsert(vectors=[{"id": str(n), "values": [n, 1], "metadata": {"n": n}} for n in range(50)], namespace="n")
        index.delete(ids=["7"], namespace="n")
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
    with emulator("--data", str(tmp_path)) as (ready, _):
        pc = Pinecone(api_key="x", host=ready["control"])
        assert pc.describe_index("things").host == host
        index = pc.index("things")
        assert index.describe_index_stats().namespaces["n"].vector_count == 49
        assert index.fetch(ids=["8"], namespace="n").vectors["8"].metadata == {"n": 8.0}


def test_who_kept_a_connection_to_a_deleted_index_reaches_the_new_one_at_its_port() -> None:
    port = free_port()
    with emulator("--index-ports", f"{port}-{port}") as (ready, _):
        # Given clients with a connection to an index that is deleted meanwhile
        pc = Pinecone(api_key="x", host=ready["control"])
        pc.create_index(name="old", dimension=2, metric="cosine")
        host = pc.describe_index("old").host
        rest = pc.index(host=host)
        grpc = Pinecone(api_key="x", host=ready["control"], grpc_scheme="http").index(host=host, grpc=True)
        for client in (rest, grpc):
            client.describe_index_stats()
        pc.delete_index("old")

        # When another index gets its port
        pc.create_index(name="new", dimension=3, metric="cosine")
        assert pc.describe_index("new").host == host

        # Then it is that one they talk to
        for client in (rest, grpc):
            assert reconnected(client.describe_index_stats).dimension == 3


def reconnected(ask: Callable[[], Any]) -> Any:
    """The answer; a request that finds its connection closed may be made once more."""
    try:
        return ask()
    except (PineconeConnectionError, ServiceError):
        return ask()


def test_a_wrong_key_is_refused_on_both_planes() -> None:
    with emulator("--api-key", "right") as (ready, _):
        pc = Pinecone(api_key="right", host=ready["control"])
        pc.create_index(name="things", dimension=2)
        host = pc.describe_index("things").host
        with pytest.raises(UnauthorizedError):
            Pinecone(api_key="wrong", host=ready["control"]).list_indexes()
        refused = httpx.post(f"{host}/describe_index_stats")
        assert (refused.status_code, refused.text) == (401, "Missing API key")


def test_faults_may_be_there_from_the_start(tmp_path: Path) -> None:
    file = tmp_path / "faults.json"
    file.write_text('[{"operation": "list_indexes", "status": 503, "count": 1}]', "utf-8")
    with emulator("--faults", str(file)) as (ready, _):
        statuses = [httpx.get(f"{ready['control']}/indexes").status_code for _ in range(2)]
    assert statuses == [503, 200]


def test_wrong_options_get_a_sentence(tmp_path: Path) -> None:
    for options, words in [
        (["--limits", "many"], "limits are 'off', 'documented' or a factor"),
        (["--index-ports", "x"], "--index-ports must look like"),
        (["--faults", str(tmp_path / "absent")], "cannot be read"),
    ]:
        command = [sys.executable, "-m", "emulator", "--port", "0", *options]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert (done.returncode, words in done.stderr) == (1, True), done.stderr


def test_it_imports_nothing_of_the_fleet() -> None:
    code = "import emulator.server, sys; print([m for m in sys.modules if m.split('.')[0] in " \
        "('vecfleet', 'orchestrator', 'workers', 'migrations')])"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_it_says_how_long_its_reads_lag_and_none_is_older() -> None:
    with emulator("--reads-lag", "3600") as (ready, _):
        # Given an emulator that says so to who starts it and to who asks it
        health = httpx.get(f"{ready['control']}/_emulator/health").json()
        assert (ready["reads_lag_s"], health["reads_lag_s"]) == (3600, 3600)
        host = new_index(ready["control"])
        # When something is written
        httpx.post(f"{host}/vectors/upsert", json={"vectors": [{"id": "a", "values": [1, 2]}]}).raise_for_status()
        # Then no kind of read shows it yet, without any fault rule
        assert httpx.get(f"{host}/vectors/list").json()["vectors"] == []
        assert httpx.get(f"{host}/vectors/fetch", params={"ids": "a"}).json()["vectors"] == {}
        assert httpx.post(f"{host}/query", json={"vector": [1, 2], "topK": 1}).json()["matches"] == []
        assert httpx.post(f"{host}/describe_index_stats").json()["totalVectorCount"] == 0
        # And so it stays when all is forgotten
        httpx.post(f"{ready['control']}/_emulator/reset").raise_for_status()
        assert httpx.get(f"{ready['control']}/_emulator/health").json()["reads_lag_s"] == 3600
    with emulator() as (ready, _):
        assert ready["reads_lag_s"] == 0


@pytest.mark.parametrize("lag", ["-1", "inf", "nan"])
def test_a_lag_that_is_no_number_of_seconds_is_refused(lag: str) -> None:
    command = [sys.executable, "-m", "emulator", f"--reads-lag={lag}"]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ended.returncode == 2 and "must be 0 or a number of seconds" in ended.stderr
