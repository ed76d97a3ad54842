"""The account of the private Postgres. Postgres refuses to run as root, so root gives it to an account without rights.

Nothing outside our own folders changes for it. Where that account cannot go, we copy what it needs to where it can.
"""

import grp
import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from orchestrator.embedded.server import environment

UNPRIVILEGED = "nobody"
"""Exists on every Linux and macOS; an account of our own would change the machine's user list."""

ELSEWHERE = Path("/var/lib/vecfleet")
"""Root keeps here the files of a database whose state folder that account cannot reach (as below /root)."""

MAKE_TRIES = 5
"""Removing the last database removes `ELSEWHERE`, perhaps just before another start makes its folder there."""

PASS_THROUGH = 0o711
"""Others may pass through our folder to a file they own, and see nothing on the way."""


@dataclass(frozen=True)
class Account:
    """The current account (`name` None), or the one that root gives the database to."""

    name: str | None

    @classmethod
    def for_database(cls) -> "Account":
        return cls(UNPRIVILEGED if os.geteuid() == 0 else None)

    def identity(self) -> dict[str, Any]:
        """Return the keyword arguments with which `subprocess` starts a program as this account."""
        if self.name is None:
            return {}
        return {"user": self.name, "group": self._group(), "extra_groups": []}

    def give(self, path: Path) -> None:
        """Make `path`, one of our own, belong to the account."""
        if self.name is not None:
            shutil.chown(path, self.name, self._group())

    def can_run(self, *command: str | Path) -> bool:
        try:
            done = subprocess.run(
                command, cwd="/", capture_output=True, check=False, env=environment(), **self.identity()
            )
        except OSError:
            return False
        return done.returncode == 0

    def make_home(self, folder: Path) -> None:
        """Make `folder`, or a link under its name to a folder that the account can reach; keep existing files.

        A crash leaves at worst an empty folder in `ELSEWHERE`.
        """
        if folder.exists():
            return
        if self.name is None:
            folder.mkdir(mode=0o700)
        elif self._reaches(folder.parent):
            folder.mkdir()
            folder.chmod(PASS_THROUGH)
        else:
            trying = Retrying(
                retry=retry_if_exception_type(FileNotFoundError), stop=stop_after_attempt(MAKE_TRIES), reraise=True
            )
            home = trying(_make_elsewhere)
            home.chmod(PASS_THROUGH)
            folder.symlink_to(home)

    def remove_home(self, folder: Path) -> None:
        """Undo `make_home`, contents included."""
        home = folder.resolve()
        shutil.rmtree(home, ignore_errors=True)
        if folder.is_symlink():
            folder.unlink()
            with suppress(OSError):  # another database of root's is there, or was removed at the same moment
                ELSEWHERE.rmdir()

    def _reaches(self, folder: Path) -> bool:
        """Try whether the account can enter the folder: modes, access lists and mounts all decide."""
        return self.can_run("/bin/sh", "-c", 'cd -- "$0"', folder)

    def _group(self) -> str:
        assert self.name is not None
        return grp.getgrgid(pwd.getpwnam(self.name).pw_gid).gr_name


def _make_elsewhere() -> Path:
    """Make a folder of its own for one database."""
    ELSEWHERE.mkdir(parents=True, exist_ok=True)
    ELSEWHERE.chmod(PASS_THROUGH)
    return Path(tempfile.mkdtemp(dir=ELSEWHERE))
