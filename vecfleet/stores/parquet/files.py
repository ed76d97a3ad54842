"""Files that appear whole or not at all, a lock that dies with its process, and errors of the file system."""

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pyarrow as pa

from vecfleet.errors import BadRequest, NeedsOperator, QuotaExhausted, StoreError, Unavailable
from vecfleet.private import write_private
from vecfleet.stores.parquet.folders import DRAFT

# Longer than any write under the lock takes; a process that holds it for longer is frozen.
LOCK_PATIENCE_S = 10.0
_LOOK_EVERY_S = 0.01

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


class Replaced(Exception):
    """A file was replaced between being seen and being opened: look again."""


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise an error of the file system inside as one of our `StoreError`s, saying what was being done."""
    try:
        yield
    except pa.ArrowInvalid as error:
        raise BadRequest(f"could not {doing}: a file is damaged") from error
    except FileNotFoundError as error:
        raise Replaced from error
    except OSError as error:
        if error.errno is None:  # the Parquet reader's own error: about the content
            raise BadRequest(f"could not {doing}: a file is damaged") from error
        raise _understood(error)(
            f"could not {doing}: {error.strerror or error}",
            next_step="make room, or let this user write there; then resume the job",
        ) from error


def _understood(error: OSError) -> type[StoreError]:
    if error.errno in _FULL:
        return QuotaExhausted
    return NeedsOperator if error.errno in _FORBIDDEN else Unavailable


@contextmanager
def locked(path: Path, *, exclusive: bool) -> Iterator[None]:
    """Hold the lock on this file. Raises FileNotFoundError if it is gone, Unavailable if it stays taken."""
    how = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    deadline = time.monotonic() + LOCK_PATIENCE_S
    while True:
        with path.open("r+b" if exclusive else "rb") as file:
            try:
                fcntl.flock(file, how | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Unavailable(f"another process keeps {path.parent.name} locked") from None
            else:
                # After a wait, the lock may be that of a file that was deleted meanwhile.
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    yield
                    return
        time.sleep(_LOOK_EVERY_S)


@contextmanager
def draft_in(folder: Path) -> Iterator[Path]:
    """Give a place for a file nobody reads yet, gone afterwards unless it was published. Only its owner may read it."""
    draft = folder / f"{DRAFT}{uuid4().hex}"
    try:
        draft.touch(mode=0o600)
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def publish(draft: Path, path: Path) -> None:
    """Give a draft its name, once its bytes are on the disk."""
    with draft.open("rb+") as file:
        os.fsync(file.fileno())
    draft.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def create_folder(path: Path, file: str, body: Mapping[str, Any]) -> bool:
    """Create a folder with one JSON file in it; False if it exists and holds something.

    Safe to run twice. Dies at any line, or the power does: the folder is there with its file, or not at all.
    """
    draft = path.with_name(f"{DRAFT}{uuid4().hex}")
    new = [folder for folder in path.parents if not folder.exists()]
    draft.mkdir(parents=True)
    try:
        for folder in new:
            sync_folder(folder.parent)
        write_private(draft / file, orjson.dumps(body, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        with (draft / file).open("rb+") as described:
            os.fsync(described.fileno())
        sync_folder(draft)
        draft.rename(path)
    except (FileExistsError, NotADirectoryError):
        return False
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        return False
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    sync_folder(path.parent)
    return True
