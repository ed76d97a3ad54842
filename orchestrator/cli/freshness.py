"""Waiting until reads show the last write, with a line for the person who waits: why, until when, how long still."""

import math
import time
from datetime import UTC, datetime, timedelta

from orchestrator.cli.output import err
from vecfleet.stores.base import Index

_TICK_S = 1.0


def wait_for_reads(index: Index, seconds: float, why: str) -> None:
    """Return once no read of this index lags behind this moment; at once where its store never lags.

    A deletion may rest on what is read after it. Prints to stderr, so `--json` stays one document.
    """
    if index.limits.reads_lag:
        wait(seconds, why)


def wait(seconds: float, why: str) -> None:
    """Wait `seconds`; print why and until when, and count down on a terminal."""
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    end = time.monotonic() + seconds
    err.print(f"waits until {until:%H:%M:%S} UTC, {math.ceil(seconds)} s: {why}", soft_wrap=True)
    with err.status("") as status:
        while (left := end - time.monotonic()) > 0:
            status.update(f"{math.ceil(left)} s left")
            time.sleep(min(left, _TICK_S))
