"""Writes to both sides of a roll-out, and the journal of the records that one side is still owed.

The journal is a SQLite file of this machine, shared by its threads and processes. A row says (side, namespace, id):
this side may lack what the other one holds of the record. `namespace` is the tenant's own, whichever side is meant;
neither text nor vectors are kept. A row is there before the first of the two writes and goes after the second. A
process that dies in between leaves it. `replay` then reads the record again where it was written first, and writes or
deletes it. An id is written by one at a time on this machine; a writer that was overtaken all the same leaves it to the
replay.
"""

import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from vecfleet import logs, names
from vecfleet.enriching import SOURCE, additions, restored
from vecfleet.errors import Conflict, StoreError, Unreachable
from vecfleet.names import Tenant
from vecfleet.owners import Owner
from vecfleet.records import Record
from vecfleet.settings import CALL_LASTS_DEADLINES, Settings
from vecfleet.stores.base import Index
from vecfleet.stores.pinecone.clients import PerProcess
from vecfleet.stores.serving import Before
from vecfleet.tenancy import finding
from vecfleet.tenancy.journal_file import JournalFile
from vecfleet.tenancy.places import Place, Side, TenantIsolationError, Where, holds_only, is_own, on_new_side
from vecfleet.tenancy.unseen import Sought, Unseen

log = logs.get_logger("vecfleet.tenancy")

FILE = "journal/writes.sqlite3"  # under VECFLEET_HOME
_PATIENCE_S = 1.0  # how long a write waits for another of the same record, which takes some tens of milliseconds
_NAP_S = 0.02
_LOOK_EVERY_S = 5.0  # how often writers look whether something is owed
_AT_ONCE = 100  # records replayed by one fetch and one upsert


@dataclass(frozen=True, slots=True)
class Noted:
    """A write under way: the tenant's own namespace, the records, the side that is owed them, and who writes."""

    namespace: str
    side: Side
    ids: tuple[str, ...]
    writer: str

    @property
    def tenant(self) -> Tenant:
        tenant = names.parse(self.namespace)
        assert tenant is not None, "only namespaces built from a tenant are noted"
        return tenant


class Journal:
    """Records that are owed, in a file, and deletions to look at again. For threads, processes and forks.

    `fresh_s`: seconds that reads may lag behind a write; nothing is replayed earlier. `abandoned_s`: after so long a
    write that was noted and not settled is taken for dead. Raises Unreachable if the file cannot be used.
    """

    def __init__(self, path: Path, fresh_s: float, abandoned_s: float, clock: Callable[[], float] = time.time) -> None:
        self._file, self._fresh_s, self._abandoned_s, self._clock = JournalFile(path), fresh_s, abandoned_s, clock
        self._looked = float("-inf")
        self._turns = PerProcess(threading.Lock)  # a lock that another thread holds at a fork is never released
        self.unseen = Unseen(self._file, fresh_s, abandoned_s, lambda: self._clock())

    @property
    def turn(self) -> threading.Lock:
        """The lock by which one thread of a process replays at a time."""
        return self._turns.get()

    @classmethod
    def of(cls, settings: Settings) -> "Journal":
        abandoned_s = CALL_LASTS_DEADLINES * settings.request_deadline_seconds
        return cls(settings.vecfleet_home / FILE, settings.freshness_wait_seconds, abandoned_s)

    def note(self, where: Where, ids: Sequence[str]) -> Noted:
        """Put on record, before anything is sent, that the other side will be owed these records."""
        tenant = where.tenant
        side: Side = "old" if where.side == "new" else "new"
        noted = Noted(names.build(tenant.creator, tenant.twin), side, tuple(dict.fromkeys(ids)), uuid.uuid4().hex)
        with self._taking(noted.namespace, noted.ids) as db:
            due = self._clock() + self._abandoned_s
            rows = [(side, noted.namespace, id, noted.writer, due) for id in noted.ids]
            db.executemany("INSERT INTO owed (side, namespace, id, writer, due) VALUES (?, ?, ?, ?, ?)", rows)
        return noted

    def outdate(self, tenant: Tenant, ids: Sequence[str]) -> None:
        """Note that these records are about to be written, to one side only: an earlier deletion counts no more."""
        if self._file.exists():
            with self._taking(names.build(tenant.creator, tenant.twin), tuple(ids)):
                pass

    @contextmanager
    def _taking(self, namespace: str, ids: Sequence[str]) -> Iterator[sqlite3.Connection]:
        """Give a transaction in which these records are one's own to write: nobody else is at them, for a while."""
        patient_until = time.monotonic() + _PATIENCE_S
        while True:
            with self._file.open() as db:
                if time.monotonic() >= patient_until or not self._busy(db, namespace, ids):
                    self.unseen.outdate(db, namespace, ids)
                    yield db
                    return
            time.sleep(_NAP_S)

    def _busy(self, db: sqlite3.Connection, namespace: str, ids: Sequence[str]) -> bool:
        written = any(self._being_written(db, namespace, id) for id in ids)
        return written or self.unseen.sought(db, namespace, ids)

    def settle(self, noted: Noted, both: bool, *, taken: bool = True) -> None:
        """Note that the write has ended. Records that it did not bring to both sides, alone, are owed from now on.

        Not `taken`: the side that was written first refused, so the caller knows of no write. It must not outweigh an
        earlier write that readers' side took then: a cut-over may have come between the two.
        """
        with self._file.open() as db:
            due = self._clock() + self._fresh_s
            for id in noted.ids:
                own = db.execute(
                    "SELECT n FROM owed WHERE namespace = ? AND id = ? AND writer = ?",
                    (noted.namespace, id, noted.writer),
                ).fetchone()
                if own is None:  # a replay took it over: this writer was given up, and has written since
                    row = (noted.side, noted.namespace, id, due)
                    db.execute("INSERT INTO owed (side, namespace, id, writer, due) VALUES (?, ?, ?, '', ?)", row)
                elif not taken and self._opposed(db, noted, id):
                    db.execute("DELETE FROM owed WHERE n = ?", own)
                elif both and not self._overlapped(db, noted, id, own[0]):
                    older = (noted.namespace, id, own[0])
                    db.execute("DELETE FROM owed WHERE namespace = ? AND id = ? AND n <= ?", older)
                elif self._opposed(db, noted, id):
                    db.execute("UPDATE owed SET writer = '', due = ? WHERE n = ?", (due, own[0]))
                else:  # as the youngest, so that another writer at this record does not settle it with its own
                    youngest = "UPDATE owed SET writer = '', due = ?, n = (SELECT max(n) + 1 FROM owed) WHERE n = ?"
                    db.execute(youngest, (due, own[0]))

    def claim(self) -> Noted | None:
        """Take some records of one tenant that one side is owed and nobody is writing: the caller is, from now on.

        If a record has several rows, the youngest that was settled tells the side: a writer that died before had told
        nobody of its write. None if nothing is due.
        """
        if not self._file.exists():
            return None
        with self._file.open() as db:
            now, writer = self._clock(), uuid.uuid4().hex
            due = db.execute(
                "SELECT side, namespace, id, n FROM owed WHERE n IN "
                "(SELECT coalesce(max(CASE writer WHEN '' THEN n END), max(n)) FROM owed "
                "GROUP BY namespace, id HAVING max(due) <= ?) ORDER BY n LIMIT ?",
                (now, _AT_ONCE),
            ).fetchall()
            if not due:
                return None
            side, namespace = due[0][:2]
            own = [(id, n) for its_side, its_namespace, id, n in due if (its_side, its_namespace) == (side, namespace)]
            for id, n in own:
                db.execute("DELETE FROM owed WHERE namespace = ? AND id = ? AND n <> ?", (namespace, id, n))
                db.execute("UPDATE owed SET writer = ?, due = ? WHERE n = ?", (writer, now + self._abandoned_s, n))
            return Noted(namespace, side, tuple(id for id, _ in own), writer)

    def look(self) -> bool:
        """Say whether it is time to look, and something is due."""
        if time.monotonic() - self._looked < _LOOK_EVERY_S or not self._file.exists():
            return False
        self._looked = time.monotonic()
        with self._file.open() as db:
            due = "SELECT 1 FROM owed WHERE due <= ?1 UNION ALL SELECT 1 FROM unseen WHERE due <= ?1"
            return db.execute(due, (self._clock(),)).fetchone() is not None

    def count(self) -> int:
        """Return how many records a side is owed, or are to be looked for, including those being written now."""
        if not self._file.exists():
            return 0
        with self._file.open() as db:
            every = "SELECT count(*) FROM (SELECT namespace, id FROM owed UNION SELECT namespace, id FROM unseen)"
            return int(db.execute(every).fetchone()[0])

    def forget(self, tenant: Tenant) -> int:
        """Delete every row of this tenant from the file. Returns how many rows went."""
        if not self._file.exists():
            return 0
        with self._file.open() as db:
            own = [
                (namespace,)
                for (namespace,) in db.execute(
                    "SELECT namespace FROM owed UNION SELECT namespace FROM unseen"
                ).fetchall()
                if names.belongs_to(namespace, tenant.creator, tenant.twin)
            ]
            return sum(
                db.execute(statement, row).rowcount
                for statement in ("DELETE FROM owed WHERE namespace = ?", "DELETE FROM unseen WHERE namespace = ?")
                for row in own
            )

    def _being_written(self, db: sqlite3.Connection, namespace: str, id: str) -> bool:
        query = "SELECT 1 FROM owed WHERE namespace = ? AND id = ? AND writer <> '' AND due > ?"
        return db.execute(query, (namespace, id, self._clock())).fetchone() is not None

    @staticmethod
    def _opposed(db: sqlite3.Connection, noted: Noted, id: str) -> bool:
        """Say whether the other side is owed this record too, by a write from before a cut-over or a reversal."""
        query = "SELECT 1 FROM owed WHERE namespace = ? AND id = ? AND side <> ?"
        return db.execute(query, (noted.namespace, id, noted.side)).fetchone() is not None

    @staticmethod
    def _overlapped(db: sqlite3.Connection, noted: Noted, id: str, n: int) -> bool:
        """Say whether another writer was at this record meanwhile: nobody knows which came last on each side."""
        query = "SELECT 1 FROM owed WHERE namespace = ? AND id = ? AND n <> ? AND (writer <> '' OR n > ?)"
        return db.execute(query, (noted.namespace, id, n, n)).fetchone() is not None


@dataclass(frozen=True, slots=True)
class Sides:
    """A replay's needs of a client: a tenant's places with a check before each changing call, its indexes, a way to
    write, and whether the tenant was erased.
    """

    to_write: Callable[[Tenant], tuple[Where, Before]]
    index: Callable[[Place], Index]
    write: Callable[[Place, Sequence[Record], Before], object]
    fenced: Callable[[Tenant], bool]


def replay(journal: Journal, sides: Sides) -> int:
    """Level the sides for all that is due; return how many records are owed still.

    Safe to repeat, and to run in several processes. The first failure ends it: a side that is away is asked again when
    writers look next, not by a thread that waits.
    """
    if not journal.turn.acquire(blocking=False):
        return journal.count()
    try:
        while (sought := journal.unseen.claim()) is not None and _deleted(journal.unseen, sought, sides):
            pass
        while (noted := journal.claim()) is not None and _levelled(journal, noted, sides):
            pass
    finally:
        journal.turn.release()
    return journal.count()


def _deleted(unseen: Unseen, sought: Sought, sides: Sides) -> bool:
    done = False
    try:
        where, before = sides.to_write(sought.tenant)
        for place in chain.from_iterable(where.writes):
            index = sides.index(place)
            for batch_ids in finding.chunks(sought.ids, index.fetch_room):
                # As late as can be: one of them may have been written anew since.
                there = unseen.still(sought, list(own(index, place, sought.tenant, batch_ids)))
                before()
                index.delete(place.namespace, there)
        before()
        done = True
    except TenantIsolationError as error:
        done = _not_its_own(len(sought.ids), error)
    except (StoreError, Unreachable) as error:
        log.warning("records are still to be deleted", records=len(sought.ids), why=type(error).__name__)
    finally:
        unseen.settle(sought, done)
    return done


def _levelled(journal: Journal, noted: Noted, sides: Sides) -> bool:
    levelled = False
    try:
        _level(noted, sides)
        levelled = True
    except TenantIsolationError as error:
        levelled = _not_its_own(len(noted.ids), error)
    except (StoreError, Unreachable) as error:
        log.warning("a side is still owed records", records=len(noted.ids), why=type(error).__name__)
    finally:
        journal.settle(noted, levelled)
    return levelled


def _not_its_own(records: int, error: TenantIsolationError) -> bool:
    """Log that the routes lead this tenant to no place of its own: there is no side to level, so all owed is done."""
    log.warning("nothing is owed where nothing is the tenant's own", records=records, why=error.message)
    return True


def tell_owed(noted: Noted, error: Exception) -> None:
    """Log that one side took a write and the other did not: the application goes on, and the journal remembers."""
    log.warning("a side is owed records", side=noted.side, records=len(noted.ids), why=type(error).__name__)


def tell_unexpected(done: Future[int]) -> None:
    """Log the error that ended a replay in the background, where nobody waits for its result."""
    error = done.exception()
    if error is not None:
        log.error("a replay ended", why=type(error).__name__, said=str(error))


def _level(noted: Noted, sides: Sides) -> None:
    tenant = noted.tenant
    where, before = sides.to_write(tenant)
    if not where.dual:
        return  # one side is left, or readers and writers use one: the other is owed nothing any more
    told, owed = (where.old, where.new) if noted.side == "new" else (where.new, where.old)
    held: dict[str, tuple[Place, Record]] = {}
    for place in told:
        fetched = own(sides.index(place), place, tenant, noted.ids)
        held |= {id: (place, record) for id, record in fetched.items() if id not in held}
    records: dict[Place, list[Record]] = {}
    for place, record in held.values():
        home = _home(owed, record) if noted.side == "old" else owed[0]
        records.setdefault(home, []).append(_as_on(noted.side, tenant, place, record))
    for place, batch in records.items():
        # For good: the readers' side has them, and the other one never had room for them.
        kept = anothers(sides.index(place), place, tenant, [record.id for record in batch])
        if kept:
            log.warning("ids that are another tenant's by now are not replaced", records=len(kept))
            records[place] = [record for record in batch if record.id not in kept]
    gone = [id for id in noted.ids if id not in held]

    def not_erased() -> None:
        """Check as late as can be, and before each attempt: an erasure may have begun since."""
        before()
        if sides.fenced(tenant):
            raise _Erased

    try:
        for place, batch in records.items():
            sides.write(place, batch, not_erased)
    except _Erased:
        return
    before()
    if noted.side == where.side:
        return  # readers are there by now: a clean-up may have taken it from the other side, and here is the last of it
    for place in owed if gone else ():
        index = sides.index(place)
        there = list(own(index, place, tenant, gone))
        if there and not any(sides.index(other).namespace(other.namespace) for other in told):
            raise Conflict(
                "the authoritative side is not there: nothing is deleted on its account",
                next_step="look at both sides; the journal keeps it, and `replay()` tries it again",
            )
        before()
        index.delete(place.namespace, there)


class _Erased(Exception):
    """The tenant whose records are to be written was erased: nothing is owed to it any more."""


def _home(old: Sequence[Place], record: Record) -> Place:
    """Return the old place that a record of the new side came from."""
    return next((place for place in old if place.namespace == record.metadata.get(SOURCE)), old[0])


def own(index: Index, place: Place, tenant: Tenant, ids: Sequence[str]) -> dict[str, Record]:
    """Return these records as far as they are the tenant's own."""
    fetched = index.fetch(place.namespace, ids).records
    return (
        fetched
        if holds_only(place)
        else {id: record for id, record in fetched.items() if is_own(record.metadata, tenant)}
    )


def anothers(index: Index, place: Place, tenant: Tenant, ids: Sequence[str]) -> set[str]:
    """Return the ids that are records of others, or nobody's, in a place that tenants share."""
    if holds_only(place):
        return set()
    fetched = index.fetch(place.namespace, ids).records
    return {id for id, record in fetched.items() if not is_own(record.metadata, tenant)}


def _as_on(side: Side, tenant: Tenant, place: Place, record: Record) -> Record:
    """Return a record of one side as the other one holds it."""
    if side == "new":
        return record.with_metadata(on_new_side(record.metadata, tenant, place))
    source = record.metadata.get(SOURCE)
    if not isinstance(source, str):
        return record
    return record.with_metadata(restored(record.metadata, additions(source, Owner(tenant.creator, tenant.twin))))
