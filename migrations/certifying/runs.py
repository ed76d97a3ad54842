"""The files of runs: each names the indexes that its run has, or may have, left, and is locked while that run lives.

The lock is the kernel's and ends with its process, however that ends: a file without one is of a run that is over. A
run's file says with which key it was begun, by a digest, because another key may be one of another project.
"""

import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from migrations.certifying.question import Scratch
from vecfleet.errors import BadInput, Refused
from vecfleet.private import write_private
from vecfleet.stores.pinecone.clients import api_key
from vecfleet.stores.pinecone.store import CONTROLLER, PineconeStore

FOLDER = "certify"
CLEAN = "vecfleet certify --clean"
_ALIVE = "run-alive"


class Run(BaseModel):
    """One run, as its file has it. `project`: of its indexes, once it has created one and the service has told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: str
    prefix: str
    account: str
    address: str
    begun: datetime
    key: str
    project: str | None = None

    @classmethod
    def new(cls, store: PineconeStore, prefix: str) -> "Run":
        return cls(
            number=secrets.token_hex(4),
            prefix=prefix,
            account=store.name,
            address=address_of(store),
            begun=datetime.now(UTC),
            key=name_of_key(api_key(store.settings)),
        )

    @property
    def indexes(self) -> list[str]:
        return [self.name_of(scratch) for scratch in Scratch]

    def name_of(self, scratch: Scratch) -> str:
        return f"{self.prefix}-{self.number}-{scratch}"


class Runs:
    """The files of runs that have, or may have, an index left."""

    def __init__(self, home: Path) -> None:
        self._folder = home / FOLDER

    @contextmanager
    def held(self, run: Run) -> Iterator[None]:
        """Hold the run, so that no other process works on it or cleans it up. Raises Refused if one does."""
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = self.path(run).with_suffix(".lock")
        with os.fdopen(os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Refused(
                    f"the run {run.number} is still under way, or is just being cleaned up",
                    code=_ALIVE,
                    next_step=f"wait until it ends, or stop it; what it then leaves is deleted by `{CLEAN}`",
                ) from error
            try:
                yield
            finally:
                if not self.has(run):
                    lock.unlink(missing_ok=True)

    def lives(self, run: Run) -> bool:
        try:
            with self.held(run):
                return False
        except Refused:
            return True

    def note(self, run: Run) -> None:
        """Write the run's file, new or again."""
        write_private(self.path(run), run.model_dump_json())

    def end(self, run: Run) -> None:
        self.path(run).unlink(missing_ok=True)

    def has(self, run: Run) -> bool:
        return self.path(run).exists()

    def every(self, prefix: str | None) -> list[Run]:
        """Return the runs, or those of one prefix. Raises BadInput for a file that is none of ours."""
        paths = sorted(self._folder.glob("*.json")) if self._folder.is_dir() else []
        return [run for run in map(_read, paths) if run is not None and prefix in (None, run.prefix)]

    def path(self, run: Run) -> Path:
        return self._folder / f"{run.number}.json"


def _read(path: Path) -> Run | None:
    try:
        return Run.model_validate_json(path.read_bytes())
    except FileNotFoundError:  # the run has ended meanwhile
        return None
    except (OSError, ValidationError) as error:
        raise BadInput(
            f"{path} is not the file of a run of `vecfleet certify`",
            next_step="look into it: it may name scratch indexes that are left; then delete it",
        ) from error


def address_of(store: PineconeStore) -> str:
    return store.settings.pinecone_controller_host or CONTROLLER


def name_of_key(key: str) -> str:
    """Return a digest by which a key is known again, and which tells nothing of it."""
    return hashlib.sha256(key.encode()).hexdigest()[:16]
