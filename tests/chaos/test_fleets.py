"""A run of many lives from outside: what is left of it when somebody ends it early."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.stories.launching import REPOSITORY

PATIENCE_S = 240.0  # takes ten seconds; two cores under a load of twenty need this
FLEETS = 2


def started_by(folder: Path) -> Iterator[str]:
    """The command of each process that knows of the folder, itself or by what it was started with."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            command = " ".join(process.cmdline())
            if str(folder) in command or str(folder) in " ".join(process.environ().values()):
                yield command


@pytest.mark.story
def test_who_interrupts_a_run_is_told_what_hit_and_leaves_nothing_running(tmp_path: Path) -> None:
    # Given fleets at work
    run = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos", "--seeds", "9", "--at-once", str(FLEETS)],
        cwd=REPOSITORY,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        until = time.monotonic() + PATIENCE_S
        while sum("tests.chaos.nursery" in command for command in started_by(tmp_path)) <= FLEETS:
            assert run.poll() is None and time.monotonic() < until
            time.sleep(0.1)
        # When somebody presses Ctrl-C
        run.send_signal(signal.SIGINT)
        told, _ = run.communicate(timeout=PATIENCE_S)
    finally:
        run.kill()
    # Then it says so by its code and tells what hit, and nothing of it runs or lies about
    assert run.returncode == 128 + signal.SIGINT
    assert "what hit, and how often" in told
    until = time.monotonic() + PATIENCE_S
    while left := list(started_by(tmp_path)):  # what was killed is gone a moment later
        assert time.monotonic() < until, left
        time.sleep(0.1)
    assert list(tmp_path.iterdir()) == []
