"""Requests of hostile or broken clients, and what a crash leaves."""

import asyncio
import json
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from pinecone import Pinecone

Make = Callable[..., Any]
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def host(pc: Pinecone, make_index: Make) -> str:
    make_index()
    return str(pc.describe_index("things").host)


NONSENSE = [
        b"{", b"[]", b"null", b"\xff\xfe", b'"x"', b"{}" * 2, b"[" * 5000, b'{"a":' * 900 + b"1" + b"}" * 900,
        b'{"vectors": {}}', b'{"vectors": [1]}', b'{"vectors": [{"id": 1, "values": [1,2,3]}]}',
        b'{"vectors": [{"id": "a", "values": "x"}]}', b'{"vectors": [{"id": "a", "values": [1,2,3], "metadata": []}]}',
        b'{"vectors": [{"id": "a", "values": [1,2,3], "sparseValues": {"indices": [1.5], "values": [1]}}]}',
        b'{"vectors": [{"id": "a", "values": [1,2,3]}], "namespace": 7}', b'{"topK": 1e99, "vector": [1,2,3]}',
        b'{"topK": true, "vector": [1,2,3]}', b'{"topK": 1, "vector": [1,2,3], "filter": []}', b'{"ids": [1]}',
        b'{"filter": {"$and": ' * 300 + b"1" + b"}}" * 300, b'{"deleteAll": "yes"}', b'{"name": 7}',
        b'{"id": "a", "setMetadata": 3}', b'{"filter": {"a": {"$in": 1}}}', b'{"filter": {}}',
        b'{"name": "n", "schema": 1}', b'{"uri": 7}', b'{"uri": "s3://b", "errorMode": "no"}', b'{"uri": "http://[b"}',
        b'{"uri": "s3://b/%00"}',

    ]  # fmt: skip


@pytest.mark.parametrize(
    "path",
    ["/vectors/upsert", "/query", "/vectors/delete", "/vectors/update", "/vectors/fetch_by_metadata", "/namespaces",
     "/records/namespaces/n/upsert", "/records/namespaces/n/search", "/namespace-aliases", "/bulk/imports"],
)  # fmt: skip
def test_nonsense_is_refused_with_a_sentence(host: str, path: str) -> None:
    with httpx.Client(base_url=host) as client:
        for body in NONSENSE:
            answer = client.post(path, content=body)
            assert answer.status_code in (200, 400, 404), (body, answer.text)
            told = answer.json() if answer.status_code != 200 else {"message": "none"}
            assert told.get("error", told)["message"]  # text records are refused in the manner of the control plane


@pytest.mark.parametrize("path", ["/indexes", "/indexes/create-for-model", "/collections", "/backups/x/create-index"])
def test_the_control_plane_refuses_nonsense_too(control: str, path: str) -> None:
    with httpx.Client(base_url=control) as client:
        for body in (b"{", b"[]", b'{"name": 5}', b'{"name": "a", "schema": {"fields": {"_values": 1}}}'):
            answer = client.post(path, content=body)
            assert answer.status_code in (400, 404)
            assert answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/indexes/things/backups", "/backups", "/restore-jobs"])
def test_a_page_of_an_impossible_size_is_refused(host: str, control: str, path: str) -> None:
    httpx.post(f"{control}/indexes/things/backups", json={}).raise_for_status()
    for limit in ("0", "-1", "101", "x"):
        answer = httpx.get(f"{control}{path}", params={"limit": limit})
        assert (answer.status_code, "limit must be" in answer.json()["error"]["message"]) == (400, True)
    assert httpx.get(f"{host}/bulk/imports?limit=0").status_code == 400


@pytest.mark.parametrize(
    "stream",
    [b"\x00\x01\x02\x03\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
     b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense", b"POST /query HTTP/1.1\r\ncontent-length: -5\r\n\r\n", b"P", b""],
)  # fmt: skip
def test_a_stream_that_is_no_http_leaves_the_others_alone(host: str, stream: bytes) -> None:
    with socket.create_connection(("127.0.0.1", int(host.rpartition(":")[2])), timeout=60) as connection:
        connection.sendall(stream)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass
    assert httpx.post(f"{host}/describe_index_stats").status_code == 200


def test_a_body_of_ten_megabytes_is_refused(host: str) -> None:
    answer = httpx.post(f"{host}/vectors/upsert", content=b"x" * 10_000_000, timeout=60)
    assert (answer.status_code, "maximum supported size" in answer.json()["message"]) == (413, True)


def test_five_hundred_connections_at_once_are_all_answered(host: str) -> None:
    make_room_for_descriptors(4_096)  # both ends of all connections are in this process
    port = int(host.rpartition(":")[2])
    everyone = asyncio.Barrier(500)

    async def ask() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await everyone.wait()
        writer.write(b"GET /describe_index_stats HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        return answer[:15]

    async def main() -> list[bytes]:
        return await asyncio.gather(*(ask() for _ in range(500)))

    assert asyncio.run(main()) == [b"HTTP/1.1 200 OK"] * 500


def make_room_for_descriptors(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def test_requests_sent_without_waiting_are_answered_in_order(host: str) -> None:
    with socket.create_connection(("127.0.0.1", int(host.rpartition(":")[2])), timeout=60) as connection:
        request = b"GET /namespaces/%s HTTP/1.1\r\nhost: x\r\n%s\r\n"
        connection.sendall(request % (b"__default__", b"") + request % (b"absent", b"connection: close\r\n"))
        answers = b""
        while part := connection.recv(65536):
            answers += part
    assert answers.count(b"HTTP/1.1 ") == 2
    assert answers.index(b"HTTP/1.1 200") < answers.index(b"HTTP/1.1 404")


def test_a_client_that_gave_up_does_not_undo_its_write(host: str, fault: Callable[..., None]) -> None:
    fault(operation="upsert", delay_ms=1_000)
    body = {"vectors": [{"id": "a", "values": [1, 2, 3]}]}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{host}/vectors/upsert", json=body, timeout=httpx.Timeout(60, read=0.3))
    deadline = time.monotonic() + 60
    while httpx.post(f"{host}/describe_index_stats").json()["totalVectorCount"] != 1:
        assert time.monotonic() < deadline, "the write never came"


def test_a_kill_in_the_middle_of_writes_leaves_whole_requests(tmp_path: Path) -> None:
    """Each upsert writes one number to ten records: after a crash all ten agree, and no acknowledged one is lost."""

    def run() -> tuple[subprocess.Popen[str], Pinecone]:
        command = [sys.executable, "-m", "emulator", "--port", "0", "--data", str(tmp_path)]
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        assert process.stdout
        return process, Pinecone(api_key="x", host=json.loads(process.stdout.readline())["control"])

    acknowledged = -1
    chance = random.Random(3)
    for round_number in range(3):
        process, pc = run()
        if round_number == 0:
            pc.create_index(name="things", dimension=2)
        host = pc.describe_index("things").host
        if acknowledged >= 0:
            vectors = httpx.get(f"{host}/vectors/fetch", params=[("ids", str(n)) for n in range(10)]).json()["vectors"]
            numbers = {vector["metadata"]["n"] for vector in vectors.values()}
            assert len(vectors) == 10
            assert len(numbers) == 1
            assert numbers.pop() >= acknowledged
        killer = threading.Timer(chance.random() / 3, process.send_signal, [signal.SIGKILL])
        with httpx.Client(base_url=host) as client:
            try:
                for written in count():
                    if written == 5:  # whatever they take here, it is in the middle of writes that it is killed
                        killer.start()
                    number = acknowledged + 1
                    records = [{"id": str(n), "values": [1, number + 1], "metadata": {"n": number}} for n in range(10)]
                    client.post("/vectors/upsert", json={"vectors": records}).raise_for_status()
                    acknowledged = number
            except httpx.TransportError:
                pass
        process.wait(timeout=60)
    assert acknowledged > 10
