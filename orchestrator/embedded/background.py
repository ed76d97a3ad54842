"""`vecfleet up --detach`: a stack in a session of its own, which outlives the command that starts it."""

import os
from collections.abc import Sequence
from pathlib import Path

from orchestrator.embedded.process import Process
from orchestrator.embedded.record import StackRecord, only_supervisor
from orchestrator.embedded.stack import SUPERVISOR_STOP_S

UP_S = 900.0
"""A supervisor gives up by itself on a part that does not start: longer than all of them, one by one, may take."""


def up_in_background(command: Sequence[str], state_dir: Path) -> StackRecord:
    """Run `command`, an `up` in the foreground, in a session of its own; return once its stack is ready."""
    with only_supervisor(state_dir):
        log = state_dir / "logs" / "supervisor.log"
    process = Process.launch("supervisor", command, log=log, cwd=Path.cwd(), env=os.environ)
    try:
        process.wait_until(lambda: _ready_record(state_dir, process.pid) is not None, UP_S)
    except BaseException:
        process.stop(SUPERVISOR_STOP_S)
        raise
    record = _ready_record(state_dir, process.pid)
    assert record is not None
    return record


def _ready_record(state_dir: Path, supervisor: int) -> StackRecord | None:
    record = StackRecord.read(state_dir)
    return record if record and record.ready and record.supervisor.pid == supervisor else None
