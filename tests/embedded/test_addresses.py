"""A shell keeps what it took from a stack longer than the stack lives: what leads where, and what to type."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.cli import running
from orchestrator.embedded import addresses
from orchestrator.embedded.ports import claim_port
from orchestrator.embedded.process import Process
from orchestrator.embedded.record import StackRecord
from orchestrator.embedded.stack import Stack
from vecfleet.errors import Refused
from vecfleet.settings import Settings

NOTHING = Settings(database_url=None, redis_url=None, pinecone_api_key=None)
DEAD = {
    "DATABASE_URL": "postgresql+psycopg://vecfleet:secret@127.0.0.1:1/vecfleet",
    "REDIS_URL": "redis://:secret@localhost:1/0",
    "PINECONE_API_KEY": "emulator",
    "PINECONE_CONTROLLER_HOST": "http://127.0.0.1:1",
}


def test_an_address_is_told_without_its_password() -> None:
    assert addresses.told("redis://:secret@10.0.0.1/0") == "10.0.0.1:6379"
    assert addresses.told("postgresql+psycopg://me:secret@db.example.com:6543/jobs") == "db.example.com:6543"
    assert addresses.told("postgresql://me:secret@one:5432,two:5433/jobs") == "an address that names no host and port"
    # Of a password with a slash in it, what looks like the port is the begin of it
    assert addresses.told("postgresql://me:12/34@db.example.com/jobs") == "an address that names no host and port"


def test_an_emulator_of_ones_own_is_not_taken_for_this_folders(tmp_path: Path) -> None:
    # Given a folder whose emulator once had a port, at which somebody has started another one since
    port = claim_port(tmp_path, "emulator")
    with socket.create_server(("127.0.0.1", port)):
        mine = Settings.model_validate(
            {"pinecone_controller_host": f"http://127.0.0.1:{port}", "pinecone_api_key": "emulator"}
        )
        # Then it is used as it is
        assert addresses.without_own(mine, tmp_path) == mine
    # And when it is gone, the folder's own is started there again
    assert addresses.without_own(mine, tmp_path).pinecone_controller_host is None


def test_only_what_is_on_this_machine_and_listens_nowhere_is_lost() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings = Settings.model_validate(
            {
                "database_url": f"postgresql+psycopg://me@127.0.0.1:{server.getsockname()[1]}/mine",
                "redis_url": "redis://:secret@localhost:1/0",
                "pinecone_controller_host": "https://api.pinecone.io",
            }
        )
        assert addresses.nowhere(settings) == ("REDIS_URL",)


def test_a_shell_with_the_addresses_of_a_dead_stack_is_told_the_line_that_lets_go_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in DEAD.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Refused) as refusal:
        addresses.require_answering(Settings.load())
    assert "DATABASE_URL, REDIS_URL, PINECONE_CONTROLLER_HOST of this shell lead to this machine" in str(refusal.value)
    assert (refusal.value.next_step or "").startswith(
        'unset DATABASE_URL REDIS_URL PINECONE_CONTROLLER_HOST PINECONE_API_KEY, then eval "$(vecfleet up --detach)"'
    )
    assert "secret" not in str(refusal.value) + (refusal.value.next_step or "")


def test_vectors_in_a_postgres_that_does_not_run_are_warned_of_and_stop_no_other_job(
    vecfleet_up: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a shell that names a Postgres for vectors which does not run
    monkeypatch.setenv("PGVECTOR_URL", "postgresql://me:secret@127.0.0.1:1/vectors")
    # When a stack is started, then it is, and says what will not work, and why
    said = vecfleet_up()
    assert "warning: nothing listens at 127.0.0.1:1, where PGVECTOR_URL leads" in said and "secret" not in said
    # But where something is missing that every job needs, it is refused
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    with pytest.raises(Refused, match="REDIS_URL, PGVECTOR_URL of this shell"):
        vecfleet_up()


def test_a_wait_that_suits_an_emulator_is_warned_of_beside_pinecone(
    vecfleet_up: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a shell that joined a stack and took its wait, and then was given a key of Pinecone's
    monkeypatch.setenv("PINECONE_API_KEY", "a real key")
    monkeypatch.setenv("FRESHNESS_WAIT_SECONDS", "1")
    # When a fleet is started there, then it says what may come of it, and what to do
    said = vecfleet_up()
    assert "warning: FRESHNESS_WAIT_SECONDS is 1: deletions would rest on reads that Pinecone may answer" in said
    assert "unset it: then it is 60" in said
    # But with the usual wait, or beside an emulator of this machine, nothing is said
    monkeypatch.setenv("FRESHNESS_WAIT_SECONDS", "60")
    assert "FRESHNESS" not in vecfleet_up()
    monkeypatch.setenv("FRESHNESS_WAIT_SECONDS", "1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("PINECONE_CONTROLLER_HOST", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert "FRESHNESS" not in vecfleet_up()


@pytest.fixture
def vecfleet_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[], str]:
    """`vecfleet up` as far as it begins to start what it started; what it said until then."""
    for name in (*DEAD, *addresses.SUITS_EMULATOR):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VECFLEET_HOME", str(tmp_path / "state"))
    begun: list[Stack] = []
    monkeypatch.setattr(running, "run", lambda stack, _: begun.append(stack))

    def up() -> str:
        running.up(workers=1, detach=False, join=False)
        assert (begun.pop().settings.pgvector_url is not None) == ("PGVECTOR_URL" in os.environ)
        return capsys.readouterr().err

    return up


def test_what_this_folder_gave_out_is_its_own_running_or_not_until_it_is_erased(tmp_path: Path) -> None:
    # Given a stack of which a shell took the addresses, and which was stopped
    with Stack(tmp_path / "state", emulator=True, settings=NOTHING) as stack:
        taken = Settings.model_validate({name.lower(): value for name, value in stack.environment.items()})
    assert set(addresses.nowhere(taken)) == {*("DATABASE_URL", "REDIS_URL", "PGVECTOR_URL", "PINECONE_CONTROLLER_HOST")}
    # Then the folder knows them as its own, and gives out the same
    own = addresses.without_own(taken, tmp_path / "state")
    assert (own.database_url, own.redis_url, own.pgvector_url, own.pinecone_api_key) == (None, None, None, None)
    with Stack(tmp_path / "state", emulator=True, settings=own) as again:
        assert again.environment == stack.environment
    # And another folder leaves them alone
    assert addresses.without_own(taken, tmp_path / "other") == taken


def test_what_a_stack_did_not_start_is_not_let_go_of(tmp_path: Path) -> None:
    started = Process("redis", 1, 0.0, tmp_path / "log", port=7001)
    environment = {
        "DATABASE_URL": "postgresql+psycopg://me@127.0.0.1:5432/mine",
        "REDIS_URL": "redis://:x@127.0.0.1:7001/0",
        "PINECONE_API_KEY": "a real key",
    }
    record = StackRecord(Process.current("supervisor"), True, True, environment, (started,))
    assert addresses.given_out(record) == ("REDIS_URL",)


def test_the_waits_that_suit_an_emulator_go_with_its_address(tmp_path: Path) -> None:
    started = Process("emulator", 1, 0.0, tmp_path / "log", port=5080)
    environment = {"PINECONE_CONTROLLER_HOST": "http://127.0.0.1:5080", "FRESHNESS_WAIT_SECONDS": "1"}
    record = StackRecord(Process.current("supervisor"), True, True, environment, (started,))
    assert addresses.given_out(record) == ("PINECONE_CONTROLLER_HOST", "FRESHNESS_WAIT_SECONDS")
