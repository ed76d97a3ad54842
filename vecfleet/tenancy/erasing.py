"""Erase a tenant, the only way: fence, find, export, delete, confirm, look again, forget, certify.

Safe to repeat: an absent record is no error. If the process dies in the middle, the fence stands, and the next call
finds the records that are left. Our own rows about the tenant go last, because they name the places of its records.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from vecfleet import clock as machine_clock
from vecfleet import names
from vecfleet.deadlines import ending_by
from vecfleet.digests import Tally
from vecfleet.errors import BadInput, BadRequest, Missing, NeedsOperator, RateLimited, StoreError, Transient, WrongKind
from vecfleet.names import Tenant
from vecfleet.patience import once_unless_refused, patiently
from vecfleet.settings import Settings
from vecfleet.stores.base import Aliased, Index
from vecfleet.tenancy import finding
from vecfleet.tenancy.fences import FENCED, NO_FENCE, Books, NoBooks, subject_of
from vecfleet.tenancy.finding import Known, KnownAt, Places, TenantPlace, chunks, in_parallel, known_nowhere

CONFIRM_S = 10.0  # how long answers may lag behind a deletion
ITSELF = "the tenant"
"""Author of an erasure for which a tenant asks by its own name: that name is kept nowhere."""
_LOOK_AGAIN_S = 0.2
# Every namespace is listed and fetched from. Of at most this many namespaces each is queried too; of more, this many,
# evenly spread.
_QUERIED = 200
_LONGEST_NAP_S = 1.0
_UNSEEN = (
    "recent writes of a job, or of an application to both sides, may be this tenant's and may not show in reads yet; "
    "at that time the erasure looks again, deletes what appeared, and certifies"
)
_UNANSWERED = "a deletion was not answered, and may still be carried out until that time"

# Places that an erasure cannot reach, and how to deal with each.
RESIDUAL = (
    "indexes, in any account, that no job read or wrote and that the erasure was not asked to look into: name them "
    "(`vecfleet forget --index INDEX`, or `--index pinecone@NAME:INDEX`)",
    "backups of the index made before this: `pc.backups` lists them; records leave a backup only with the backup",
    "the vendor's own storage and backups, until its purge window ends: the data processing agreement with Pinecone "
    "says how long that is, no API does",
    "backups, write-ahead log and dead rows of the job table's database: gone with its own retention and vacuum",
    "plan files that a person put elsewhere than into VECFLEET_ROOT/plans (`--out`), ownership files, and lists of "
    "namespaces: take the tenant out of them by hand, or delete them",
    "the tasks that Flower shows, which it keeps in its memory: gone when Flower is started again",
    "log lines of messages that were still in the queue, and are worked off after `ended`: ask for the erasure again",
    "records that an application that was not stopped wrote for the tenant after `last_look`, or so shortly before "
    "that no read showed them: the fence stops the fleet's jobs, but no application; stop it, wait until reads show "
    "its writes (on Pinecone a minute), and ask for the erasure again",
    "files that `vecfleet forget --export` wrote, for this tenant or others: they belong to the tenant, no erasure "
    "looks there, and a person deletes them by hand",
    "other folders of exports under VECFLEET_ROOT, where the client or the API was asked: `vecfleet forget` looks "
    "there",
    "copies that the application, or a person who was given an export, keeps elsewhere",
)

UNREADABLE = (BadInput, BadRequest, Missing, NeedsOperator, WrongKind)
"""Errors of a folder that is damaged, closed to us, or another program's."""

Export = Callable[[Index, TenantPlace], int]
"""Copy the records of one place for the tenant, and return how many."""


@dataclass(frozen=True, slots=True)
class Erased:
    """The deletions, the records left with their reasons, and the certificate (empty while any record is left).

    `unread`: the exports that could not be looked into, each with the reason. The certificate names them.
    """

    creator: str
    twin: str | None
    deleted: tuple[TenantPlace, ...]
    left: tuple[str, ...]
    seconds: float
    fence: str = NO_FENCE
    aliases: tuple[str, ...] = ()
    exported: int | None = None
    unread: Mapping[str, str] = field(default_factory=dict)
    certificate: Mapping[str, Any] = field(default_factory=dict)

    @property
    def confirmed(self) -> bool:
        """True if the erasure's looks found no record of the tenant left."""
        return not self.left

    @property
    def records(self) -> int:
        return sum(place.count for place in self.deleted)


def erase(
    indexes: Sequence[Index],
    tenant: Tenant,
    *,
    known: KnownAt = known_nowhere,
    books: Books | None = None,
    who: str = "an application",
    export: Export | None = None,
    repoint: Mapping[str, str] | None = None,
    elsewhere: Iterable[str] = (),
    exports: Sequence[Index] = (),
    unread: Mapping[str, str] | None = None,
    confirm_s: float = CONFIRM_S,
    lands_s: float,
    on_begun: Callable[[], object] = lambda: None,
    on_wait: Callable[[float, str], None] = lambda _seconds, _why: None,
    clock: Callable[[], float] = time.monotonic,
    nap: Callable[[float], None] = time.sleep,
) -> Erased:
    """Erase a creator, or one twin, from these indexes and from the books, and prove it.

    `known` is the caller's knowledge beside the books. Aliases of deleted namespaces are removed, or pointed as
    `repoint` says. `elsewhere` names places with records of this tenant that this cannot reach; they are reported as
    left. `exports` are folders of files to look into too. The certificate names those that turn out to be unreadable,
    and those found so before (`unread`, each with the reason). `on_begun` is called once the fence stands, before
    anything is deleted. `on_wait` is called with the seconds that the last look has to wait, and the reason. The wait
    lasts until reads show all writes from before the fence, of a job or of an application to both sides. If a deletion
    was not answered, the wait lasts `lands_s`, until it can no longer be carried out: it would delete the records of a
    readmitted tenant. Raises BadName, and Unreachable if named books do not answer; nothing is deleted then.
    """
    names.build(tenant.creator, tenant.twin)
    began, started = datetime.now(UTC), clock()
    books = books or NoBooks()
    begun = books.begin(tenant, ITSELF if who == tenant.creator else who)
    on_begun()

    def known_at(index: str) -> Known:
        return _joined(known(index), begun.known(tenant.creator, index))

    eraser = _Eraser(
        indexes, tenant, known_at, export, repoint or {}, confirm_s, clock, nap, exports, dict(unread or {})
    )
    left = eraser.round()
    if begun.number is not None:
        told = False
        while (wait := books.wait_s(begun.number)) > 0:
            if not told:
                told = True
                on_wait(wait, _UNSEEN)
            nap(min(wait, _LONGEST_NAP_S))
    last_look = datetime.now(UTC)
    left = left or eraser.round()  # finds writes that were under way, and records that reads did not show yet
    if eraser.unanswered and not left:
        on_wait(lands_s, _UNANSWERED)
        nap(lands_s)
        last_look = datetime.now(UTC)
        left = eraser.round()
    erased = Erased(
        tenant.creator,
        tenant.twin,
        tuple(eraser.deleted.values()),
        (*left, *elsewhere),
        clock() - started,
        NO_FENCE if begun.number is None else FENCED,
        tuple(sorted(eraser.aliases)),
        eraser.exported if export is not None else None,
        eraser.unread,
    )
    if not erased.confirmed:
        return erased
    certificate = _certificate(erased, tenant, who, began, last_look, eraser.read)
    if begun.number is not None:
        certificate = books.finish(begun.number, tenant, erased.deleted, certificate)
    return replace(erased, certificate=certificate, seconds=clock() - started)


def lands_s(settings: Settings, indexes: Iterable[Index]) -> float:
    """Return the seconds after which an unanswered deletion is no longer carried out, and every read shows it."""
    lags = any(index.limits.reads_lag for index in indexes)
    return settings.request_deadline_seconds + (settings.freshness_wait_seconds if lags else 0.0)


def _joined(ours: Known, theirs: Known) -> Known:
    """Join both. If they differ, the books are right, because the application's knowledge may be old."""
    return replace(
        theirs,
        legacy=theirs.legacy | (ours.legacy - theirs.others),
        others=theirs.others | (ours.others - theirs.legacy),
        legacy_owner=ours.legacy_owner,
    )


@dataclass
class _Eraser:
    """One erasure's deletions, added up over its rounds."""

    indexes: Sequence[Index]
    tenant: Tenant
    known: KnownAt
    export: Export | None
    repoint: Mapping[str, str]
    confirm_s: float
    clock: Callable[[], float]
    nap: Callable[[float], None]
    exports: Sequence[Index] = ()
    unread: dict[str, str] = field(default_factory=dict)
    deleted: dict[tuple[str, str], TenantPlace] = field(default_factory=dict)
    aliases: set[str] = field(default_factory=set)
    exported: int = 0
    read: int = 0
    unanswered: bool = False  # a deletion was asked for again, and the first may be carried out yet

    def round(self) -> list[str]:
        """Find, export, delete and confirm once. Returns what is left, with the reason."""
        left = [said for index in self.indexes for said in self._round(index, self._find(index))]
        for export in self.exports:
            try:
                places = self._find(export)
            except UNREADABLE as error:
                self.unread[export.info.name] = error.message
            else:
                left += self._round(export, places)
        return left

    def _find(self, index: Index) -> Places:
        return finding.find(index, self.tenant, self.known(index.info.name))

    def _round(self, index: Index, places: Places) -> list[str]:
        self.read = max(self.read, places.read)
        if not places.found:
            return []
        if self.export is not None:
            self.exported += sum(self.export(index, place) for place in places.found)
        return self.delete(index, places.found)

    def delete(self, index: Index, places: Sequence[TenantPlace]) -> list[str]:
        """Delete these places and confirm it. Returns what is left, with the reason."""
        self.free(index, {place.name for place in places if place.whole})
        refused = {name: said for name, said in in_parallel(lambda place: self._delete(index, place), places) if said}
        for place in places:
            key = (place.index, place.name)
            self.deleted[key] = _added(self.deleted[key], place) if key in self.deleted else place
        return self.confirm(index, places, refused)

    def free(self, index: Index, going: set[str]) -> None:
        """Free these namespaces of aliases: an alias bars the deletion, and its readers must not be surprised by it."""
        if not isinstance(index, Aliased) or not going:
            return
        for alias, target in patiently(index.aliases).items():
            if target in going:
                to = self.repoint.get(alias)
                if to in going:
                    raise BadInput(
                        f"the alias {alias!r} cannot be led to {to!r}, which goes too", next_step="name another"
                    )
                patiently(lambda alias=alias, target=target, to=to: _lead(index, alias, target, to))  # type: ignore[misc]
                self.aliases.add(alias if to is None else f"{alias} → {to}")

    def confirm(self, index: Index, places: Sequence[TenantPlace], refused: Mapping[str, str]) -> list[str]:
        """List, fetch and query until nothing answers any more, or the time is over. Refused places are left."""
        until = self.clock() + self.confirm_s
        waiting = [place for place in places if place.name not in refused]
        queried = {place.name for place in places[:: max(1, -(-len(places) // _QUERIED))]}
        while True:
            listed = {place.name for place in patiently(lambda: list(index.namespaces()))}
            gone = [place for place in waiting if not (place.whole and place.name in listed)]
            answers = in_parallel(lambda place: _answer(index, place, query=place.name in queried), gone)
            left = [(place, said) for place, said in answers if said is not None]
            left += [(place, "it is still listed") for place in waiting if place.whole and place.name in listed]
            if not left or self.clock() >= until:
                said_of = {place.name: said for place, said in left} | dict(refused)
                return [f"{name}: {said}" for name, said in sorted(said_of.items())]
            waiting = [place for place, _ in left]
            self.nap(_LOOK_AGAIN_S)

    def _delete(self, index: Index, place: TenantPlace) -> tuple[str, str | None]:
        """Delete one place; return the store's sentence if it refuses.

        Repeated without a look in between: all under these names and ids is an erased tenant's, and goes too.
        """
        try:
            if place.whole:
                self._ask(lambda: index.delete_namespace(place.name))
            for batch_ids in chunks(place.records, index.limits.delete_ids):
                self._ask(lambda batch_ids=batch_ids: index.delete(place.name, batch_ids))  # type: ignore[misc]
        except Transient as error:
            return place.name, f"{error.message}; ask again"
        except StoreError as error:
            return place.name, error.message
        return place.name, None

    def _ask(self, call: Callable[[], object]) -> None:
        def asked() -> None:
            try:
                call()
            except Transient as error:
                self.unanswered |= not isinstance(error, RateLimited)
                raise

        patiently(asked)


def _lead(index: Aliased, alias: str, target: str, to: str | None) -> None:
    """Point the alias elsewhere, or remove it, if it still leads to `target`. Safe to repeat: it looks each time."""
    if index.alias(alias) == target:
        index.point_alias(alias, to)


def _answer(index: Index, place: TenantPlace, *, query: bool) -> tuple[TenantPlace, str | None]:
    return place, finding.still_there(index, place, query=query)


def delete_all(
    index: Index,
    found: Sequence[TenantPlace],
    *,
    confirm_s: float,
    before_each: Callable[[], None],
    lasts_s: float,
    wait_for_landing: Callable[[], None],
) -> list[str]:
    """Delete these namespaces, asking once for each, and confirm it. Returns what is left, with the reason.

    `before_each` raises Refused if nothing more may be deleted; the deletion that follows ends `lasts_s` after it was
    called, or is not sent: a process may be frozen between the two. If an answer is missing, the deletion may be
    carried out later. `wait_for_landing` returns when it no longer can, and only then does this look whether the
    namespace is there. If it is there then, it stays, for the next request.
    """
    eraser = _Eraser([index], Tenant(""), known_nowhere, None, {}, confirm_s, time.monotonic, time.sleep)
    eraser.free(index, {place.name for place in found})
    answers = in_parallel(lambda place: (place.name, *_ask_to_delete(index, place.name, before_each, lasts_s)), found)
    if any(unanswered for _, _, unanswered in answers):
        wait_for_landing()
    return eraser.confirm(index, found, {name: said for name, said, unanswered in answers if said and not unanswered})


def _ask_to_delete(index: Index, namespace: str, before: Callable[[], None], lasts_s: float) -> tuple[str | None, bool]:
    """Ask once; return the store's sentence if it does not say yes, and whether it may have done it all the same."""

    def ask() -> None:
        looked_at = machine_clock.now()
        before()
        with ending_by(looked_at + lasts_s):
            index.delete_namespace(namespace)

    try:
        once_unless_refused(ask)
    except StoreError as error:
        return error.message, isinstance(error, Transient) and not isinstance(error, RateLimited)
    return None, False


def _added(before: TenantPlace, again: TenantPlace) -> TenantPlace:
    """Add a second round's finds: its lagging listing may name records that the first round deleted."""
    if before.whole:
        return before if before.count >= again.count else again
    records = {**before.records, **again.records}
    tally = Tally.of_ids(records)
    return replace(before, count=tally.count, digest=tally.digest, records=records)


def _certificate(
    erased: Erased, tenant: Tenant, who: str, began: datetime, last_look: datetime, read: int
) -> dict[str, Any]:
    """Return what may be kept for good: the tenant and its namespaces appear as digests only."""
    return {
        "certificate": 1,
        "subject": subject_of(tenant),
        "scope": "creator" if tenant.twin is None else "twin",
        "asked_by": ITSELF if who == tenant.creator else who,
        "began": began.isoformat(timespec="seconds"),
        "last_look": last_look.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(erased.seconds, 3),
        "namespaces": sum(place.whole for place in erased.deleted),
        "records": erased.records,
        "shared_records_read": read,
        "where": [deleted_at(place) for place in erased.deleted],
        "aliases": len(erased.aliases),
        "exported": erased.exported,
        "confirmed_by": ["listing", "fetching", f"querying {min(len(erased.deleted), _QUERIED):,} namespaces"],
        "fence": erased.fence,
        "residual": [*RESIDUAL, *map(_unread, erased.unread)],
    }


def _unread(folder: str) -> str:
    """Return a certificate's sentence about an export that could not be looked into; the reason might name a tenant."""
    return (
        f"the folder {folder} under VECFLEET_ROOT, which is damaged, closed to this user, or another program's: it was "
        "not looked into; make it readable, or delete it by hand, and ask for the erasure again"
    )


def deleted_at(place: TenantPlace) -> dict[str, Any]:
    """Return a place as a certificate names it: its own namespace as a digest."""
    return {
        "index": place.index,
        "namespace": subject_of(Tenant(place.name)) if place.whole else place.name,
        "whole": place.whole,
        "records": place.count,
        "ids_digest": f"{place.digest:032x}",
    }
