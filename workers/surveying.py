"""List a target and compare its ids with those that were written; name the missing and the extra ids.

Read-only at the store. Safe to run twice: differences are noted together with the bookmark behind them, and the next
worker goes on at the bookmark. Memory holds a page of ids and the differences of one run, however large the target. A
difference counts only after the freshness wait and a second full listing; so does a service's count above the listing.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from heapq import merge
from typing import Any

import sqlalchemy as sa

from orchestrator.core import manifests
from orchestrator.core.model import Finding, Target
from orchestrator.ledger import batches, checks, differences, moves, parked
from vecfleet.digests import Tally, record_digest
from vecfleet.errors import BadRequest
from workers.vectors import place
from workers.work import Work

# Pages between two bookmarks: a worker's death costs listing 5,000 ids again, and a bookmark one small row change.
_PAGES_PER_BOOKMARK = 50
# Copy batches whose manifests are read at once while ids are merged: some thousand ids in memory.
_STREAM_PAGE = 20
_BEFORE_PAGE = 5_000
# Differences noted at once.
_RUN = 1_000

_LISTING, _COUNTING, _SECOND, _MERGING = "listing", "counting", "second listing", "merging"


@dataclass
class _Progress:
    """Progress of the survey: its stage, the last id it has compared, and its counts up to that id."""

    stage: str = _LISTING
    token: str | None = None
    last_id: str | None = None
    count: int = 0
    digest: int = 0
    missing: int = 0
    extra: int = 0
    set_aside: int = 0
    added: int = 0
    told: int = 0

    @property
    def tally(self) -> Tally:
        return Tally(self.count, self.digest)

    def add(self, ids: Sequence[str]) -> None:
        total = self.tally + Tally.of_ids(ids)
        self.count, self.digest = total.count, total.digest

    def next(self, stage: str) -> "_Progress":
        return _Progress(stage=stage, told=self.told)

    @classmethod
    def of(cls, result: Mapping[str, Any] | None) -> "_Progress":
        bookmark = (result or {}).get("bookmark")
        return cls(**bookmark | {"digest": int(bookmark["digest"])}) if bookmark else cls()

    def bookmark(self) -> dict[str, Any]:
        return {"bookmark": asdict(self) | {"digest": str(self.digest)}}


def survey_target(work: Work) -> tuple[dict[str, Any], list[Finding]]:
    """List the target and compare its ids with those written. Records from before the job are not ours to count."""
    target = work.target_row
    with work.database.once() as connection:
        expected = checks.expected_ids_of(connection, target.id)
    before = Tally(target.held_before, target.held_before_digest)
    progress = _Progress.of(work.lease.found)
    if progress.stage == _LISTING:
        _list(work, target, progress)
        if progress.tally - before != expected:
            _look_again(work, f"the ids listed in {target.namespace} are not yet those written")
            progress = progress.next(_MERGING)
        else:
            progress.stage = _COUNTING
    if progress.stage == _COUNTING:
        progress.told = work.target.count(target.namespace)
        if progress.told != progress.count:
            counts = f"{target.namespace} lists {progress.count:,} records, but the service counts {progress.told:,}"
            _look_again(work, f"{counts}; a count lags", progress)
            progress = progress.next(_SECOND)
    if progress.stage == _SECOND:
        _list(work, target, progress)
        if progress.tally - before != expected:
            progress = progress.next(_MERGING)
    written = _Merge(work, target, progress).run() if progress.stage == _MERGING else progress.tally - before
    return {
        "count": written.count,
        "ids_digest": str(written.digest),
        "missing": progress.missing,
        "extra": progress.extra,
        "set_aside": progress.set_aside,
        "added": progress.added,
        "told": progress.told,
        "listings": 1 if progress.stage == _COUNTING else 2,
    }, []


def _look_again(work: Work, why: str, progress: _Progress | None = None) -> None:
    """Raise Later until the freshness wait is over; the next look goes on with `progress`, or lists from the start."""
    with work.database.begin() as connection:
        batches.note_found(connection, work.lease, progress.bookmark() if progress else {})
    work.look_again(why)


def _list(work: Work, target: Target, progress: _Progress) -> None:
    for number, page in enumerate(_pages(work, target, progress), start=1):
        progress.add(page)
        if number % _PAGES_PER_BOOKMARK == 0:
            with work.database.begin() as connection:
                batches.note_found(connection, work.lease, progress.bookmark())


def _pages(work: Work, target: Target, progress: _Progress) -> Iterator[list[str]]:
    """Yield pages of ids behind the bookmark, which moves along. List from the start again if a token is refused."""
    token, last_id = progress.token, progress.last_id
    try:
        page = work.target.page(target.namespace, token)
    except BadRequest:
        if token is None:
            raise
        page = work.target.page(target.namespace)
    while True:
        fresh = [record_id for record_id in page.ids if last_id is None or record_id.encode() > last_id.encode()]
        progress.token = page.next_token
        if fresh:
            progress.last_id = fresh[-1]
            yield fresh
        if page.next_token is None:
            return
        page = work.target.page(target.namespace, page.next_token)


@dataclass
class _Merge:
    """A second full listing, merged in byte order with the manifests and with the ids held before the job."""

    work: Work
    target: Target
    progress: _Progress
    missing: list[Finding] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    def run(self) -> Tally:
        """Return the tally of the listed ids, without those held before the job and those of parked records."""
        work, target, progress = self.work, self.target, self.progress
        with work.database.begin() as connection:
            self.sources = checks.moves_into(connection, target.id)
            self.moves = [moves.get(connection, move_id) for move_id, _ in self.sources]
        after = progress.last_id
        streams = (
            _written(work, move_id, prefix, target.id, listed_in, after)
            for move_id, prefix in self.sources
            for listed_in in work.job.listings
        )
        expected = merge(*streams, key=lambda entry: entry[0].encode())
        before = _held_before(work, target.id, after)
        wanted, old = next(expected, None), next(before, None)
        for page in _pages(work, target, progress):
            known = []
            for record_id in page:
                while wanted is not None and wanted[0].encode() < record_id.encode():
                    self.missing.append(Finding("missing", wanted[0], wanted[1]))
                    wanted = next(expected, None)
                while old is not None and old.encode() < record_id.encode():
                    old = next(before, None)
                if wanted is not None and record_id == wanted[0]:
                    wanted = next(expected, None)
                    known.append(record_id)
                elif record_id != old:
                    self.unexpected.append(record_id)
            progress.add(known)
            if len(self.missing) + len(self.unexpected) >= _RUN:
                self._note()
        while wanted is not None:
            self.missing.append(Finding("missing", wanted[0], wanted[1]))
            progress.last_id = wanted[0]
            if len(self.missing) >= _RUN:
                self._note()
            wanted = next(expected, None)
        self._note()
        return progress.tally

    def _note(self) -> None:
        """Record the differences and the bookmark behind them, in one transaction."""
        progress = self.progress
        added = self._added()
        with self.work.database.begin() as connection:
            known = self._set_aside(connection)
            extra = [record_id for record_id in self.unexpected if record_id not in known | added]
            progress.missing += len(self.missing)
            progress.extra += len(extra)
            progress.set_aside += len(known)
            progress.added += len(added - known)
            progress.add(extra)
            batches.note_found(connection, self.work.lease, progress.bookmark())
            findings = [*self.missing, *(Finding("extra", record_id) for record_id in extra)]
            differences.note(connection, self.target.id, self.work.lease.id, findings)
        self.missing, self.unexpected = [], []

    def _added(self) -> set[str]:
        """Return unexpected ids that the application wrote to both sides since the last pass listed its source.

        The move would turn the source's record into exactly the target's. If such ids counted as extra, an application
        that goes on adding records would keep the job from its verdict.
        """
        if self.work.job.plan.policies.writers != "dual" or not self.unexpected:
            return set()
        made: dict[str, set[int]] = defaultdict(set)
        for move in self.moves:
            ids = [record_id.removeprefix(move.prefix) for record_id in self.unexpected]
            placed, _ = place(self.work, self.work.source.fetch(move.source, ids), move)
            for placement in placed.values():
                if placement.target == self.target.namespace:
                    made[placement.record.id].add(placement.digest)
        there = self.work.target.fetch(self.target.namespace, list(made))
        return {record_id for record_id, record in there.items() if made[record_id] == {record_digest(record)}}

    def _set_aside(self, connection: sa.Connection) -> set[str]:
        """Return listed ids of parked records. They are not extra, because an earlier attempt may have written them."""
        known: set[str] = set()
        for move_id, prefix in self.sources:
            ids = [record_id.removeprefix(prefix) for record_id in self.unexpected if record_id.startswith(prefix)]
            known |= {prefix + record_id for record_id in parked.set_aside(connection, move_id, ids)}
        return known


def _written(
    work: Work, move_id: int, prefix: str, target_id: int, listed_in: int, after: str | None
) -> Iterator[tuple[str, int]]:
    """Yield the ids behind `after` that a move listed in one pass and wrote to a target, each with its copy batch.

    In byte order, a few manifests at a time.
    """
    first: str | None = None
    if after is not None and after.startswith(prefix):
        first = after.removeprefix(prefix)
    elif after is not None and after.encode() > prefix.encode():
        return  # ids of one prefix stand together, and all of these come before the bookmark
    inclusive = True
    while True:
        with work.database.begin() as connection:
            rows = checks.manifest_stream(
                connection, move_id, target_id, listed_in, first, _STREAM_PAGE, inclusive=inclusive
            )
        for copy_id, first_id, manifest, members in rows:
            first, inclusive = first_id, False
            for record_id in manifests.select(manifests.unpack(manifest), members):
                written = prefix + record_id
                if after is None or written.encode() > after.encode():
                    yield written, copy_id
        if len(rows) < _STREAM_PAGE:
            return


def _held_before(work: Work, target_id: int, after: str | None) -> Iterator[str]:
    """Yield the ids behind `after` that the target held before the job, in byte order."""
    while True:
        with work.database.begin() as connection:
            ids = moves.held_before(connection, target_id, after, _BEFORE_PAGE)
        yield from ids
        if len(ids) < _BEFORE_PAGE:
            return
        after = ids[-1]
