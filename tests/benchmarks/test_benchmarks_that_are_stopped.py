"""A benchmark that is told to stop takes its own fleet down."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from benchmarks.runner import STOPPED

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_S = 120.0


def processes_of(folder: Path) -> list[str]:
    """Return the command lines of processes that work in this folder."""
    lines = (" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))
    return [line for line in lines if str(folder) in line]


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP])
def test_a_benchmark_that_is_stopped_leaves_no_process_and_no_folder(tmp_path: Path, ending: signal.Signals) -> None:
    # Given a benchmark whose own fleet runs
    words = [sys.executable, "-m", "benchmarks.restart", "--quick"]
    with (tmp_path / "log").open("wb") as log:
        environment = os.environ | {"TMPDIR": str(tmp_path)}
        benchmark = subprocess.Popen(words, cwd=REPOSITORY, env=environment, stdout=log, stderr=log)
    until = time.monotonic() + PATIENCE_S
    while not processes_of(tmp_path):
        assert benchmark.poll() is None and time.monotonic() < until, (tmp_path / "log").read_text()
        time.sleep(0.05)

    # When it is told to stop
    benchmark.send_signal(ending)

    # Then it ends, and with it all that it started
    assert benchmark.wait(PATIENCE_S) == STOPPED, (tmp_path / "log").read_text()
    assert (processes_of(tmp_path), [path.name for path in tmp_path.iterdir()]) == ([], ["log"])
