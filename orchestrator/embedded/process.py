"""A process known by its pid and time of birth: together they name one process for ever, a pid alone does not.

Each process starts in a session of its own, so that Ctrl-C in the terminal reaches only its supervisor. It may outlive
its starter: the record is enough to find it and stop it.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil

from vecfleet.errors import VecfleetError

SAME_BIRTH_S = 2.0
"""Two readings of one process's birth may differ by this: Linux derives it from the wall clock, which is corrected."""

POLL_S = 0.02
"""Time between looks at a start or a stop: well under the 0.1 s in which these servers start and stop."""

LOG_TAIL_LINES = 12
"""Enough of a log to show why a server gave up, little enough to read in a terminal."""


class DidNotStart(VecfleetError):
    """A process of the embedded stack did not start."""


@dataclass(frozen=True)
class Process:
    """One process, started by us or read from the record. Its pid gets no signal once another process has it."""

    name: str
    pid: int
    created: float
    log: Path
    port: int | None = None
    stop_signal: int = signal.SIGTERM
    child: "subprocess.Popen[bytes] | None" = field(default=None, compare=False, repr=False)

    @classmethod
    def launch(
        cls,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        cwd: Path,
        env: Mapping[str, str],
        port: int | None = None,
        stop_signal: int = signal.SIGTERM,
        identity: Mapping[str, Any] | None = None,
    ) -> Self:
        """Start the process, its output appended to `log`. `identity` names the account to run as (see `account`)."""
        log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with log.open("ab") as output:
            child = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=dict(env),
                start_new_session=True,
                **(identity or {}),
            )
        try:
            created = psutil.Process(child.pid).create_time()
        except psutil.NoSuchProcess:
            created = time.time()
        return cls(name, child.pid, created, log, port, stop_signal, child)

    @classmethod
    def current(cls, name: str) -> Self:
        """Return the process that this code runs in."""
        return cls(name, os.getpid(), psutil.Process().create_time(), log=Path(os.devnull))

    def alive(self) -> bool:
        if self.child is not None:
            return self.child.poll() is None
        try:
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.created) < SAME_BIRTH_S and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def stop(self, patience_s: float) -> None:
        """Ask it to stop; after `patience_s` kill it and all it started. Does nothing to a process that is gone."""
        self._send(self.stop_signal, os.kill)
        if not _wait(lambda: not self.alive(), patience_s):
            with suppress(ProcessLookupError):
                leads = os.getpgid(self.pid) == self.pid
                self._send(signal.SIGKILL, os.killpg if leads else os.kill)
            _wait(lambda: not self.alive(), patience_s)

    def _send(self, number: int, send: Callable[[int, int], None]) -> None:
        if self.alive():
            with suppress(ProcessLookupError):
                send(self.pid, number)

    def wait_until(self, ready: Callable[[], bool], patience_s: float) -> None:
        """Return once `ready()`. Raises DidNotStart, with the end of its log, if it dies or is not ready in time."""
        came = _wait(lambda: not self.alive() or ready(), patience_s)
        if not self.alive():
            raise DidNotStart(
                f"{self.name} stopped {self.ending()} while starting.\n{self.log_tail()}",
                next_step=f"fix what its log says, then run it again: {self.log}",
            )
        if not came:
            raise DidNotStart(
                f"{self.name} runs but was not ready within {patience_s:g} s.\n{self.log_tail()}",
                next_step=f"run it again when the machine is less busy; its log is {self.log}",
            )

    def ending(self) -> str:
        """Tell in words how it ended."""
        code = self.child.poll() if self.child is not None else None
        if code is None:
            return "for a reason not on record"
        return f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"

    def log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:] if self.log.exists() else []
        return "\n".join([f"The end of {self.log}:", *(f"  {line}" for line in lines)])

    def as_record(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "pid": self.pid,
            "create_time": self.created,
            "port": self.port,
            "log": str(self.log),
            "stop_signal": int(self.stop_signal),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        return cls(
            name=record["name"],
            pid=record["pid"],
            created=record["create_time"],
            log=Path(record["log"]),
            port=record["port"],
            stop_signal=record["stop_signal"],
        )


def _wait(done: Callable[[], bool], patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True
