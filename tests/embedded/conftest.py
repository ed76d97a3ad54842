"""A supervisor as a process of its own, as `vecfleet up` is one, so that a test can kill it."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.embedded.process import Process
from orchestrator.embedded.record import StackRecord
from orchestrator.embedded.stack import down

UP = """
import sys
from pathlib import Path
from orchestrator.embedded.foreground import exports, run
from orchestrator.embedded.stack import Stack
from vecfleet.settings import Settings

folder, durable = Path(sys.argv[1]), sys.argv[2] == "durable"
nothing = Settings(database_url=None, redis_url=None, pinecone_api_key=None)
stack = Stack(folder, durable=durable, settings=nothing, tell=lambda sentence: print(sentence, file=sys.stderr))
run(stack, lambda environment: print(exports(environment), flush=True))
"""
START_S = 180.0  # takes 1 s; a loaded two-core machine may need a hundred times that

Supervisor = Callable[..., Process]


@pytest.fixture
def state_dir(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "state"
    yield place
    down(place, erase=True)


@pytest.fixture
def supervise(state_dir: Path, tmp_path: Path) -> Iterator[Supervisor]:
    """Start a supervisor of a private Postgres and Redis; it is ready when this returns."""
    started: list[Process] = []

    def start(*, durable: bool = False) -> Process:
        process = Process.launch(
            "supervisor",
            [sys.executable, "-c", UP, state_dir, "durable" if durable else "throwaway"],
            log=tmp_path / "supervisor.log",
            cwd=tmp_path,
            env=os.environ,
        )
        started.append(process)
        process.wait_until(lambda: is_ready(state_dir, process), START_S)
        return process

    yield start
    for process in started:
        process.stop(patience_s=START_S)
        if process.child is not None:
            process.child.wait()


def is_ready(state_dir: Path, supervisor: Process) -> bool:
    record = StackRecord.read(state_dir)
    return record is not None and record.ready and record.supervisor.pid == supervisor.pid
