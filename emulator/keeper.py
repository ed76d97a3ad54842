"""The emulator's state beyond its process: kept nowhere, or in one SQLite file.

One request is one transaction, committed before its answer is sent, so a killed process leaves whole requests only.
SQLite's write-ahead log survives the death of the process without `fsync`; a power cut may lose the newest.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

import orjson

from emulator.records import Record, Sparse

_TABLES = """
CREATE TABLE IF NOT EXISTS document (kind TEXT, name TEXT, body BLOB, PRIMARY KEY (kind, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS namespace (owner TEXT, name TEXT, filterable BLOB, lsn INTEGER, PRIMARY KEY (owner, name))
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS record (owner TEXT, namespace TEXT, id TEXT, vector BLOB, indices BLOB, weights BLOB,
    metadata BLOB, PRIMARY KEY (owner, namespace, id));
"""


class Keeper(Protocol):
    """A place for state. `owner` is the unique id of an index or of a backup."""

    def save_document(self, kind: str, name: str, body: dict[str, object]) -> None: ...
    def drop_document(self, kind: str, name: str) -> None: ...
    def save_namespace(self, owner: str, name: str, filterable: frozenset[str] | None, lsn: int) -> None: ...
    def drop_namespace(self, owner: str, name: str) -> None: ...
    def drop_owner(self, owner: str) -> None: ...
    def save_records(self, owner: str, namespace: str, records: Iterable[Record]) -> None: ...
    def drop_records(self, owner: str, namespace: str, ids: Iterable[str]) -> None: ...
    def drop_all(self) -> None: ...
    def commit(self) -> None: ...
    def close(self) -> None: ...


class Nowhere:
    """Keeps nothing."""

    def save_document(self, kind: str, name: str, body: dict[str, object]) -> None: ...
    def drop_document(self, kind: str, name: str) -> None: ...
    def save_namespace(self, owner: str, name: str, filterable: frozenset[str] | None, lsn: int) -> None: ...
    def drop_namespace(self, owner: str, name: str) -> None: ...
    def drop_owner(self, owner: str) -> None: ...
    def save_records(self, owner: str, namespace: str, records: Iterable[Record]) -> None: ...
    def drop_records(self, owner: str, namespace: str, ids: Iterable[str]) -> None: ...
    def drop_all(self) -> None: ...
    def commit(self) -> None: ...
    def close(self) -> None: ...


class Disk:
    """Keeps everything in `DIR/emulator.sqlite3`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(folder / "emulator.sqlite3", isolation_level="DEFERRED", check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.executescript(_TABLES)

    def save_document(self, kind: str, name: str, body: dict[str, object]) -> None:
        self._db.execute("INSERT OR REPLACE INTO document VALUES (?, ?, ?)", (kind, name, orjson.dumps(body)))

    def drop_document(self, kind: str, name: str) -> None:
        self._db.execute("DELETE FROM document WHERE kind = ? AND name = ?", (kind, name))

    def save_namespace(self, owner: str, name: str, filterable: frozenset[str] | None, lsn: int) -> None:
        schema = None if filterable is None else orjson.dumps(sorted(filterable))
        self._db.execute("INSERT OR REPLACE INTO namespace VALUES (?, ?, ?, ?)", (owner, name, schema, lsn))

    def drop_namespace(self, owner: str, name: str) -> None:
        self._db.execute("DELETE FROM namespace WHERE owner = ? AND name = ?", (owner, name))
        self._db.execute("DELETE FROM record WHERE owner = ? AND namespace = ?", (owner, name))

    def drop_owner(self, owner: str) -> None:
        self._db.execute("DELETE FROM namespace WHERE owner = ?", (owner,))
        self._db.execute("DELETE FROM record WHERE owner = ?", (owner,))

    def save_records(self, owner: str, namespace: str, records: Iterable[Record]) -> None:
        rows = ((owner, namespace, r.id, r.values, *(r.sparse or (None, None)), r.metadata) for r in records)
        self._db.executemany("INSERT OR REPLACE INTO record VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def drop_records(self, owner: str, namespace: str, ids: Iterable[str]) -> None:
        rows = ((owner, namespace, id) for id in ids)
        self._db.executemany("DELETE FROM record WHERE owner = ? AND namespace = ? AND id = ?", rows)

    def drop_all(self) -> None:
        for table in ("document", "namespace", "record"):
            self._db.execute(f"DELETE FROM {table}")  # noqa: S608 - three fixed names of ours

    def commit(self) -> None:
        self._db.commit()

    def close(self) -> None:
        self._db.close()

    def document(self, kind: str, name: str) -> dict[str, object] | None:
        row = self._db.execute("SELECT body FROM document WHERE kind = ? AND name = ?", (kind, name)).fetchone()
        return orjson.loads(row[0]) if row else None

    def documents(self, kind: str) -> Iterator[dict[str, object]]:
        for (body,) in self._db.execute("SELECT body FROM document WHERE kind = ? ORDER BY name", (kind,)):
            yield orjson.loads(body)

    def namespaces(self, owner: str) -> Iterator[tuple[str, frozenset[str] | None, int]]:
        rows = self._db.execute("SELECT name, filterable, lsn FROM namespace WHERE owner = ? ORDER BY name", (owner,))
        for name, filterable, lsn in rows:
            yield name, None if filterable is None else frozenset(orjson.loads(filterable)), lsn

    def records(self, owner: str) -> Iterator[tuple[str, Record]]:
        rows = self._db.execute(
            "SELECT namespace, id, vector, indices, weights, metadata FROM record WHERE owner = ?", (owner,)
        )
        for namespace, id, values, indices, weights, metadata in rows:
            sparse = None if indices is None else Sparse(indices, weights)
            yield namespace, Record(id, values, sparse, metadata)
