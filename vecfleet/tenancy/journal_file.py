"""The file under the journal: SQLite, shared by the threads and processes of a machine."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from vecfleet.errors import Unreachable

_LOCK_S = 10.0  # how long to wait for the file's own lock, which is held for milliseconds

_SCHEMA = """
CREATE TABLE IF NOT EXISTS owed (
    n INTEGER PRIMARY KEY, side TEXT NOT NULL, namespace TEXT NOT NULL, id TEXT NOT NULL,
    writer TEXT NOT NULL, due REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS owed_by_id ON owed (namespace, id);
CREATE TABLE IF NOT EXISTS unseen (
    namespace TEXT NOT NULL, id TEXT NOT NULL, writer TEXT NOT NULL, due REAL NOT NULL, PRIMARY KEY (namespace, id)
) WITHOUT ROWID;
"""

# SQLite keeps, for a whole process, the holders of a file's locks: a process that is forked while a thread has the file
# open would find it locked by nobody, for ever. So a fork waits until no thread has it open.
_in_use = threading.Lock()
os.register_at_fork(before=_in_use.acquire, after_in_parent=_in_use.release, after_in_child=_in_use.release)


class JournalFile:
    """A file opened anew for each transaction, by one thread of a process at a time; may be carried over a fork."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def exists(self) -> bool:
        return self._path.exists()

    @contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """Open one transaction. At its end the file holds no trace of deleted rows. Raises Unreachable."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch(mode=0o600)
            with _in_use, closing(sqlite3.connect(self._path, timeout=_LOCK_S, isolation_level=None)) as db:
                db.execute("PRAGMA secure_delete = ON")
                db.executescript(_SCHEMA)
                db.execute("BEGIN IMMEDIATE")
                with db:
                    yield db
        except (sqlite3.Error, OSError) as error:
            raise Unreachable(
                f"the journal of writes cannot be used: {error}", next_step="check VECFLEET_HOME and its disk"
            ) from error
