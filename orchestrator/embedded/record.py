"""The processes of one state folder: one supervisor at a time, and a record of its processes for the next one."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orchestrator.embedded.process import Process
from vecfleet.errors import Refused


@dataclass(frozen=True)
class Restart:
    """One process that died and was started again: when (UTC), which, and how it ended."""

    at: str
    name: str
    reason: str


@dataclass(frozen=True)
class StackRecord:
    """The file `state.json`, replaced whole so that a reader sees one moment. Private, because it holds passwords."""

    supervisor: Process
    durable: bool
    ready: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    processes: tuple[Process, ...] = ()
    restarts: tuple[Restart, ...] = ()

    def with_process(self, process: Process) -> "StackRecord":
        """Return the same record with `process` in place of the one of that name."""
        others = tuple(other for other in self.processes if other.name != process.name)
        return replace(self, processes=(*others, process))

    def write(self, state_dir: Path) -> None:
        content = {
            "supervisor": self.supervisor.as_record(),
            "durable": self.durable,
            "ready": self.ready,
            "environment": dict(self.environment),
            "processes": [process.as_record() for process in self.processes],
            "restarts": [vars(restart) for restart in self.restarts],
        }
        unfinished = state_dir / "state.json.unfinished"
        unfinished.touch(mode=0o600)
        unfinished.write_text(json.dumps(content, indent=2) + "\n")
        unfinished.rename(state_dir / "state.json")

    @classmethod
    def read(cls, state_dir: Path) -> "StackRecord | None":
        place = state_dir / "state.json"
        if not place.exists():
            return None
        content: dict[str, Any] = json.loads(place.read_text())
        return cls(
            supervisor=Process.from_record(content["supervisor"]),
            durable=content["durable"],
            ready=content["ready"],
            environment=content["environment"],
            processes=tuple(Process.from_record(body) for body in content["processes"]),
            restarts=tuple(Restart(**body) for body in content["restarts"]),
        )

    @staticmethod
    def remove(state_dir: Path) -> None:
        (state_dir / "state.json").unlink(missing_ok=True)


def running(state_dir: Path) -> StackRecord | None:
    """Return the record of the stack that runs from `state_dir` and is ready: its supervisor lives. Else None."""
    record = StackRecord.read(state_dir)
    return record if record and record.ready and record.supervisor.alive() else None


@contextmanager
def only_supervisor(state_dir: Path) -> Iterator[None]:
    """Hold the state folder's lock; the kernel releases it however we die. Refused while another process holds it."""
    state_dir.mkdir(parents=True, exist_ok=True)
    folder = os.open(state_dir, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _in_use(state_dir) from None
        yield
    finally:
        os.close(folder)


def _in_use(state_dir: Path) -> Refused:
    record = StackRecord.read(state_dir)
    by = f" by process {record.supervisor.pid}" if record else ""
    return Refused(
        f"The state folder {state_dir} is in use{by}: one stack runs from one folder.",
        code="state-folder-in-use",
        next_step='`eval "$(vecfleet up --print)"` joins this shell to it; `vecfleet down` stops it; VECFLEET_HOME '
        "names another folder for a second one",
    )
