"""`up`, `set JOB workers`, `down` and the demo: everything on one machine, and nothing left behind."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from orchestrator.embedded.ports import claim_port
from orchestrator.embedded.process import Process
from orchestrator.embedded.record import StackRecord
from orchestrator.embedded.stack import down
from tests.stories.launching import type_out

pytestmark = pytest.mark.story

PATIENCE_S = 300.0  # takes about 20 s; two cores that others keep busy may need this
# Addresses that lead nowhere: whoever asked them would fail.
ELSEWHERE = {
    "DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:1/none",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "PINECONE_API_KEY": "a real key",
    "PINECONE_CONTROLLER_HOST": "http://127.0.0.1:1",
    "PINECONE_INDEX_NAME": "digital-twin-brain",
    "PINECONE_HOST": "http://127.0.0.1:1",
    "BROKER_URL": "redis://127.0.0.1:1/0",
    "PGVECTOR_URL": "postgresql+psycopg://nobody@127.0.0.1:1/none",
    "OWNERSHIP_DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:1/none",
    "TEXTS_DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:1/none",
    "WEBHOOK_URL": "http://127.0.0.1:1",
}
NOTHING = dict.fromkeys(("DATABASE_URL", "REDIS_URL", "PINECONE_API_KEY", "PINECONE_CONTROLLER_HOST"), "none")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "home"
    yield place
    for folder in (place, place / "demo"):
        down(folder, erase=True)


def words(*command: str) -> list[str]:
    return [sys.executable, "-P", "-m", "orchestrator", *command]


def run(home: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words(*command),
        capture_output=True,
        text=True,
        env=_told(home, environment),
        cwd=home.parent,
        timeout=PATIENCE_S,
        check=False,
    )


def run_warm(home: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The same for a command that starts nothing."""
    return type_out(*command, env=_told(home, environment), folder=home.parent)


def _told(home: Path, environment: dict[str, str]) -> dict[str, str]:
    return {**os.environ, "VECFLEET_HOME": str(home), **environment}


def running_from(home: Path) -> list[str]:
    """Processes that were told of this folder, by name."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get("VECFLEET_HOME", "").startswith(
                str(home)
            ):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_the_demo_migrates_the_seeds_index_and_leaves_nothing_behind(home: Path) -> None:
    # Given an environment and an .env that name other services, and a real key
    (home.parent / ".env").write_text("".join(f"{name}={value}\n" for name, value in ELSEWHERE.items()))
    answer = run(home, "demo", **ELSEWHERE, CELERY_BROKER_URL=ELSEWHERE["BROKER_URL"])
    # Then 805 of 805 are moved and verified, on private servers only
    assert answer.returncode == 0, answer.stdout[-2_000:] + answer.stderr
    assert re.search(r"moved and verified +805 of 805 records", answer.stdout)
    assert re.search(r"namespaces +30 before → 30 after, 30 of them created by this job\n", answer.stdout)
    assert "parked 0 · left behind 0 · gone 0 · erased 0 · deleted from the source 805" in answer.stdout
    assert re.search(r"requests +[\d,]+ +[\d,]+", answer.stdout)
    # And the job was begun once there was a dispatcher
    assert "no dispatcher" not in answer.stdout
    # And each command was typed as a user would
    typed = re.findall(r"^\$ vecfleet (\w+)", answer.stdout, flags=re.MULTILINE)
    assert typed == ["audit", "plan", "apply", "cutover", "cleanup", "report"]
    # And no process and no file is left
    assert running_from(home) == []
    assert not home.exists()


def test_a_demo_that_is_told_to_stop_leaves_nothing_behind(home: Path, tmp_path: Path) -> None:
    log = tmp_path / "demo.log"
    env = {**os.environ, "VECFLEET_HOME": str(home)}
    process = Process.launch("demo", words("demo"), log=log, cwd=tmp_path, env=env)
    process.wait_until(lambda: "$ vecfleet apply" in log.read_text(), PATIENCE_S)
    # When it is terminated in the middle
    os.kill(process.pid, signal.SIGTERM)
    assert process.child is not None
    assert process.child.wait(PATIENCE_S) == 130
    # Then
    assert running_from(home) == []
    assert not list(home.glob("demo/*"))
    assert "Traceback" not in log.read_text()


def test_a_stack_is_joined_scaled_and_stopped(home: Path) -> None:
    # Given a stack in the background, with an emulator on a port that no other stack of this machine takes
    claim_port(home, "emulator")
    answer = run(home, "up", "--detach", "--workers", "1", **NOTHING)
    assert answer.returncode == 0, answer.stderr
    joined = dict(re.findall(r"^export (\w+)='?([^'\n]*)'?$", answer.stdout, flags=re.MULTILINE))
    assert {"DATABASE_URL", "REDIS_URL", "PINECONE_API_KEY", "FLOWER_URL", "FLOWER_PASSWORD"} <= set(joined)
    # When another shell joins it, and a job is started
    assert "digital-twin-brain" in run_warm(home, "audit", **joined).stdout
    plan = ("plan", "creators", "digital-twin-brain", "--creator", "ana", "--conflicts", "keep", "--out", "plan.yaml")
    assert run_warm(home, *plan, **joined).returncode == 0
    assert run_warm(home, "apply", "plan.yaml", "--no-backup", **joined).returncode == 0
    # Then the page shows it to who has the token that was printed
    operator = {"Authorization": f"Bearer {joined['OPERATOR_TOKEN']}"}
    assert [job["job"] for job in httpx.get(joined["WEB_URL"], headers=operator).json()["jobs"]] == [1]
    assert f"the page: {joined['WEB_URL']}/login#{joined['OPERATOR_TOKEN']}" in answer.stderr
    # And the number of workers can be changed while it runs
    assert run_warm(home, "set", "1", "workers", "2", **joined).returncode == 0
    until(lambda: _workers(home) == 2)
    assert run_warm(home, "set", "1", "workers", "1", **joined).returncode == 0
    until(lambda: _workers(home) == 1)
    # And the job arrives all the same
    assert run_warm(home, "status", "1", "--watch", **joined).returncode == 0
    until(lambda: run_warm(home, "doctor", **joined).returncode == 0)
    # And the lines by which a shell joins are told again, to who asks for them
    assert run(home, "up", "--print").stdout == answer.stdout
    # And a second one from the same folder is refused, with the line by which to join the first
    second = run(home, "up", "--detach", **joined)
    assert second.returncode == 3 and 'eval "$(vecfleet up --print)"' in second.stderr
    # And no log holds a password or a token, for logs are kept, and sent to others
    secrets = [joined[name] for name in ("OPERATOR_TOKEN", "FLOWER_PASSWORD")]
    secrets += [urlsplit(joined[name]).password or "" for name in ("DATABASE_URL", "REDIS_URL")]
    assert (home / "logs" / "supervisor.log").exists() and all(secrets)
    for log in (home / "logs").iterdir():
        assert [secret for secret in secrets if secret in log.read_text()] == [], log
    # When it is taken down, the line is printed that takes its addresses out of a shell
    stopped = run(home, "down", **joined)
    assert set(stopped.stdout.splitlines()[-1].split()) == {"unset", *joined}
    # And who asks the doctor from that shell is told how to start it again, at the same addresses
    found = run_warm(home, "doctor", **joined).stdout
    assert "no emulator runs at 127.0.0.1" in found and "API_KEY" not in found
    assert found.splitlines()[-1].endswith('start it again, at the same addresses: eval "$(vecfleet up --detach)"')
    again = run(home, "up", "--detach", "--workers", "1", **joined)
    assert again.returncode == 0 and again.stdout == answer.stdout, again.stderr
    assert "next: vecfleet audit" in again.stderr
    # When it is taken down for good, nothing runs any more, and what stays is named
    assert run_warm(home, "token", "create", "--role", "viewer").returncode == 0
    asked = run(home, "down", "--erase")
    assert asked.returncode == 3 and "live: job 1 is verified" in asked.stdout and running_from(home) != []
    assert asked.stderr.splitlines()[-1] == "next: vecfleet down --erase --yes"
    erased = run(home, "down", "--erase", "--yes", VECFLEET_ROOT=str(home.parent))
    assert erased.returncode == 0 and running_from(home) == []
    assert [path.name for path in home.iterdir()] == ["tokens.json"]
    assert f"kept, because you may still need it: {home / 'tokens.json'}" in erased.stdout
    assert "nothing was running here" in run(home, "down").stdout
    # And in a shell that still has its addresses, the next one says so instead of failing on them
    lost = run(home, "up", "--detach", **joined)
    assert lost.returncode == 3 and lost.stdout == ""
    assert {"DATABASE_URL", "REDIS_URL"} <= set(re.findall(r"\w+", lost.stderr.partition("unset ")[2])), lost.stderr
    assert 'eval "$(vecfleet up --detach)"' in lost.stderr
    nothing = run(home, "up", "--print")
    assert nothing.returncode == 2 and nothing.stdout == "" and "vecfleet up --detach" in nothing.stderr


def _workers(home: Path) -> int:
    record = StackRecord.read(home)
    assert record is not None
    return sum(process.name.startswith("worker-") and process.alive() for process in record.processes)
