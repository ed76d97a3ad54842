"""The stack as an operator meets it: started, refused, killed, restarted, stopped; nothing is ever left behind."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import psycopg
import pytest
import redis
from job_table import JobTable, plan_of, planned

from orchestrator.embedded.foreground import exports
from orchestrator.embedded.ports import listening
from orchestrator.embedded.process import DidNotStart, Process
from orchestrator.embedded.record import StackRecord
from orchestrator.embedded.redis import Redis
from orchestrator.embedded.stack import MAX_RESTARTS, Stack, down
from orchestrator.ledger.database import Database
from orchestrator.ledger.leasing import owner_of
from vecfleet.errors import Refused
from vecfleet.settings import Settings

Supervisor = Callable[..., Process]

PATIENCE_S = 120.0
NOTHING = Settings(database_url=None, redis_url=None, pinecone_api_key=None)


def test_a_second_up_on_the_same_folder_is_refused_with_a_sentence(supervise: Supervisor, state_dir: Path) -> None:
    # Given a running stack
    supervisor = supervise()
    # When another is started from its folder
    with pytest.raises(Refused) as refusal:
        Stack(state_dir, settings=NOTHING).start()
    # Then it says who is there and what to do, and the first runs on
    assert f"in use by process {supervisor.pid}" in refusal.value.message
    next_step = refusal.value.next_step or ""
    assert 'eval "$(vecfleet up --print)"' in next_step and "vecfleet down" in next_step
    assert supervisor.alive() and all(process.alive() for process in recorded(state_dir).processes)


def test_down_stops_everything_and_leaves_no_process_port_or_file(supervise: Supervisor, state_dir: Path) -> None:
    # Given a stack whose data were not to last
    supervisor = supervise()
    processes = recorded(state_dir).processes
    homes = [(state_dir / name).resolve() for name in ("postgres", "redis")]
    assert len(processes) == 2
    # When it is taken down
    assert down(state_dir)
    # Then its supervisor ended well, and nothing is left
    assert supervisor.child is not None and supervisor.child.wait(PATIENCE_S) == 0
    assert_gone(processes)
    assert not state_dir.exists() and not any(home.exists() for home in homes)


def test_down_finds_what_a_killed_supervisor_left_running(supervise: Supervisor, state_dir: Path) -> None:
    # Given a stack whose supervisor was killed
    supervisor = supervise()
    processes = recorded(state_dir).processes
    kill(supervisor)
    assert all(process.alive() for process in processes)
    # When it is taken down
    assert down(state_dir)
    # Then nothing is left, and a second time there is nothing to do
    assert_gone(processes)
    assert not state_dir.exists()
    assert not down(state_dir)


def test_up_after_a_killed_supervisor_stops_its_leftovers_and_keeps_the_data(
    supervise: Supervisor, state_dir: Path
) -> None:
    # Given a durable stack with a row and a key in it, whose supervisor was killed
    first = supervise(durable=True)
    before = recorded(state_dir)
    write(before)
    kill(first)
    # When it is started again
    supervise(durable=True)
    # Then the old processes are gone, and the new ones have the data at the same addresses
    after = recorded(state_dir)
    assert not any(process.alive() for process in before.processes)
    assert after.environment == before.environment
    assert read(after) == ("kept", b"kept")


def test_data_survive_down_and_up(supervise: Supervisor, state_dir: Path) -> None:
    # Given a durable stack with a row and a key in it
    supervise(durable=True)
    before = recorded(state_dir)
    write(before)
    # When it is taken down and started again
    down(state_dir)
    assert_gone(before.processes)
    supervise(durable=True)
    # Then they are there
    assert read(recorded(state_dir)) == ("kept", b"kept")
    # And when it is taken down for good, they are not
    home = (state_dir / "postgres").resolve()
    down(state_dir, erase=True)
    assert not home.exists() and not state_dir.exists()


def test_data_that_were_not_to_last_do_not_come_back_after_a_kill(supervise: Supervisor, state_dir: Path) -> None:
    # Given a throwaway stack with a row and a key in it, whose supervisor was killed
    first = supervise(durable=False)
    write(recorded(state_dir))
    kill(first)
    # When the next one is started in its folder
    supervise(durable=False)
    # Then it starts from nothing
    with psycopg.connect(recorded(state_dir).environment["PGVECTOR_URL"].replace("+psycopg", "")) as connection:
        assert connection.execute("SELECT to_regclass('note')").fetchone() == (None,)


def test_a_throwaway_stack_refuses_a_folder_with_data_that_are_to_last(supervise: Supervisor, state_dir: Path) -> None:
    # Given the folder of a lasting stack that was taken down
    supervise(durable=True)
    write(recorded(state_dir))
    down(state_dir)
    # When a throwaway one is started there
    with pytest.raises(Refused, match="holds data that are to last"):
        Stack(state_dir, durable=False, settings=NOTHING).start()
    # Then it is refused, and nothing was erased
    supervise(durable=True)
    assert read(recorded(state_dir)) == ("kept", b"kept")


@pytest.mark.parametrize("name", ["postgres", "redis"])
def test_a_server_that_died_is_started_again_at_its_address(supervise: Supervisor, state_dir: Path, name: str) -> None:
    # Given a running stack
    supervise()
    before = recorded(state_dir)
    # When one of its servers is killed
    kill(named(before, name))
    wait_for(lambda: named(recorded(state_dir), name).pid != named(before, name).pid)
    # Then it is back where it was, and the death is on record with its reason
    wait_for(lambda: listening(port_of(before, name)))
    after = recorded(state_dir)
    assert after.environment == before.environment
    assert [(restart.name, restart.reason) for restart in after.restarts] == [(name, "by signal SIGKILL")]


def test_the_leases_of_a_killed_worker_end_with_its_last_request(tmp_path: Path) -> None:
    # Given a stack with one worker, which holds a batch for another minute
    with Stack(tmp_path / "state", workers=1, durable=False, settings=NOTHING, tell=interrupt) as stack:
        worker = named(recorded(stack.state_dir), "worker-1")
        table = JobTable(Database(stack.environment["DATABASE_URL"], pool_size=1), owner=f"{owner_of(worker.pid)}a")
        table.apply(plan_of(planned("s", "t")))
        table.start()
        [lease] = table.take()
        held_until, killed_at = table.row(lease.id).lease_until, datetime.now(UTC)
        # When it is killed, and its supervisor finds out
        kill(worker)
        with pytest.raises(Interrupted, match="worker-1 stopped by signal SIGKILL"):
            stack.watch()
        # Then the batch is free sooner, and not before a request that it had sent must be over
        free_from = table.row(lease.id).lease_until
        table.database.dispose()
        assert killed_at + timedelta(seconds=NOTHING.request_deadline_seconds) <= free_from < held_until


def test_a_server_that_keeps_dying_ends_the_stack_with_the_reason(
    supervise: Supervisor, state_dir: Path, tmp_path: Path
) -> None:
    # Given a running stack
    supervisor = supervise()
    processes = recorded(state_dir).processes
    # When Redis dies once more than it may
    for deaths in range(MAX_RESTARTS + 1):
        wait_for(lambda died=deaths: len(recorded(state_dir).restarts) == died)  # type: ignore[misc]
        wait_for(lambda: named(recorded(state_dir), "redis").alive())
        kill(named(recorded(state_dir), "redis"))
    # Then everything is stopped, and the last words say why
    wait_for(lambda: not supervisor.alive())
    assert_gone(processes)
    assert f"and was started again {MAX_RESTARTS} times before" in words(tmp_path)


def test_a_hang_up_of_the_terminal_stops_everything(supervise: Supervisor, state_dir: Path) -> None:
    supervisor = supervise()
    processes = recorded(state_dir).processes
    os.kill(supervisor.pid, signal.SIGHUP)
    wait_for(lambda: not supervisor.alive())
    assert_gone(processes)


def test_services_that_the_user_names_are_used_and_not_started(tmp_path: Path) -> None:
    # Given addresses of the user's own services
    given = {
        "DATABASE_URL": "postgresql+psycopg://me@127.0.0.1:1/mine",
        "REDIS_URL": "redis://127.0.0.1:2/0",
        "PINECONE_API_KEY": "theirs",
        "PINECONE_CONTROLLER_HOST": "http://127.0.0.1:3",
    }
    settings = Settings.model_validate({name.lower(): value for name, value in given.items()})
    # When a stack with an emulator is asked for
    with Stack(tmp_path / "state", emulator=True, settings=settings) as stack:
        # Then none of the three is started, and clients are sent to the user's
        assert stack.environment == given
        assert recorded(tmp_path / "state").processes == ()


def test_a_start_that_fails_leaves_nothing_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a Redis that cannot start
    monkeypatch.setattr(Redis, "wheel", "no_such_wheel")
    # When the stack is started
    with pytest.raises(DidNotStart) as failure:
        Stack(tmp_path / "state", durable=False, settings=NOTHING).start()
    # Then it says what to do, and the Postgres that was already running is gone with its files
    assert "REDIS_URL" in (failure.value.next_step or "")
    assert not (tmp_path / "state").exists()


def test_only_its_owner_can_read_the_addresses_and_passwords(supervise: Supervisor, state_dir: Path) -> None:
    supervise()
    assert (state_dir / "state.json").stat().st_mode & 0o077 == 0
    for process in recorded(state_dir).processes:
        password = (state_dir / process.name / "password").read_text()
        assert password not in " ".join(psutil.Process(process.pid).cmdline())


def test_another_shell_joins_by_the_printed_lines() -> None:
    # Given values that a shell would take apart
    environment = {"DATABASE_URL": "postgresql://u:p$w@127.0.0.1/a b", "FLOWER_PASSWORD": "it's"}
    # When a shell reads the lines
    script = exports(environment) + """\nprintf '%s\\n' "$DATABASE_URL" "$FLOWER_PASSWORD" """
    seen = subprocess.run(["/bin/sh", "-c", script], check=True, capture_output=True, text=True).stdout
    # Then it has exactly these values
    assert seen.splitlines() == list(environment.values())


def test_a_process_born_under_a_recorded_pid_is_left_alone(sleeper: Process) -> None:
    # Given a record of a process that is gone, whose pid another has now
    gone = replace(sleeper, created=sleeper.created - 3600, child=None)
    # When the record is asked to stop it
    gone.stop(patience_s=1)
    # Then the other runs on
    assert not gone.alive() and sleeper.alive()


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Process]:
    process = Process.launch("sleeper", ["sleep", "600"], log=tmp_path / "log", cwd=tmp_path, env=os.environ)
    yield process
    process.stop(patience_s=PATIENCE_S)


class Interrupted(Exception):
    pass


def interrupt(sentence: str) -> None:
    """Ends the watching of a stack as soon as it tells something."""
    raise Interrupted(sentence)


def recorded(state_dir: Path) -> StackRecord:
    record = StackRecord.read(state_dir)
    assert record is not None
    return record


def named(record: StackRecord, name: str) -> Process:
    return next(process for process in record.processes if process.name == name)


def port_of(record: StackRecord, name: str) -> int:
    port = named(record, name).port
    assert port is not None
    return port


def kill(process: Process) -> None:
    os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: not process.alive())


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def assert_gone(processes: tuple[Process, ...]) -> None:
    assert not any(process.alive() for process in processes)
    assert not any(listening(process.port) for process in processes if process.port)


def write(record: StackRecord) -> None:
    with psycopg.connect(record.environment["PGVECTOR_URL"].replace("+psycopg", "")) as connection:
        connection.execute("CREATE TABLE note AS SELECT 'kept' AS text")
    with redis.Redis.from_url(record.environment["REDIS_URL"]) as client:
        client.set("note", "kept")


def read(record: StackRecord) -> tuple[object, object]:
    with psycopg.connect(record.environment["PGVECTOR_URL"].replace("+psycopg", "")) as connection:
        row = connection.execute("SELECT text FROM note").fetchone()
    with redis.Redis.from_url(record.environment["REDIS_URL"]) as client:
        return (row[0] if row else None), client.get("note")


def words(tmp_path: Path) -> str:
    return (tmp_path / "supervisor.log").read_text()
