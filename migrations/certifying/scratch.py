"""Scratch indexes: names that nobody else's index has, and a file for each run that remembers them.

The file is written before the first index is created, and removed once the last is gone: a run that dies at any line
leaves no index that its file does not name. Only an index is deleted that bears the run's tag.
"""

import re
import secrets
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from migrations.certifying.question import Scratch, described
from vecfleet.errors import BadInput, KeyRefused, Missing, Refused
from vecfleet.patience import patiently
from vecfleet.private import write_private
from vecfleet.stores.base import IndexInfo
from vecfleet.stores.pinecone.store import CONTROLLER, PineconeStore

FOLDER = "certify"
_TAG = "vecfleet-certify"
_PREFIX = re.compile(r"[a-z][a-z0-9-]{1,22}[a-z0-9]")
_CLEAN = "vecfleet certify --clean"


class Run(BaseModel):
    """One run, as its file has it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: str
    prefix: str
    account: str
    address: str
    begun: datetime

    @classmethod
    def new(cls, store: PineconeStore, prefix: str) -> "Run":
        now = datetime.now(UTC)
        return cls(number=secrets.token_hex(4), prefix=prefix, account=store.name, address=address_of(store), begun=now)

    @property
    def indexes(self) -> list[str]:
        return [self.name_of(scratch) for scratch in Scratch]

    def name_of(self, scratch: Scratch) -> str:
        return f"{self.prefix}-{self.number}-{scratch}"


class Runs:
    """The files of runs that have, or may have, an index left."""

    def __init__(self, home: Path) -> None:
        self._folder = home / FOLDER

    def begin(self, run: Run) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        write_private(self._path(run), run.model_dump_json())

    def end(self, run: Run) -> None:
        self._path(run).unlink(missing_ok=True)

    def every(self, prefix: str | None) -> list[Run]:
        """Return the runs, or those of one prefix. Raises BadInput for a file that is none of ours."""
        paths = sorted(self._folder.glob("*.json")) if self._folder.is_dir() else []
        return [run for run in map(_read, paths) if prefix in (None, run.prefix)]

    def _path(self, run: Run) -> Path:
        return self._folder / f"{run.number}.json"


def _read(path: Path) -> Run:
    try:
        return Run.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise BadInput(
            f"{path} is not the file of a run of `vecfleet certify`",
            next_step="look into it: it may name scratch indexes that are left; then delete it",
        ) from error


def address_of(store: PineconeStore) -> str:
    return store.settings.pinecone_controller_host or CONTROLLER


def require_unused(store: PineconeStore, prefix: str, runs: Runs) -> None:
    """Raise BadInput for a prefix that begins no name, Refused if it begins the name of an index there is."""
    if not _PREFIX.fullmatch(prefix):
        raise BadInput(
            f"{prefix!r} begins no name of a scratch index",
            next_step="give --index-prefix 3 to 24 characters: a-z first, then a-z, 0-9 and -, and no - at the end",
        )
    there = [info.name for info in patiently(store.indexes) if info.name.startswith(prefix)]
    ours = {name for run in runs.every(None) for name in run.indexes}
    left = [name for name in there if name in ours]
    if len(there) > len(left):
        other = next(name for name in there if name not in ours)
        raise Refused(
            f"the index {other!r} begins with {prefix!r}, and no run of ours created it; nothing was created",
            code="prefix-taken",
            next_step="choose an --index-prefix that begins no name of an index of yours",
        )
    if left:
        raise Refused(
            f"another run left {', '.join(left)}, or is still under way; nothing was created",
            code="scratch-left",
            next_step=f"once no other run goes on: `{_CLEAN}`",
        )


def create(store: PineconeStore, run: Run, scratch: Scratch) -> IndexInfo:
    """Create the scratch index. Raises BadInput if it came to be in another project than the settings name."""
    like = described(scratch, {_TAG: run.number})
    info = store.create_like(run.name_of(scratch), like, None, None)
    try:
        store.open(info)
    except KeyRefused as error:
        store.remove(info.name)
        raise BadInput(error.message, next_step=error.next_step) from error
    return info


def remove(store: PineconeStore, run: Run, name: str) -> bool:
    """Delete the scratch index, and return True; False if it is not there. Raises Refused for an index of others."""
    try:
        info = patiently(lambda: store.describe(name))
    except Missing:
        return False
    if info.tags.get(_TAG) != run.number:
        raise Refused(
            f"the index {name!r} does not bear the tag {_TAG}={run.number} of the run that created it; it stays",
            code="not-scratch",
            next_step="look at it in Pinecone's console, and delete it there if it is to go",
        )
    store.remove(name)
    return True


def clean(store: PineconeStore, run: Run, runs: Runs) -> list[str]:
    """Delete what a run left, forget the run, and return the names deleted. Safe to repeat; a death forgets nothing."""
    if run.address != address_of(store):
        raise BadInput(
            f"a run created its indexes at {run.address}, and this command would look at {address_of(store)}",
            next_step=f"set PINECONE_CONTROLLER_HOST to {run.address}, and type `{_CLEAN}` again",
        )
    removed = [name for name in run.indexes if remove(store, run, name)]
    runs.end(run)
    return removed
