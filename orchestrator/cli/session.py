"""The parts of a fleet for one command, the person who typed it, and what that person waits for."""

import math
import os
import pwd
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from orchestrator.bootstrap import Fleet
from orchestrator.cli.output import err
from orchestrator.core.wording import elapsed
from vecfleet.settings import Settings
from vecfleet.stores.base import Index


@contextmanager
def fleet() -> Iterator[Fleet]:
    """Make the parts that the settings name; close at the end the connections made on the way."""
    parts = Fleet(Settings.load())
    try:
        yield parts
    finally:
        made = vars(parts)
        if "database" in made:
            parts.database.dispose()
        if "celery" in made:
            parts.celery.close()
        for store in ("tables", "other_tables"):
            if store in made:
                made[store].close()


def who() -> str:
    """Return the account's name, for the audit. USER and LOGNAME may be set to any name, so they do not count."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user without a name
        return f"uid {os.getuid()}"


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
    err.print(f"waits until {until:%H:%M:%S} UTC, {elapsed(math.ceil(seconds))}: {why}", soft_wrap=True)
    with err.status("") as status:
        while (left := end - time.monotonic()) > 0:
            status.update(f"{elapsed(math.ceil(left))} left")
            time.sleep(min(left, _TICK_S))
