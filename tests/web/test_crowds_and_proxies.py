"""`vecfleet serve` as it listens: for so many at once and no more, and behind a proxy that was declared."""

import http.client
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
import uvicorn

from orchestrator.bootstrap import Fleet
from orchestrator.cli import serving
from orchestrator.embedded.ports import free_port, listening
from orchestrator.ledger.database import Database
from orchestrator.web import app, applications
from tests.stories.launching import cold
from tests.tenancy.conftest import SMALL, MakeIndex
from vecfleet.settings import Settings
from vecfleet.tenancy import PineconeDelphiClient
from vecfleet.tenancy.tokens import FILE, TokenFile

pytest_plugins = ["tests.tenancy.conftest"]
PATIENCE_S = 120.0
OPERATOR = "the token of the settings"
SIGNED = {"Authorization": f"Bearer {OPERATOR}"}


@contextmanager
def crowded(settings: Settings) -> Iterator[tuple[str, uvicorn.Server]]:
    """The application as `serve` lets uvicorn listen, in this process."""
    parts, port = Fleet(settings), free_port()
    options = serving.listening_options("127.0.0.1", port, [])
    server = uvicorn.Server(uvicorn.Config(app.create(parts), **options, lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until("it listens", lambda: server.started)
        yield f"http://127.0.0.1:{port}", server
    finally:
        server.should_exit = True
        thread.join()
        parts.database.dispose()


def until(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:.0f} s: {what}"
        time.sleep(0.01)


def test_a_crowd_is_turned_away_and_what_tenants_wait_for_leaves_the_page_to_its_operator(
    settings: Settings, emulator: str, make_index: MakeIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a service for seven connections, two threads for tenants, and six searches of a slow index
    monkeypatch.setattr(serving, "_CONNECTIONS", 8)
    monkeypatch.setattr(app, "THREADS", 2)
    make_index()
    there = {"pinecone_controller_host": emulator, "pinecone_api_key": "any", "pinecone_index_name": "small"}
    own = Settings(**settings.model_dump(exclude_unset=True) | there | {"use_delphi_namespaces": True})
    vector = {"vector": [1.0] * SMALL, "twin_id": "coach"}
    PineconeDelphiClient("small", settings=own).upsert_vectors([{"id": "v", "values": [1.0] * SMALL}], "ana", "coach")
    slow = {"operation": "query", "namespace": "creator_ana_twin_coach", "delay_ms": 15_000}
    httpx.post(f"{emulator}/_emulator/faults", json=slow).raise_for_status()
    token = TokenFile(own.vecfleet_home / FILE).create({"id": "app", "role": "user", "creator_ids": ["ana"]})
    with crowded(own) as (address, server), ThreadPoolExecutor(6) as pool:
        connections = server.server_state.connections
        bearer = {"Authorization": f"Bearer {token}"}
        asked = [
            pool.submit(httpx.post, f"{address}/delphi/search", json=vector, headers=bearer, timeout=PATIENCE_S)
            for _ in range(6)
        ]
        until("all six are there", lambda: len(connections) == 6)

        # When an operator looks, then the page is there: it has threads of its own
        assert httpx.get(address, headers=SIGNED).status_code == 200
        until("the operator's connection is closed", lambda: len(connections) == 6)

        # When one more holds a connection, then whoever comes next is turned away, before anything is read
        with socket.create_connection(("127.0.0.1", server.config.port)):
            until("it is there", lambda: len(connections) == 7)
            assert httpx.get(address, headers=SIGNED).status_code == 503
            assert httpx.post(f"{address}/delphi/search", json=vector, headers=bearer).status_code == 503
        # And once it left, there is room again
        until("it left", lambda: len(connections) == 6)
        assert httpx.get(address, headers=SIGNED).status_code == 200
        assert not any(one.done() for one in asked)
        httpx.delete(f"{emulator}/_emulator/faults").raise_for_status()
        assert {one.result().status_code for one in asked} == {200}


def test_scrapes_that_wait_for_the_job_table_leave_the_page_to_whoever_comes(
    settings: Settings, database: Database
) -> None:
    # Given more scrapes than the page has threads, all of them waiting for the job table
    with crowded(settings) as (address, server), ThreadPoolExecutor(60) as pool:
        with database.begin() as connection:
            connection.execute(sa.text("LOCK TABLE job IN ACCESS EXCLUSIVE MODE"))
            scrapes = [pool.submit(httpx.get, f"{address}/metrics", timeout=PATIENCE_S) for _ in range(60)]
            until("all are there", lambda: len(server.server_state.connections) == 60)
            # When somebody comes to the page, then it is there
            assert httpx.get(f"{address}/login", timeout=10).status_code == 200
            assert not any(scrape.done() for scrape in scrapes)
        assert {scrape.result().status_code for scrape in scrapes} == {200}


def test_one_applications_requests_wait_for_each_other_and_hold_up_nobody_elses(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given two threads for applications, of which one token may use one, and a table that does not answer
    monkeypatch.setattr(app, "THREADS", 2)
    monkeypatch.setattr(applications, "_EACH", 1)
    tokens = TokenFile(settings.vecfleet_home / FILE)
    first, second = (
        {"Authorization": f"Bearer {tokens.create({'id': 'app', 'role': 'fencing', 'creator_ids': []})}"} for _ in "ab"
    )
    with crowded(settings) as (address, server), ThreadPoolExecutor(4) as pool:
        with database.begin() as connection:
            connection.execute(sa.text("LOCK TABLE job IN ACCESS EXCLUSIVE MODE"))
            waiting = [
                pool.submit(httpx.get, f"{address}/delphi/routes", headers=first, timeout=PATIENCE_S) for _ in range(4)
            ]
            until("all are there", lambda: len(server.server_state.connections) == 4)
            # When another application asks for something else, then it is answered
            fenced = httpx.get(f"{address}/delphi/erasures?subject=x", headers=second, timeout=10)
            assert fenced.json() == {"fenced": False}
            assert not any(one.done() for one in waiting)
        assert {one.result().status_code for one in waiting} == {200}


class Proxy(BaseHTTPRequestHandler):
    """Forwards to the service, and says who asked, as proxies do: after whatever the client itself claimed."""

    protocol_version = "HTTP/1.1"
    behind = 0

    def do_GET(self) -> None:
        self._forward()

    def do_POST(self) -> None:
        self._forward()

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        claimed = self.headers.get("X-Forwarded-For")
        headers = {name: value for name, value in self.headers.items() if not name.lower().startswith("x-forwarded")}
        headers["X-Forwarded-For"] = ", ".join([*([claimed] if claimed else []), self.client_address[0]])
        headers["X-Forwarded-Proto"] = "https"
        line = http.client.HTTPConnection("127.0.0.1", self.behind, timeout=PATIENCE_S)
        line.request(self.command, self.path, body, headers)
        answer = line.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        line.close()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def in_front_of(port: int) -> Iterator[str]:
    """A proxy on a port of its own, at this address."""
    handler = type("Here", (Proxy,), {"behind": port})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def service(settings: Settings, folder: Path, *options: str) -> Iterator[int]:
    """`vecfleet serve` as a process of its own, at this port."""
    assert settings.database_url is not None and settings.redis_url is not None
    port = free_port()
    own = {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "REDIS_URL": settings.redis_url.get_secret_value(),
        "VECFLEET_HOME": str(folder / "home"),
        "PINECONE_API_KEY": "none",
        "OPERATOR_TOKEN": OPERATOR,
    }
    words = ("orchestrator", "serve", "--port", str(port), *options)
    started = cold("serve", *words, log=folder / "serve.log", env={**os.environ, **own}, port=port)
    try:
        started.wait_until(lambda: listening(port), PATIENCE_S)
        yield port
    finally:
        started.stop(patience_s=10)


def sign_in(address: str, token: str, source: str, **headers: str) -> httpx.Response:
    """Sign in from one of this machine's own addresses."""
    with httpx.Client(transport=httpx.HTTPTransport(local_address=source), timeout=PATIENCE_S) as client:
        return client.post(f"{address}/login", data={"token": token}, headers=headers)


def claim(number: int) -> dict[str, str]:
    return {"X-Forwarded-For": f"198.51.100.{number}"}


def test_behind_a_declared_proxy_who_asks_is_as_it_says_and_no_client_speaks_for_itself(
    settings: Settings, tmp_path: Path
) -> None:
    with service(settings, tmp_path, "--trusted-proxy", "127.0.0.1") as port, in_front_of(port) as address:
        # Given somebody who guesses from one address, and claims another each time
        guesses = [sign_in(address, "a guess", "127.0.0.2", **claim(n)).status_code for n in range(20)]
        # Then that address waits
        assert guesses[:10] == [401] * 10 and guesses[-1] == 429
        # And somebody else, behind the same proxy, signs in; the cookie goes over TLS only
        answer = sign_in(address, OPERATOR, "127.0.0.3")
        assert answer.status_code == 303 and "Secure" in answer.headers["set-cookie"]
        # But who comes round the proxy is believed nothing
        straight = [
            sign_in(f"http://127.0.0.1:{port}", "a guess", "127.0.0.4", **claim(n)).status_code for n in range(20)
        ]
        assert straight[-1] == 429


def test_a_proxy_that_nobody_declared_is_believed_nothing(settings: Settings, tmp_path: Path) -> None:
    with service(settings, tmp_path) as port, in_front_of(port) as address:
        # When it says that each of many guesses comes from somebody else, over TLS
        answer = sign_in(address, OPERATOR, "127.0.0.2")
        guesses = [sign_in(address, "a guess", f"127.0.0.{n}").status_code for n in range(2, 22)]
        # Then all of them are the proxy's own, and cookies are as they are without TLS
        assert answer.status_code == 303 and "Secure" not in answer.headers["set-cookie"]
        assert guesses[-1] == 429
