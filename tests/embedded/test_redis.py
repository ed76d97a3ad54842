"""The private Redis: behind a password, on the loopback address, never evicting, back after a kill."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import redis

from orchestrator.embedded.account import Account
from orchestrator.embedded.postgres import Postgres
from orchestrator.embedded.redis import Redis


def test_it_lets_nobody_in_without_the_password(redis_server: Redis) -> None:
    with redis.Redis(port=redis_server.port or 0) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_it_listens_on_the_loopback_address_only(redis_server: Redis) -> None:
    assert redis_server.process is not None
    sockets = psutil.Process(redis_server.process.pid).net_connections("all")
    listening = [socket.laddr for socket in sockets if socket.status == psutil.CONN_LISTEN]
    assert [(address.ip, address.port) for address in listening] == [("127.0.0.1", redis_server.port)]


def test_it_never_drops_a_wake_up_to_save_memory(redis_server: Redis) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_a_kill_loses_nothing_it_had_answered(tmp_path: Path) -> None:
    # Given a durable server with a key, killed without warning
    server = Redis(tmp_path).start()
    with redis.Redis.from_url(server.url) as client:
        client.set("note", "kept")
    assert server.process is not None
    address = server.url
    os.kill(server.process.pid, signal.SIGKILL)
    server.stop()
    # When it is started again
    with Redis(tmp_path) as again, redis.Redis.from_url(again.url) as client:
        # Then it is the same server at the same address
        assert again.url == address
        assert client.get("note") == b"kept"


def test_one_that_was_not_to_last_leaves_no_file(tmp_path: Path) -> None:
    with Redis(tmp_path, durable=False) as server:
        home = server.home
        assert home.exists()
    assert not home.exists()


def test_neither_server_is_given_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a shell with keys in it
    for name in ("PINECONE_API_KEY", "AUDIT_KEY", "OPERATOR_TOKEN", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "a-key-of-somebody")
    # When the private servers start from it
    with Redis(tmp_path, durable=False) as first, Postgres(tmp_path, durable=False) as second:
        # Then none of their processes has one in its environment
        for server in (first, second):
            assert server.process is not None
            process = psutil.Process(server.process.pid)
            assert "a-key-of-somebody" not in process.environ().values()
            for child in process.children():
                with suppress(psutil.NoSuchProcess):  # Postgres ends a process of its own as it likes
                    assert "a-key-of-somebody" not in child.environ().values()


def test_what_is_tried_as_the_servers_account_is_given_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PINECONE_API_KEY", "a-key-of-somebody")
    assert Account(None).can_run("/bin/sh", "-c", 'test -z "$PINECONE_API_KEY"')
