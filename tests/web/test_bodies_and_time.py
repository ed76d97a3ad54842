"""Over real sockets: nothing is read of who is not known, no more than the limit of who is; nobody is waited for."""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import uvicorn

from orchestrator.bootstrap import Fleet
from orchestrator.embedded.ports import free_port, listening
from orchestrator.web import protocol
from orchestrator.web.app import create
from orchestrator.web.protocol import Impatient
from tests.stories.launching import cold
from tests.tenancy.conftest import SMALL, MakeIndex
from vecfleet.settings import Settings
from vecfleet.tenancy import PineconeDelphiClient
from vecfleet.tenancy.api.bodies import check_shape
from vecfleet.tenancy.tokens import FILE, TokenFile

pytest_plugins = ["tests.tenancy.conftest"]
PATIENCE_S = 120.0
MB = 1_000_000
OPERATOR = "the token of the settings"


@dataclass
class Served:
    address: str
    port: int
    tokens: TokenFile
    pid: int = 0

    def bearer(self, *creators: str) -> dict[str, str]:
        token = self.tokens.create({"id": "app", "role": "user", "creator_ids": list(creators or ("ana",))})
        return {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)


@pytest.fixture
def process(
    database_url: str, redis_url: str, emulator: str, make_index: MakeIndex, tmp_path: Path
) -> Iterator[Served]:
    """`vecfleet serve` as a process of its own."""
    make_index()
    port = free_port()
    own = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "VECFLEET_HOME": str(tmp_path),
        "PINECONE_API_KEY": "any",
        "PINECONE_CONTROLLER_HOST": emulator,
        "PINECONE_INDEX_NAME": "small",
        "OPERATOR_TOKEN": OPERATOR,
        "USE_DELPHI_NAMESPACES": "true",
    }
    words = ("orchestrator", "serve", "--port", str(port))
    started = cold("serve", *words, log=tmp_path / "serve.log", env={**os.environ, **own}, port=port)
    try:
        started.wait_until(lambda: listening(port), PATIENCE_S)
        yield Served(f"http://127.0.0.1:{port}", port, TokenFile(tmp_path / FILE), started.pid)
        assert started.alive(), f"{started.ending()}\n{started.log_tail()}"
    finally:
        started.stop(patience_s=10)


@pytest.fixture
def hasty(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """The same in this process, with no patience at all."""
    monkeypatch.setattr(protocol, "HEAD_S", 0.5)
    monkeypatch.setattr(protocol, "BODY_S", 0.5)
    parts = Fleet(settings)
    server = uvicorn.Server(uvicorn.Config(create(parts), http=Impatient, log_level="warning", lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            port = listener.getsockname()[1]
            yield Served(f"http://127.0.0.1:{port}", port, TokenFile(settings.vecfleet_home / FILE))
        finally:
            server.should_exit = True
            thread.join()
    parts.database.dispose()


def memory(served: Served) -> int:
    return int(psutil.Process(served.pid).memory_info().rss)


def pieces(size: int) -> Iterator[bytes]:
    piece = b"[" + b"1," * (MB // 2)
    for _ in range(size // MB):
        yield piece[:MB]


@pytest.mark.parametrize("path", ["/delphi/search", "/delphi/erasures", "/delphi/evidence/1", "/nowhere", "/login"])
def test_two_hundred_megabytes_of_somebody_unknown_leave_the_memory_as_it_was(process: Served, path: str) -> None:
    httpx.get(f"{process.address}/delphi/twins")
    before, peak = memory(process), 0

    def sent() -> Iterator[bytes]:
        nonlocal peak
        for piece in pieces(200 * MB):
            yield piece
            peak = max(peak, memory(process))

    with httpx.Client(timeout=PATIENCE_S) as client:
        try:
            kind = {"Content-Type": "application/json"}
            answer = client.post(f"{process.address}{path}", content=sent(), headers=kind)
            assert answer.status_code in (401, 404, 405, 413)
        except httpx.WriteError:
            pass  # the line was cut, as it may be
    assert peak - before < 40 * MB, f"{(peak - before) / MB:.0f} MB"
    assert httpx.get(f"{process.address}/login").status_code == 200


@pytest.mark.parametrize("counted", [True, False])
def test_no_more_than_the_limit_is_read_of_who_is_known(process: Served, counted: bool) -> None:
    body = b'{"query": "' + b"x" * 2 * MB + b'"}'
    content: Any = body if counted else (body[start : start + 65_536] for start in range(0, len(body), 65_536))

    answer = httpx.post(f"{process.address}/delphi/search", content=content, headers=process.bearer())

    assert answer.status_code == 413 and "1,000,000" in answer.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        '{"query": "x", "filter": ' + '{"$and": [' * 40 + "]}" * 40 + "}",
        "[" * 100_000,
        '{"vector": [' + "1," * 150_000 + "1]}",
        '{"query": "x", "filter": ' + '{"a":' * 100_000 + "1" + "}" * 100_000 + "}",
    ],
)
def test_json_that_nests_or_counts_too_much_is_refused_before_it_is_made(process: Served, body: str) -> None:
    answer = httpx.post(f"{process.address}/delphi/search", content=body, headers=process.bearer())

    assert answer.status_code == 413 and answer.headers["content-type"] == "application/problem+json"


def test_brackets_and_commas_in_a_text_count_for_nothing(process: Served) -> None:
    body = json.dumps({"query": "x", "twin_id": "coach", "filter": {"note": '[{,\\"' * 2_000}, "top_k": 0})
    answer = httpx.post(f"{process.address}/delphi/search", content=body, headers=process.bearer())

    assert answer.status_code == 422 and "top_k" in answer.json()["detail"]


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\ntoken=",
        b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx",
    ],
)
def test_who_sends_a_head_or_a_body_drop_by_drop_is_cut_off(hasty: Served, begun: bytes) -> None:
    with hasty.connect() as line:
        line.sendall(begun)
        began = time.monotonic()
        cut = False
        while not cut:
            assert time.monotonic() - began < PATIENCE_S, "it is still waited for"
            try:
                line.sendall(b"a" if begun else b"")
                line.settimeout(0.05)
                while (told := line.recv(65_536)) != b"":
                    assert told.startswith(b"HTTP/1.1 4")
                cut = True
            except TimeoutError:
                continue
            except OSError:
                cut = True
    assert httpx.get(f"{hasty.address}/login").status_code == 200


def test_a_head_without_end_is_cut_off(process: Served) -> None:
    before = memory(process)
    with process.connect() as line:
        try:
            line.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ")
            for _ in range(100):
                line.sendall(b"a" * MB)
            raise AssertionError("all of it was taken")
        except OSError:
            pass
    assert memory(process) - before < 20 * MB


def test_what_tenants_wait_for_holds_up_neither_the_page_nor_another_tenant(process: Served, emulator: str) -> None:
    # Given a tenant with forty searches of an index that takes its time
    vector = {"vector": [1.0] * SMALL, "twin_id": "coach"}
    client = PineconeDelphiClient("small", settings=Settings(pinecone_api_key="any", pinecone_controller_host=emulator))  # type: ignore[arg-type]
    for creator in ("ana", "bob"):
        client.upsert_vectors([{"id": "v-1", "values": [1.0] * SMALL}], creator, "coach")
    slow = {"operation": "query", "namespace": "creator_ana_twin_coach", "delay_ms": 12_000}
    httpx.post(f"{emulator}/_emulator/faults", json=slow).raise_for_status()
    anas, bobs = process.bearer("ana"), process.bearer("bob")
    search = f"{process.address}/delphi/search"
    with ThreadPoolExecutor(40) as pool:
        asked = [pool.submit(httpx.post, search, json=vector, headers=anas, timeout=PATIENCE_S) for _ in range(40)]
        time.sleep(1.0)  # all of them are on their way

        # When an operator looks, and another tenant searches
        assert httpx.get(process.address, headers={"Authorization": f"Bearer {OPERATOR}"}).status_code == 200
        assert httpx.post(search, json=vector, headers=bobs).status_code == 200

        # Then both were answered while all of the first tenant's still waited
        answered = sum(one.done() for one in asked)
        httpx.delete(f"{emulator}/_emulator/faults").raise_for_status()
        assert {one.result().status_code for one in asked} <= {200, 429}
    assert answered == 0


@pytest.mark.timeout(60)  # read once for each quote in it, it takes half an hour, and everybody waits
def test_a_text_without_an_end_is_read_once() -> None:
    check_shape(b"[" + b"[]," * 40 + b'"' + b'\\"' * 490_000)
