"""Calls to one index on behalf of one lease: paced, inside a deadline, retried a few times, and paid for.

Each call first waits for a slot of the pace; then the lease must outlive the request's deadline. The SDK's own retries
are off, so there are no tries beside those counted here. A deletion is sent once. A failed one may have taken effect,
and the records there may be new by the time of a second one. So the batch is requeued, and the next worker looks first.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from orchestrator.core.model import Deletion
from orchestrator.pace_view import scope_of
from orchestrator.telemetry import tracing
from orchestrator.telemetry.counters import Counters
from vecfleet.digests import record_digest
from vecfleet.errors import BadRequest, RateLimited, RefusedAlike, StoreError, TooLarge, Transient
from vecfleet.records import Record
from vecfleet.stores.base import (
    Aliased,
    Conditional,
    Deleted,
    Fetched,
    IdPage,
    Index,
    Matches,
    Usage,
    Versioned,
    Written,
)
from workers.calls import TRIES, Calls
from workers.leases import Held
from workers.pace import Limit, Pace

T = TypeVar("T")

# Leave room for what surrounds the records in a request.
_REQUEST_SLACK = 0.95
# How many records of a refused request are tried alone before the request is halved. A request of fewer records than
# the second number is halved at once.
_SAMPLES, _SAMPLED_FROM = 5, 10

# Documented per-second limits of the service (docs/plans.md lists them with their scopes).
FETCHES, LISTS = 100.0, 200.0
UPSERTS, UPSERT_BYTES = 100.0, 50_000_000.0
DELETES, DELETED_RECORDS = 100.0, 5_000.0
QUERIES = 100.0
DESCRIBES = 100.0  # documented without a number: we take that of the index's statistics
ALIASES = 100.0  # likewise


class Lane:
    """One index, one lease. `usage` adds up what all its calls cost, failed ones included."""

    def __init__(
        self, index: Index, pace: Pace, counted: Counters, share: float, held: Held, deadline_s: float
    ) -> None:
        self.index = index
        self.usage = Usage()
        self.lsns: dict[str, int] = {}  # number of our newest write to each namespace, if the service gives one
        self.deletion = Deletion.UNSENT
        self.unanswered: set[str] = set()  # namespaces with a failed upsert that may still take effect
        self._calls = Calls(pace, counted, share, held, deadline_s)
        self._host = index.info.host

    def fetch(self, namespace: str, ids: Sequence[str]) -> dict[str, Record]:
        """Return the records of these ids that the namespace holds."""
        records: dict[str, Record] = {}
        for part in self.fetch_parts(namespace, ids):
            records.update(part)
        return records

    def fetch_parts(self, namespace: str, ids: Sequence[str]) -> Iterator[Mapping[str, Record]]:
        """Yield the records of these ids that the namespace holds, one answer at a time.

        Memory holds one answer, however many ids there are. Each try asks for as many ids as one answer has room for:
        fewer after an answer that took too long.
        """
        limit = Limit("fetch", self._host, FETCHES)
        rest = ids

        def ask() -> tuple[int, Fetched]:
            asked = rest[: self.index.fetch_room]
            return len(asked), self.index.fetch(namespace, asked)

        while rest:
            room = min(self.index.fetch_room, len(rest))
            try:
                asked, fetched = self._call([(limit, 1)], ask)
            except TooLarge:
                if self.index.fetch_room >= room:
                    raise
                continue
            self.usage += fetched.usage
            rest = rest[asked:]
            yield fetched.records

    def page(self, namespace: str, token: str | None = None, prefix: str | None = None) -> IdPage:
        """Return one page of ids."""
        page = self._call(
            [(Limit("list", self._host, LISTS), 1)], lambda: self.index.list_ids(namespace, token, prefix=prefix)
        )
        self.usage += page.usage
        return page

    def ids(self, namespace: str) -> Iterator[list[str]]:
        """Yield every id of a namespace, page by page."""
        token: str | None = None
        while True:
            page = self.page(namespace, token)
            if page.ids:
                yield page.ids
            token = page.next_token
            if token is None:
                return

    def count(self, namespace: str) -> int:
        """Return the service's own count of the namespace: a hint, because the count lags."""
        described = self._call([(Limit("describe", self._host, DESCRIBES), 1)], lambda: self.index.namespace(namespace))
        self.usage += Usage(requests=1)
        return described.count if described is not None else 0

    def ask(self, namespace: str, like: Record, top_k: int) -> tuple[Matches, float]:
        """Return the records nearest to this one, and the milliseconds of the answer without the wait for the pace."""
        took = 0.0

        def ask() -> Matches:
            nonlocal took
            began = time.perf_counter()
            answer = self.index.query(namespace, like, top_k)
            took = (time.perf_counter() - began) * 1_000
            return answer

        answer = self._call([(Limit("query", scope_of(self._host, namespace), QUERIES), 1)], ask)
        self.usage += answer.usage
        return answer, took

    def is_listed(self, namespace: str, record_id: str) -> bool:
        """Say whether a fresh listing shows this id."""
        return record_id in self.page(namespace, prefix=record_id).ids

    def upsert(
        self, namespace: str, records: Sequence[Record], before: Callable[[], None], *, each: bool = False
    ) -> list[tuple[Record, str]]:
        """Write all records, in requests under the size limit. `before` runs before each request.

        Returns the records that the service refuses, each with the reason: one bad record does not stop its neighbours.
        Raises RefusedAlike if the service refuses a request and then a sample of its records for the same reason: no
        single record is at fault then. `each`: try every record even so.
        """
        refused: list[tuple[Record, str]] = []
        for request, size in self._requests(records, refused):
            refused += self._upsert(namespace, request, size, before, samples=not each)
        return refused

    def _upsert(
        self,
        namespace: str,
        records: Sequence[Record],
        size: int,
        before: Callable[[], None],
        *,
        samples: bool = False,
    ) -> list[tuple[Record, str]]:
        scope = scope_of(self._host, namespace)
        limits = [(Limit("upsert", scope, UPSERTS), 1.0), (Limit("upsert_bytes", scope, UPSERT_BYTES), float(size))]
        try:
            written = self._call(limits, lambda: self._ask_to_write(namespace, records), before)
        except (TooLarge, BadRequest) as error:
            if len(records) == 1:
                return [(records[0], f"{type(error).__name__}: {error.message}")]
            if samples and isinstance(error, BadRequest) and len(records) >= _SAMPLED_FROM:
                records = self._after_samples(namespace, records, error, before)
                size = sum(map(self.index.request_bytes, records))
            middle = len(records) // 2
            first = sum(map(self.index.request_bytes, records[:middle]))
            refused = self._upsert(namespace, records[:middle], first, before)
            return refused + self._upsert(namespace, records[middle:], size - first, before)
        self.usage += written.usage
        if written.lsn is not None:
            self.lsns[namespace] = max(written.lsn, self.lsns.get(namespace, 0))
        return []

    def _after_samples(
        self, namespace: str, records: Sequence[Record], error: BadRequest, before: Callable[[], None]
    ) -> Sequence[Record]:
        """Write a sample of a refused request's records, one by one, until a record gets another answer.

        Return the records that are still to be written. Raise RefusedAlike if every sampled record gets the same
        answer.
        """
        alike = f"{type(error).__name__}: {error.message}"
        for record in records[:: (len(records) - 1) // (_SAMPLES - 1)][:_SAMPLES]:
            refused = self._upsert(namespace, [record], self.index.request_bytes(record), before)
            if not refused:
                return [other for other in records if other is not record]
            if refused[0][1] != alike:
                return records
        raise RefusedAlike(
            f"each record is refused with the same answer: {error.message}",
            next_step="remove its cause and retry the batch: a retry tries each record by itself",
        )

    def _ask_to_write(self, namespace: str, records: Sequence[Record]) -> Written:
        try:
            return self.index.upsert(namespace, records)
        except StoreError as error:
            if not _was_refused(error):
                self.unanswered.add(namespace)
            raise

    def _requests(
        self, records: Sequence[Record], refused: list[tuple[Record, str]]
    ) -> Iterator[tuple[list[Record], int]]:
        """Yield requests within the limits, each with its bytes; add records that cannot be written to `refused`.

        They are about equally large. A small one reaches the service sooner than the one before: too soon for its pace.
        """
        limits = self.index.limits
        room = limits.upsert_bytes * _REQUEST_SLACK
        sizes: list[tuple[Record, int]] = []
        for record in records:
            try:
                sizes.append((record, self.index.request_bytes(record)))
            except BadRequest as error:  # the record cannot be encoded at all
                refused.append((record, f"{type(error).__name__}: {error.message}"))
        left, size = sum(needed for _, needed in sizes), 0
        request: list[Record] = []
        for record, needed in sizes:
            full = size + needed > room or len(request) >= limits.upsert_records
            if request and (full or size + needed / 2 > left / math.ceil(left / room)):
                yield request, size
                left -= size
                request, size = [], 0
            request.append(record)
            size += needed
        if request:
            yield request, size

    def delete(self, namespace: str, proven: Mapping[str, Record], before: Callable[[], None]) -> list[str]:
        """Delete these records by id. `before` runs before each request; no request is repeated.

        Returns the ids that stay because they were written to meanwhile, if the store can compare them.
        """
        scope = scope_of(self._host, namespace)
        changed: list[str] = []
        for batch_ids in _chunks(sorted(proven, key=str.encode), self.index.limits.delete_ids):
            limits = [
                (Limit("delete", scope, DELETES), 1.0),
                (Limit("deleted", scope, DELETED_RECORDS), float(len(batch_ids))),
            ]
            changed += self._delete(limits, _deletion(self.index, namespace, proven, batch_ids), before)
        return changed

    def version(self, namespace: str) -> int | None:
        """Return a number that any write to the namespace changes; None if there is no namespace or no such number."""
        index = self.index
        if not isinstance(index, Conditional):
            return None
        version = self._call([(Limit("describe", self._host, DESCRIBES), 1)], lambda: index.version(namespace))
        self.usage += Usage(requests=1)
        return version

    def versions(self, namespace: str, ids: Sequence[str] | None) -> str | None:
        """Return what any change of these ids (None: of all) changes; None if the store cannot tell without reading."""
        index = self.index
        if not isinstance(index, Versioned):
            return None
        versions = self._call([(Limit("describe", self._host, DESCRIBES), 1)], lambda: index.versions(namespace, ids))
        self.usage += Usage(requests=1)
        return versions

    def delete_namespace(self, namespace: str, version: int | None, before: Callable[[], None]) -> None:
        """Delete the namespace with all its records. The request is not repeated.

        If the store can compare, delete the namespace only at this `version`; raise Changed otherwise.
        """
        index = self.index

        def delete() -> Deleted:
            if isinstance(index, Conditional):
                return Deleted(usage=index.delete_namespace_if(namespace, version))
            return Deleted(usage=index.delete_namespace(namespace))

        self._delete([(Limit("delete", scope_of(self._host, namespace), DELETES), 1.0)], delete, before)

    def _delete(
        self, limits: Sequence[tuple[Limit, float]], call: Callable[[], Deleted], before: Callable[[], None]
    ) -> list[str]:
        """Send the deletion once, and note its outcome in `deletion`. Raises the store's error."""

        def ask() -> Deleted:
            earlier, self.deletion = self.deletion, Deletion.UNANSWERED
            try:
                deleted = call()
            except StoreError as error:
                if earlier is Deletion.UNSENT and _was_refused(error):
                    self.deletion = Deletion.UNSENT
                raise
            self.deletion = Deletion.ANSWERED
            return deleted

        deleted = self._call(limits, ask, before, tries=1)
        self.usage += deleted.usage
        return deleted.changed

    def alias(self, name: str) -> str | None:
        """Return the namespace that this alias leads to; None if there is none, or the store has no aliases."""
        index = self.index
        if not isinstance(index, Aliased):
            return None
        to = self._call([(Limit("alias", self._host, ALIASES), 1)], lambda: index.alias(name))
        self.usage += Usage(requests=1)
        return to

    def point_alias(self, name: str, to: str | None) -> None:
        """Point the alias at the namespace, creating it if needed, or remove it (None); no-op without aliases."""
        index = self.index
        if isinstance(index, Aliased):
            self._call([(Limit("alias", self._host, ALIASES), 1)], lambda: index.point_alias(name, to))
            self.usage += Usage(requests=1)

    def _call(
        self,
        limits: Sequence[tuple[Limit, float]],
        call: Callable[[], T],
        before: Callable[[], None] | None = None,
        *,
        tries: int = TRIES,
    ) -> T:
        def counting() -> T:
            try:
                with tracing.span(f"store {limits[0][0].name}"):
                    return call()
            except Transient:
                self.usage += Usage(requests=1)
                raise

        return self._calls.make(limits, counting, before, tries=tries)


def _was_refused(error: StoreError) -> bool:
    """Say whether the store surely did nothing: it refused the request, or it takes no more requests just now."""
    return isinstance(error, RateLimited) or not isinstance(error, Transient)


def _deletion(index: Index, namespace: str, proven: Mapping[str, Record], ids: Sequence[str]) -> Callable[[], Deleted]:
    if not isinstance(index, Conditional):
        return lambda: Deleted(usage=index.delete(namespace, ids))
    digests = {record_id: record_digest(proven[record_id]) for record_id in ids}
    return lambda: index.delete_if(namespace, digests)


def _chunks(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
