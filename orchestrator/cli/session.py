"""The fleet's parts for as long as a command runs, and the person who typed it."""

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.bootstrap import Fleet
from vecfleet.settings import Settings


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
    """Return the person's name, for the audit."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"uid {os.getuid()}"
