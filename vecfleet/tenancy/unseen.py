"""Deletions of records that no read showed yet.

In a namespace that tenants share, a record is deleted only once it is seen to be the tenant's own. A record that was
written a moment ago may not be seen yet. Its deletion is kept in the journal's file until reads are fresh. A record
that is there by then, and the tenant's own, is deleted. A writer of such a record takes its row away first: the record
is to stay.
"""

import sqlite3
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vecfleet import names
from vecfleet.names import Tenant
from vecfleet.tenancy.journal_file import JournalFile

_AT_ONCE = 100  # looked for by one fetch


@dataclass(frozen=True, slots=True)
class Sought:
    """Records of one tenant that somebody looks for, to delete them."""

    tenant: Tenant
    ids: tuple[str, ...]
    by: str


class Unseen:
    """The rows of such deletions. `fresh_s` and `abandoned_s` are the journal's."""

    def __init__(self, file: JournalFile, fresh_s: float, abandoned_s: float, clock: Callable[[], float]) -> None:
        self._file, self._fresh_s, self._abandoned_s, self._clock = file, fresh_s, abandoned_s, clock

    def keep(self, tenant: Tenant, ids: Sequence[str]) -> None:
        """Keep deletions of records that were not seen. A search for them that is under way does not settle them."""
        if not ids:
            return
        namespace, due = names.build(tenant.creator, tenant.twin), self._clock() + self._fresh_s
        with self._file.open() as db:
            rows = [(namespace, id, due) for id in dict.fromkeys(ids)]
            db.executemany("INSERT OR REPLACE INTO unseen (namespace, id, writer, due) VALUES (?, ?, '', ?)", rows)

    def sought(self, db: sqlite3.Connection, namespace: str, ids: Sequence[str]) -> bool:
        """Say whether somebody looks for one of these now."""
        query = "SELECT 1 FROM unseen WHERE namespace = ? AND id = ? AND writer <> '' AND due > ?"
        return any(db.execute(query, (namespace, id, self._clock())).fetchone() for id in ids)

    def outdate(self, db: sqlite3.Connection, namespace: str, ids: Sequence[str]) -> None:
        """Drop the rows of records about to be written, or deleted once more: an earlier request counts no more."""
        db.executemany("DELETE FROM unseen WHERE namespace = ? AND id = ?", [(namespace, id) for id in ids])

    def claim(self) -> Sought | None:
        """Take some that are due and that nobody looks for: the caller does, from now on. None if there are none."""
        if not self._file.exists():
            return None
        with self._file.open() as db:
            now, by = self._clock(), uuid.uuid4().hex
            first = db.execute("SELECT namespace FROM unseen WHERE due <= ? ORDER BY due LIMIT 1", (now,)).fetchone()
            if first is None:
                return None
            query = "SELECT id FROM unseen WHERE namespace = ? AND due <= ? ORDER BY due LIMIT ?"
            ids = tuple(id for (id,) in db.execute(query, (*first, now, _AT_ONCE)).fetchall())
            taken = [(by, now + self._abandoned_s, *first, id) for id in ids]
            db.executemany("UPDATE unseen SET writer = ?, due = ? WHERE namespace = ? AND id = ?", taken)
            tenant = names.parse(first[0])
            assert tenant is not None, "only namespaces built from a tenant are noted"
            return Sought(tenant, ids, by)

    def still(self, sought: Sought, ids: Sequence[str]) -> list[str]:
        """Return the ids that nobody has written since."""
        with self._file.open() as db:
            own = {id for (id,) in db.execute("SELECT id FROM unseen WHERE writer = ?", (sought.by,))}
        return [id for id in ids if id in own]

    def settle(self, sought: Sought, done: bool) -> None:
        """Drop the rows, because the records found are deleted; or, not `done`, look for them again later."""
        with self._file.open() as db:
            if done:
                db.execute("DELETE FROM unseen WHERE writer = ?", (sought.by,))
            else:
                again = (self._clock() + self._fresh_s, sought.by)
                db.execute("UPDATE unseen SET writer = '', due = ? WHERE writer = ?", again)
