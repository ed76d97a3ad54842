"""The private Postgres: starts for root and for anybody, survives a kill, changes nothing outside its folders."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from orchestrator.embedded.account import ELSEWHERE, Account
from orchestrator.embedded.ports import free_port
from orchestrator.embedded.postgres import Postgres

ROOT = os.geteuid() == 0


def test_it_has_pgvector_and_speaks_utf8_in_byte_order(postgres: Postgres) -> None:
    with connect(postgres) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        assert one(connection, "SELECT '[1,2]'::vector <-> '[1,4]'") == 2
        assert one(connection, "SHOW server_encoding") == "UTF8"
        assert one(connection, "SELECT 'a' > 'B'") is True


def test_it_lets_nobody_in_without_the_password(postgres: Postgres) -> None:
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"postgresql://vecfleet:wrong@127.0.0.1:{postgres.port}/vecfleet")


def test_it_listens_on_the_loopback_address_only(postgres: Postgres) -> None:
    assert postgres.process is not None
    sockets = psutil.Process(postgres.process.pid).net_connections("all")
    listening = [socket.laddr for socket in sockets if socket.status == psutil.CONN_LISTEN]
    assert [(address.ip, address.port) for address in listening] == [("127.0.0.1", postgres.port)]


def test_it_changes_no_permission_outside_its_own_folder(tmp_path: Path) -> None:
    # Given the permissions of every folder above its state and above the programs it runs
    wheel = Postgres._wheel_folder()
    above = {*tmp_path.parents, tmp_path, wheel, *wheel.parents, Path.home(), ELSEWHERE.parent}
    before = {folder: facts(folder) for folder in above}
    # When it was started, stopped and erased
    with Postgres(tmp_path / "state", durable=False):
        pass
    # Then they are as they were, and nothing of it is left
    assert {folder: facts(folder) for folder in above} == before
    assert not (tmp_path / "state" / "postgres").is_symlink()


def test_a_kill_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    # Given a server with a committed row, killed without warning
    server = Postgres(tmp_path, durable=False).start()
    with connect(server) as connection:
        connection.execute("CREATE TABLE note AS SELECT 'kept' AS text")
    assert server.process is not None
    address = server.url
    os.kill(server.process.pid, signal.SIGKILL)
    server.stop()
    # When another one is started on its folder
    with Postgres(tmp_path, durable=False) as again:
        # Then it is the same server at the same address
        assert again.url == address
        with connect(again) as connection:
            assert one(connection, "SELECT text FROM note") == "kept"


def test_a_first_start_that_was_cut_short_is_done_over(tmp_path: Path) -> None:
    # Given the rubble of an unfinished first start
    server = Postgres(tmp_path, durable=False)
    server._make_home()
    (server.home / "data.unfinished" / "base").mkdir(parents=True)
    # When it is started
    with server:
        # Then it works
        with connect(server) as connection:
            assert one(connection, "SELECT 1") == 1


def test_a_port_taken_meanwhile_is_given_up_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given two servers that are told of the same free port
    contested = free_port()
    answers = iter([contested, contested, free_port()])
    monkeypatch.setattr("orchestrator.embedded.server.claim_port", lambda *_: next(answers))
    with Postgres(tmp_path / "one", durable=False) as one_server, Postgres(tmp_path / "two", durable=False) as two:
        # Then the second finds another
        assert one_server.port == contested
        assert two.port not in (contested, None)


def test_variables_of_the_users_own_postgres_do_not_steer_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGDATA", "/nonexistent")
    monkeypatch.setenv("PGPORT", "1")
    with Postgres(tmp_path, durable=False) as server, connect(server) as connection:
        assert one(connection, "SELECT 1") == 1


@pytest.mark.skipif(not ROOT, reason="only root hands the database to another account")
def test_root_hands_it_to_an_account_without_rights(open_folder: Path) -> None:
    # Given a state folder that everybody can reach, when root starts a server there
    with Postgres(open_folder, durable=False) as server:
        # Then it runs as that account, and from that folder
        assert server.process is not None
        assert psutil.Process(server.process.pid).username() == Account.for_database().name
        assert server.home == open_folder / "postgres"


@pytest.mark.skipif(not ROOT, reason="only root hands the database to another account")
def test_root_keeps_the_data_elsewhere_if_the_account_cannot_reach_the_state_folder(tmp_path: Path) -> None:
    # Given a state folder in a private one
    tmp_path.chmod(0o700)
    # When root starts a server there
    with Postgres(tmp_path, durable=False) as server:
        # Then a link leads to its files
        home = server.home
        assert (tmp_path / "postgres").is_symlink() and home.parent == ELSEWHERE
    # And they are gone with it
    assert not home.exists()


@pytest.mark.skipif(not ROOT, reason="only root hands the database to another account")
def test_root_copies_the_programs_that_the_account_cannot_reach(
    open_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an installation in a private folder
    installed = Postgres._wheel_folder()
    tmp_path.chmod(0o700)
    for part in (f"{Postgres.wheel}.libs", f"{Postgres.wheel}/pginstall18"):
        shutil.copytree(installed.parent / part, tmp_path / part, symlinks=True)
    monkeypatch.setattr(Postgres, "_wheel_folder", lambda _: tmp_path / Postgres.wheel)
    # When root starts a server
    with Postgres(open_folder, durable=False) as server:
        # Then it runs from a copy of ours
        assert server.process is not None
        assert Path(psutil.Process(server.process.pid).exe()).is_relative_to(server.home)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="vecfleet-test-", dir="/tmp")).resolve()
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def connect(server: Postgres) -> "psycopg.Connection[tuple[object, ...]]":
    return psycopg.connect(server.url.replace("+psycopg", ""), autocommit=True)


def one(connection: "psycopg.Connection[tuple[object, ...]]", query: str) -> object:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def facts(folder: Path) -> tuple[int, int, int]:
    found = folder.stat()
    return found.st_mode, found.st_uid, found.st_gid
