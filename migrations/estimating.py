"""The cost of a plan, before anything runs. Pure arithmetic on Pinecone's published metering (understand-cost page).

1 KB is 1,000 bytes. A list request is 1 read unit; a fetch is 1 for every 10 records it returns; an upsert is 1 write
unit for each KB, at least 5 a request; a deletion by ids is 1 for each KB deleted, at least 5 a request; deleting a
namespace is 5. The content of an answer leaves the service and counts as egress.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from math import ceil
from statistics import fmean

from migrations.plan import Estimate, Monthly, MonthlyCost, PlannedMove, Policies
from vecfleet.records import Record
from vecfleet.settings import FETCH_BYTES, Settings
from vecfleet.stores import rules
from vecfleet.stores.base import Limits, ReadNodes, Usage

# The documented limits, per second: list and fetch of an index; upserts, queries and deletions of a namespace.
LISTS_PER_SECOND = 200
FETCHES_PER_SECOND = 100
UPSERTS_PER_SECOND = 100
UPSERT_BYTES_PER_SECOND = 50_000_000
DELETED_RECORDS_PER_SECOND = 5_000
QUERIES_PER_SECOND = 100
# A query costs one read unit for each GB of its namespace, and at least a quarter.
QUERY_UNITS_PER_GB, MIN_QUERY_UNITS = 1.0, 0.25
BYTES_PER_GB = 1e9
HOURS_A_MONTH = 730

# creator_id, twin_id and migrated_from, each with a UUID and its key.
ENRICHED_BYTES = 150
# The bytes around an id in the answer of a list request.
LISTED_ID_BYTES = 12
# Not all records are of the mean size, so a batch is filled to nine tenths of the size that an answer may have.
BATCH_SHARE = 0.9
# Records that the listing reads first, to learn how many fit one request.
SAMPLED_RECORDS = 10
LIVE_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Prices:
    """Dollars for a million read units, a million write units, and a GB of egress beyond the included allowance.

    `storage_gb`: a month; `read_node`: an hour of a node of dedicated read capacity; `conversion_gb`: for the service
    to convert a GB. The last two are 0 where they are not known.
    """

    read_million: float = 16.0
    write_million: float = 4.0
    egress_gb: float = 0.0
    storage_gb: float = 0.33
    read_node: float = 0.0
    conversion_gb: float = 0.0

    @classmethod
    def of(cls, settings: Settings) -> "Prices":
        return cls(
            read_million=settings.read_unit_dollars_per_million,
            write_million=settings.write_unit_dollars_per_million,
            egress_gb=settings.egress_dollars_per_gb,
            storage_gb=settings.storage_dollars_per_gb_month,
            read_node=settings.read_node_dollars_per_hour,
            conversion_gb=settings.conversion_dollars_per_gb,
        )

    def dollars(self, usage: Usage) -> float:
        """Return the price of calls: units read and written, and egress."""
        units = usage.read_units * self.read_million + usage.write_units * self.write_million
        return units / 1e6 + usage.egress_bytes * self.egress_gb / BYTES_PER_GB


@dataclass(frozen=True, slots=True)
class Shape:
    """Mean bytes of a record in a sample: as billed, in an upsert, in a fetch's answer, and of its id."""

    record: float
    request: float
    answer: float
    id: float = 36.0

    def wider(self, more: float) -> "Shape":
        """Return the shape of records with so many bytes more."""
        return Shape(self.record + more, self.request + more, self.answer + more, self.id)


def shape_of(sample: Sequence[Record], request_bytes: Callable[[Record], int], answered: int) -> Shape:
    """Return the shape of these records (at least one). Their fetch took `answered` bytes; 0 means unknown."""
    record = fmean(rules.billed_bytes(sampled) for sampled in sample)
    return Shape(
        record=record,
        request=fmean(request_bytes(sampled) for sampled in sample),
        answer=answered / len(sample) or record,
        id=fmean(len(sampled.id) for sampled in sample),
    )


@dataclass(frozen=True, slots=True)
class _Work:
    """Calls and their cost."""

    lists: int = 0
    fetches: int = 0
    upserts: int = 0
    deletes: int = 0
    queries: int = 0
    written_bytes: float = 0.0
    deleted_records: int = 0
    read_units: float = 0.0
    write_units: float = 0.0
    egress: float = 0.0

    def __add__(self, other: "_Work") -> "_Work":
        return _Work(*(getattr(self, part.name) + getattr(other, part.name) for part in fields(self)))


_ELSEWHERE = MonthlyCost(storage=None, reads=None, because="not paid to Pinecone")
_BY_PODS = MonthlyCost(storage=None, reads=None, because="in the price of its pods")


@dataclass(frozen=True, slots=True)
class CostModel:
    """The rules of counting. `owners`: how many namespaces records may reach if they go to their own owners."""

    shape: Shape
    policies: Policies
    limits: Limits = field(default_factory=Limits)
    prices: Prices = field(default_factory=Prices)
    owners: int = 1
    metered_source: bool = True  # pods are paid by the hour, not by the read
    free_source: bool = False  # a folder costs nothing, and nothing leaves it
    free_target: bool = False

    @property
    def batch_records(self) -> int:
        """Return how many records a batch holds."""
        return records_of_batch(self.shape.request, FETCH_BYTES, self.limits)

    @property
    def fetched_records(self) -> int:
        """Return how many records one fetch of a batch holds."""
        return min(self.limits.fetch_ids, self.batch_records)

    @property
    def upserted_records(self) -> int:
        """Return how many records one upsert holds."""
        fitting = int(self.limits.upsert_bytes // (self.shape.request + ENRICHED_BYTES))
        return max(1, min(self.limits.upsert_records, fitting))

    def estimate(self, moves: Sequence[PlannedMove]) -> Estimate:
        """Estimate all work of these moves: copy, quiet passes, verification, the second reading, clean-up."""
        phases = [
            [self._copy(move) for move in moves],
            [self._verify(move) for move in moves],
            [self._clean_up(move) for move in moves],
            *([self._reread(move) for move in moves] for _ in range(self.policies.quiet_passes)),
        ]
        total = sum((work for phase in phases for work in phase), _Work())
        share = 1.0 if self.policies.exclusive else LIVE_SHARE
        records = sum(move.records for move in moves)
        filled_gb = records * self.shape.record / BYTES_PER_GB if self.policies.prefilled else 0.0
        usage = Usage(read_units=total.read_units, write_units=total.write_units, egress_bytes=round(total.egress))
        dollars = filled_gb * self.prices.conversion_gb + self.prices.dollars(usage)
        return Estimate(
            records=records,
            record_bytes=round(self.shape.record, 1),
            requests=total.lists + total.fetches + total.upserts + total.deletes + total.queries,
            read_units=round(total.read_units, 1),
            write_units=round(total.write_units, 1),
            egress_bytes=round(total.egress),
            dollars=round(dollars, 4),
            seconds=round(sum(_seconds(phase) for phase in phases) / share, 1),
        )

    def monthly(
        self,
        moves: Sequence[PlannedMove],
        queries: int,
        held: Mapping[str, int],
        *,
        source_nodes: ReadNodes | None,
        target_nodes: ReadNodes | None,
    ) -> Monthly:
        """Estimate what these moves (at least one) cost a month on either side. `held`: the records of targets now."""
        arriving = Counter(held)
        for move in moves:
            arriving[move.to or ""] += move.records
        before = [move.records for move in moves]
        after = [arriving[move.to] if move.to is not None else ceil(move.records / self.owners) for move in moves]
        enriched = self.shape.record + (ENRICHED_BYTES if self.policies.enrich else 0)
        if self.free_source:
            there = _ELSEWHERE
        elif not self.metered_source:
            there = _BY_PODS
        else:
            there = self._month(sum(before), before, self.shape.record, queries, source_nodes)
        here = _ELSEWHERE if self.free_target else self._month(sum(before), after, enriched, queries, target_nodes)
        return Monthly(queries=queries, before=there, after=here)

    def _month(
        self, records: int, searched: Sequence[int], record_bytes: float, queries: int, nodes: ReadNodes | None
    ) -> MonthlyCost:
        """Return the cost of so many records, where each query searches one of namespaces of `searched` records."""
        storage = round(records * record_bytes / BYTES_PER_GB * self.prices.storage_gb, 4)
        if nodes is None:
            units = fmean(_query_units(namespace * record_bytes) for namespace in searched)
            return MonthlyCost(storage=storage, reads=round(queries * units * self.prices.read_million / 1e6, 4))
        if not self.prices.read_node:
            return MonthlyCost(storage=storage, reads=None, because=f"{nodes.count} {nodes.type} nodes by the hour")
        return MonthlyCost(storage=storage, reads=round(nodes.count * HOURS_A_MONTH * self.prices.read_node, 2))

    def _copy(self, move: PlannedMove) -> _Work:
        sampled = min(move.records, SAMPLED_RECORDS)
        sample = _Work(fetches=1, read_units=1.0 if self.metered_source else 0.0, egress=sampled * self.shape.answer)
        reading = self._read(move.records, metered=self.metered_source, listed=move.ids_file is None)
        if self.policies.prefilled:  # each record is looked for, and few are lacking
            return self._at_source(reading + sample if sampled else reading) + self._at_target(self._read(move.records))
        writing = self._write(move)
        if self.policies.check_every_write or self.policies.writers == "dual":
            writing += self._read(move.records, listed=False)
        return self._at_source(reading + sample if sampled else reading) + self._at_target(writing)

    def _reread(self, move: PlannedMove) -> _Work:
        """Return the work of one more pass, which finds nothing changed."""
        return self._at_source(self._read(move.records, metered=self.metered_source, listed=move.ids_file is None))

    def _verify(self, move: PlannedMove) -> _Work:
        fetched = self.policies.verify != "ids"
        work = self._at_target(self._read(move.records, fetched=fetched))
        return work + self._ask(move) if self.policies.verify == "content+query" else work

    def _ask(self, move: PlannedMove) -> _Work:
        """Return the work of querying both sides with sampled vectors. A query costs by the size of its namespace."""
        targets = self.owners if move.is_divided else 1
        queried = min(move.records, self.policies.query_sample * targets)
        units = _query_units(move.records * self.shape.record)
        answers = 2 * queried * self.policies.query_top_k * (self.shape.id + LISTED_ID_BYTES)
        return _Work(
            queries=2 * queried,
            fetches=queried,
            read_units=queried * (2 * units + 1),
            egress=queried * self.shape.answer + answers,
        )

    def _clean_up(self, move: PlannedMove) -> _Work:
        """Return the work of reading both sides right before the deletion, deleting, and listing the source again."""
        can_list = move.ids_file is None
        source = self._read(move.records, metered=self.metered_source, listed=can_list)
        confirmed = self._read(0, metered=self.metered_source, listed=can_list, fetched=False)
        target = self._read(move.records, listed=False)
        return self._at_source(source + self._delete(move) + confirmed) + self._at_target(target)

    def _delete(self, move: PlannedMove) -> _Work:
        if not move.is_divided:
            return _Work(deletes=1, write_units=rules.MIN_WRITE_UNITS)
        deletes = ceil(move.records / self.limits.delete_ids)
        units = max(move.records * self.shape.record / rules.BYTES_PER_WRITE_UNIT, rules.MIN_WRITE_UNITS * deletes)
        return _Work(deletes=deletes, deleted_records=move.records, write_units=units)

    def _upserts(self, records: int, move: PlannedMove) -> int:
        """Return the number of requests that write one batch, with separate requests for each owner."""
        spread = max(1, min(self.owners, records)) if move.is_divided else 1
        return spread * ceil(records / spread / self.upserted_records)

    def _at_source(self, work: _Work) -> _Work:
        return _free(work) if self.free_source else work

    def _at_target(self, work: _Work) -> _Work:
        return _free(work) if self.free_target else work

    def _read(self, records: int, *, metered: bool = True, listed: bool = True, fetched: bool = True) -> _Work:
        lists = max(1, ceil(records / self.limits.list_ids)) if listed else 0
        fetches = ceil(records / self.fetched_records) if fetched else 0
        units = lists + (max(fetches, records / rules.FETCHES_PER_READ_UNIT) if fetched else 0)
        egress = records * ((self.shape.id + LISTED_ID_BYTES if listed else 0) + (self.shape.answer if fetched else 0))
        return _Work(lists=lists, fetches=fetches, read_units=units if metered else 0.0, egress=egress)

    def _write(self, move: PlannedMove) -> _Work:
        full, rest = divmod(move.records, self.batch_records)
        upserts = full * self._upserts(self.batch_records, move) + self._upserts(rest, move)
        added = ENRICHED_BYTES if self.policies.enrich else 0
        units = max(
            move.records * (self.shape.record + added) / rules.BYTES_PER_WRITE_UNIT, rules.MIN_WRITE_UNITS * upserts
        )
        written = move.records * (self.shape.request + added)
        return _Work(upserts=upserts, written_bytes=written, write_units=units)


def records_of_batch(record_bytes: float, fetch_bytes: int, limits: Limits) -> int:
    """Return how many records fill a batch: one fetch reads them, and as many upserts as needed write them."""
    return max(1, min(int(fetch_bytes * BATCH_SHARE / record_bytes), limits.upsert_records))


def _query_units(namespace_bytes: float) -> float:
    return max(QUERY_UNITS_PER_GB * namespace_bytes / BYTES_PER_GB, MIN_QUERY_UNITS)


def _free(work: _Work) -> _Work:
    return replace(work, read_units=0.0, write_units=0.0, egress=0.0)


def _seconds(phase: Sequence[_Work]) -> float:
    """Return the time at the full documented limits: moves share the index's limits; each namespace has its own too."""
    index_wide = max(
        sum(work.lists for work in phase) / LISTS_PER_SECOND,
        sum(work.fetches for work in phase) / FETCHES_PER_SECOND,
    )
    slowest = max(
        (
            max(
                work.upserts / UPSERTS_PER_SECOND,
                work.queries / QUERIES_PER_SECOND,
                work.written_bytes / UPSERT_BYTES_PER_SECOND,
                work.deleted_records / DELETED_RECORDS_PER_SECOND,
            )
            for work in phase
        ),
        default=0.0,
    )
    return max(index_wide, slowest)
