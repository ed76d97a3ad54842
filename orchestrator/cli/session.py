"""What a command works with: the fleet's parts for as long as it runs, and the person who typed it."""

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.bootstrap import Fleet
from vecfleet.settings import Settings


@contextmanager
def fleet() -> Iterator[Fleet]:
    """The parts named by the settings; connections made on the way are closed at the end."""
    found = Fleet(Settings.load())
    try:
        yield found
    finally:
        made = vars(found)
        if "database" in made:
            found.database.dispose()
        if "celery" in made:
            found.celery.close()
        for store in ("tables", "other_tables"):
            if store in made:
                made[store].close()


def who() -> str:
    """The person, for the audit."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"uid {os.getuid()}"
