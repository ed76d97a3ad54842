"""List a source namespace: pages of ids become copy batches, with a bookmark behind them.

Safe to run twice: rows and bookmark are one transaction behind the fence. After a crash the listing resumes at the
bookmark. If the service refuses the page token, or the token is older than the last row, list from the start and drop
ids up to the bookmark. If a first listing lacked ids, a second one is compared with the ids on record, because ids that
lagged may come before the bookmark. Later passes make batches of new ids only. A namespace that cannot be listed (a
pod's) is read from its id source instead.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from migrations.estimating import records_of_batch
from migrations.idsources import read_ids
from orchestrator.core import manifests
from orchestrator.core.model import LISTED_LATE
from orchestrator.ledger import cleanup, listings
from vecfleet.errors import BadRequest, Refused
from vecfleet.stores.base import Kind
from workers import caps
from workers.erasure_check import require_no_erasure
from workers.work import Work

# Records whose mean size decides how many fit a request; the first page has at most 100 ids.
_SAMPLE = 10
_FLOAT_BYTES = 4
# Copy batches whose manifests are read at once when a later pass looks for new ids: some thousand ids in memory.
_MANIFEST_PAGE = 20


@dataclass(frozen=True, slots=True)
class Rest:
    """The ids that the caller records with the end of a listing: the last `runs`, and the runs of `late` ids.

    `found` is the number of all ids of the source.
    """

    runs: list[Sequence[str]]
    late: list[Sequence[str]]
    found: int

    def end(self, work: Work, busy_ms: int) -> None:
        """Record the ids, and with them the end of the listing. Raises LeaseLost."""
        alone = self.runs and not self.late
        with work.database.once() if alone else work.database.begin() as connection:
            if self.late:
                listings.add(connection, work.lease, self.late, None, listed_in=LISTED_LATE)
            listings.end(connection, work.lease, self.runs, work.usage, busy_ms, listed_in=work.job.passes)


def list_namespace(work: Work) -> Rest | None:
    """Make copy batches of every id of the move's source.

    Returns the last ids, which the caller records; None if an earlier attempt ended the listing.
    """
    move = work.move
    if move.listed_all:
        return None
    listing = _Listing(work, move.last_id, move.listed)
    listing.read_on(move.page_token)
    if work.job.passes == 1 and listing.listed < move.planned:
        # Reads lag, and a listing may end early. Fewer ids than planned count only if a listing from the start, past
        # the freshness wait, shows no more. If they are far fewer, a person must confirm the number.
        listing.record(None)
        work.look_again(f"{move.source} lists {listing.listed} ids of {move.planned} so far")
        listing.read_again()
    if work.job.passes == 1 and work.job.plan.policies.prefilled and move.to is not None:
        # What the service made of records deleted since would stand there for ever: no listing of the source has it.
        listing.record(None)
        work.look_again(f"{move.to} may not list yet all that the service wrote", often=False)
        listing.add_late(id for page in work.target.ids(move.to) for id in page)
    held = max(move.planned, move.listed - move.erased) - move.deleted
    if not listing.found_any and held > 0 and not _began_to_delete(work):
        work.look_again(f"{move.source} lists no ids yet")
        with work.database.begin() as connection:
            require_no_erasure(connection, move.source)
        index = work.job.plan.source.typed
        raise Refused(
            f"{move.source} lists no ids, though it held {held} records before",
            code="listing-empty",
            next_step=f"`vecfleet audit {index}`; `vecfleet retry {work.job.id} failed` lists it again",
        )
    if work.job.passes == 1:
        caps.require_most_listed(work, move.planned - listing.found)
    return listing.rest


def _began_to_delete(work: Work) -> bool:
    """Say whether our own deletions may be why a source lists no ids. Other records are still read by id."""
    with work.database.begin() as connection:
        return cleanup.any_intended(connection, work.job.id, work.move.id)


class _Listing:
    """The ids of one source on their way into batch rows: ids up to `last_id` are there already."""

    def __init__(self, work: Work, last_id: str | None, listed: int) -> None:
        self.listed = listed
        self.found_any = last_id is not None
        self._work = work
        self._last_id = last_id
        self._size: int | None = None
        self._waiting: list[str] = []
        self._late: list[str] = []

    def read_again(self) -> None:
        """Read from the start to find the ids that lagged the first time.

        Those ids are few and stay in memory. They are recorded in order, in one transaction with the end of the
        listing: a crash before it records none of them.
        """
        self.read_on(None, _Known(self._work, (LISTED_LATE, self._work.job.passes)))

    def add_late(self, ids: Iterable[str]) -> None:
        """Add ids that are not on record, in byte order; all ids read so far are on record."""
        known, late = _Known(self._work, (LISTED_LATE, self._work.job.passes)), {*self._late}
        late |= {record_id for record_id in ids if record_id not in known}
        self._late = sorted(late, key=str.encode)

    def read_on(self, token: str | None, recorded: "_Known | None" = None) -> None:
        """Read to the end of the listing, from `token` or from the start; record full batches on the way.

        `recorded`: the ids on record of this listing, if ids before the bookmark may be missing there.
        """
        # A source without batches has no known ids: only the holder of its lease makes batches.
        known = _Known(self._work, self._work.job.listings[:-1] if self._work.move.batches else ())
        bookmark = self._last_id
        for ids, page_token in _pages(self._work, self._work.move.source, token):
            self.found_any = self.found_any or bool(ids)
            if recorded is not None and bookmark is not None:
                before = (record_id for record_id in ids if not _after(record_id, bookmark))
                self._late += [record_id for record_id in before if record_id not in recorded]
            fresh = [record_id for record_id in ids if self._last_id is None or _after(record_id, self._last_id)]
            fresh = [record_id for record_id in fresh if record_id not in known]
            if not fresh:
                continue
            self._size = self._size or _batch_size(self._work, fresh, are_all=page_token is None)
            self._waiting += fresh
            self._last_id = fresh[-1]
            self.listed += len(fresh)
            if len(self._waiting) >= self._size:
                full = len(self._waiting) - len(self._waiting) % self._size
                _record(self._work, _runs(self._waiting[:full], self._size), token)
                self._waiting = self._waiting[full:]
                token = page_token

    @property
    def found(self) -> int:
        """The number of ids that are on record or wait to be."""
        return self.listed + len(self._late)

    @property
    def rest(self) -> Rest:
        """The ids that wait because they fill no batch yet."""
        if self._late and self._size is None:
            self._size = _batch_size(self._work, self._late, are_all=False)
        size = self._size or 1
        return Rest(_runs(self._waiting, size), _runs(self._late, size), self.found)

    def record(self, token: str | None) -> None:
        """Record the ids that wait."""
        _record(self._work, self.rest.runs, token)
        self._waiting = []


class _Known:
    """The ids that these passes listed; ask for them in byte order. Reads a few manifests at a time."""

    def __init__(self, work: Work, passes: Iterable[int]) -> None:
        listed = (_ids_of_pass(work, listed_in) for listed_in in passes)
        self._ids = heapq.merge(*listed, key=str.encode)
        self._next = next(self._ids, None)

    def __contains__(self, record_id: str) -> bool:
        while self._next is not None and _after(record_id, self._next):
            self._next = next(self._ids, None)
        return self._next == record_id


def _ids_of_pass(work: Work, listed_in: int) -> Iterator[str]:
    after: str | None = None
    while True:
        with work.database.once() as connection:
            rows = listings.manifest_page(connection, work.move.id, listed_in, after, _MANIFEST_PAGE)
        for first_id, manifest in rows:
            after = first_id
            yield from manifests.unpack(manifest)
        if len(rows) < _MANIFEST_PAGE:
            return


def _after(record_id: str, last_id: str) -> bool:
    return record_id.encode() > last_id.encode()


def _pages(work: Work, namespace: str, token: str | None) -> Iterator[tuple[list[str], str | None]]:
    """Yield pages of ids, each with the token to read the next one by. An unusable token starts over."""
    file = work.job.plan.ids_files.get(namespace)
    if file is not None:
        yield from _pages_of_file(work.settings.vecfleet_root, file, namespace)
        return
    try:
        page = work.source.page(namespace, token)
    except BadRequest:
        if token is None:
            raise
        page = work.source.page(namespace)
    while True:
        yield page.ids, page.next_token
        if page.next_token is None:
            return
        page = work.source.page(namespace, page.next_token)


def _pages_of_file(root: Path, file: str, namespace: str) -> Iterator[tuple[list[str], str | None]]:
    yield sorted(set(read_ids(root, file, namespace)), key=str.encode), None


def _batch_size(work: Work, ids: Sequence[str], *, are_all: bool) -> int:
    """Return how many records like those of `ids` fill a batch.

    No record is fetched if `ids` `are_all` and would fit even at the largest size, as in a small namespace.
    """
    index = work.target.index
    limits = index.limits
    if are_all and index.info.kind is Kind.DENSE:
        largest = _FLOAT_BYTES * (index.info.dimension or 0) + limits.metadata_bytes + limits.id_chars
        surely = _fitting(work, largest)
        if len(ids) <= surely:
            return surely
    sizes = []
    for record in work.source.fetch(work.move.source, ids[:_SAMPLE]).values():
        with suppress(BadRequest):  # the record cannot be written: copying parks it
            sizes.append(work.target.index.request_bytes(record))
    if not sizes:
        return limits.fetch_ids
    return _fitting(work, sum(sizes) / len(sizes))


def _fitting(work: Work, size: float) -> int:
    """Return how many records of `size` bytes fill a batch: one fetch reads them, and a few upserts write them."""
    return records_of_batch(size, work.settings.fetch_bytes, work.target.index.limits)


def _runs(ids: Sequence[str], size: int) -> list[Sequence[str]]:
    return [ids[start : start + size] for start in range(0, len(ids), size)]


def _record(work: Work, runs: Sequence[Sequence[str]], token: str | None) -> None:
    with work.database.begin() as connection:
        listings.add(connection, work.lease, runs, token, listed_in=work.job.passes)
