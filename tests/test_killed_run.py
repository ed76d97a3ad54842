"""A run of the tests that is killed leaves nothing behind."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

REPOSITORY = Path(__file__).resolve().parent.parent
PATIENCE_S = 120.0
WAITING = """
import time
from pathlib import Path


def test_that_waits(postgres, redis_server):
    servers = (postgres, redis_server)
    note = Path(__file__).with_name("note")
    note.with_suffix(".new").write_text("\\n".join(f"{server.process.pid} {server.home}" for server in servers))
    note.with_suffix(".new").rename(note)
    time.sleep(600)
"""


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_the_servers_of_a_killed_run_end_and_their_files_go(tmp_path: Path) -> None:
    # Given a run of pytest whose servers run; it ignores the signals that a shell keeps from what runs behind it
    (tmp_path / "test_waiting.py").write_text(WAITING)
    options = ["-n0", "-p", "no:cacheprovider", "-p", "tests.conftest", f"--basetemp={tmp_path / 'base'}"]
    behind = ["sh", "-c", 'trap "" INT QUIT; exec "$@"', "sh"]
    run = subprocess.Popen([*behind, sys.executable, "-m", "pytest", *options, str(tmp_path)], cwd=REPOSITORY)
    wait_until(lambda: (tmp_path / "note").exists())
    servers = [line.split(" ") for line in (tmp_path / "note").read_text().splitlines()]

    # When it is killed, so that it ends nothing itself
    run.kill()
    run.wait()

    # Then its servers end all the same, and nothing of theirs stays
    wait_until(lambda: not any(psutil.pid_exists(int(pid)) for pid, _ in servers))
    wait_until(lambda: not any(Path(home).exists() for _, home in servers))
