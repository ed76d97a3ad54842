"""The end of a stack: its last process stopped, and what was not to last erased."""

import shutil
from contextlib import suppress
from pathlib import Path

from orchestrator.embedded import scaling
from orchestrator.embedded.postgres import Postgres
from orchestrator.embedded.record import StackRecord, only_supervisor
from orchestrator.embedded.redis import Redis
from orchestrator.embedded.sealing import AUDIT_KEY
from orchestrator.services import lost_commits

STOP_S = 30.0
"""As long as the slowest server may take: Postgres and its checkpoint on a slow disk."""

SUPERVISOR_STOP_S = 90.0
"""A supervisor stops its workers, then its servers: longer than both may take."""


def down(state_dir: Path, *, erase: bool = False) -> bool:
    """Stop what runs from `state_dir`, its supervisor first. Say whether anything was there to stop.

    With `erase` the data are deleted too, running or not. Works after the supervisor was killed, and when run twice.
    """
    record = StackRecord.read(state_dir)
    if record is not None:
        record.supervisor.stop(SUPERVISOR_STOP_S)
    if state_dir.exists():
        with only_supervisor(state_dir):
            clear_leftovers(state_dir)
            if erase:
                forget(state_dir, durable=False)
            remove_if_empty(state_dir)
    return record is not None


def clear_leftovers(state_dir: Path) -> None:
    """Stop the processes on record, last started first; erase data that were not to last. The caller holds the lock."""
    record = StackRecord.read(state_dir)
    if record is not None:
        for process in reversed(record.processes):
            process.stop(STOP_S)
        forget(state_dir, durable=record.durable)


def forget(state_dir: Path, *, durable: bool) -> None:
    """Remove the record of a stack that runs no more; unless its data are to last, remove our files too."""
    StackRecord.remove(state_dir)
    scaling.forget(state_dir)
    if durable:
        return
    for server in (Postgres, Redis):
        server(state_dir).erase()
    for file in (AUDIT_KEY, lost_commits.FILE):
        (state_dir / file).unlink(missing_ok=True)
    for folder in ("logs", "ports", "emulator", "web"):
        shutil.rmtree(state_dir / folder, ignore_errors=True)


def remove_if_empty(state_dir: Path) -> None:
    with suppress(OSError):  # data that are to last, or something that is not ours
        state_dir.rmdir()
