"""The facts that a recipe plans from: both indexes, their namespaces with counts, a sample of the records."""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Any, Self

from migrations.estimating import Shape, shape_of
from migrations.idsources import IdSources
from migrations.reading import Reader, patiently
from vecfleet.errors import Missing, NotFound
from vecfleet.records import Record
from vecfleet.stores.base import Aliased, IndexInfo, Kind, NamespaceInfo, Store

# Ids. Up to this number every id is listed, 1 read unit for each 100, so that the plan's number of records is exact.
COUNT_EXACTLY_UP_TO = 100_000
# Ids. Up to this number, sources that share a target are compared when planning. The copy compares them in any case.
COMPARE_UP_TO = 1_000_000
_UNLISTABLE = (Kind.DOCUMENT, Kind.POD)
COMMON_EXAMPLES = 3
SAMPLE_NAMESPACES = 5
SAMPLE_RECORDS = 40


@dataclass(frozen=True, slots=True)
class HeldNamespace:
    """A namespace: the number of its records (`exact`: its ids were listed), and its filterable fields.

    `beyond_ascii`: how many of the listed ids hold characters other than ASCII.
    """

    records: int
    exact: bool = False
    schema: Mapping[str, Any] | None = None
    beyond_ascii: int = 0


@dataclass(frozen=True, slots=True)
class Survey:
    """The source, and the target if it is another index (None: it does not exist yet)."""

    source: IndexInfo
    target: IndexInfo | None
    namespaces: Mapping[str, HeldNamespace]
    occupied: Mapping[str, HeldNamespace]  # the namespaces of the target's index
    ids: IdSources | None = None
    aliases: Mapping[str, str] = field(
        default_factory=dict
    )  # of the index that is written to: each alias and its target

    @property
    def same_index(self) -> bool:
        target = self.target
        return target is not None and (target.name, target.host) == (self.source.name, self.source.host)


@dataclass(frozen=True, slots=True)
class CommonIds:
    """Ids that more than one of the namespaces hold. `examples`: the first few."""

    count: int
    examples: tuple[str, ...]


@dataclass(slots=True)
class Surveyor:
    """Surveyor of a store, and through `into` of the target's store if that is another one.

    Read-only; `readers` add up the cost.
    """

    store: Store
    into: "Surveyor | None" = None
    readers: dict[str, Reader] = field(default_factory=dict)
    _sample: list[tuple[str, Record]] | None = None
    _answered: int = 0

    @classmethod
    def between(cls, store: Store, into: Store | None) -> Self:
        """Return a surveyor of a store, and of the target's store if that is another one."""
        return cls(store, cls(into) if into not in (None, store) else None)

    @property
    def at_target(self) -> "Surveyor":
        return self.into or self

    def survey(self, source: str, target: str | None = None, ids: IdSources | None = None) -> Survey:
        """Survey the index `source` as a source for `target` (None: for itself). Raises NotFound, KeyRefused, …

        An index whose records cannot be listed or read counts as holding none: `check_indexes` says why.
        """
        info = self.describe(source)
        itself = self.into is None and target in (None, source)
        into = info if itself else self.at_target._describe_or_none(target or source)
        if info.kind is Kind.DOCUMENT or (info.kind is Kind.POD and ids is None):
            return Survey(info, into, namespaces={}, occupied={})
        namespaces = self.namespaces(info, ids)
        if into is info:
            occupied = namespaces
        else:
            listable = into is not None and into.kind not in _UNLISTABLE
            occupied = self.at_target.namespaces(into) if into is not None and listable else {}
        return Survey(info, into, namespaces, occupied, ids, self.at_target.aliases(into) if into is not None else {})

    def describe(self, index: str) -> IndexInfo:
        try:
            return patiently(lambda: self.store.describe(index))
        except Missing as error:
            raise NotFound(error.message, next_step=error.next_step or "name an index that is there") from error

    def reader(self, info: IndexInfo) -> Reader:
        if info.name not in self.readers:
            self.readers[info.name] = Reader(self.store.open(info))
        return self.readers[info.name]

    def ids(self, survey: Survey, namespace: str) -> Iterable[str]:
        """Return the ids of a source namespace, in byte order, from the id source or the index."""
        return survey.ids.ids(namespace) if survey.ids else self.reader(survey.source).ids(namespace)

    def sample(self, survey: Survey) -> list[Record]:
        """Return a few records from each of the largest source namespaces, read once."""
        return [record for _, record in self.sampled(survey)]

    def sampled(self, survey: Survey) -> list[tuple[str, Record]]:
        """Return the same records, each with its namespace."""
        if self._sample is None:
            namespaces = survey.namespaces
            largest = sorted(namespaces, key=lambda name: namespaces[name].records, reverse=True)[:SAMPLE_NAMESPACES]
            chosen = [(name, list(islice(self.ids(survey, name), SAMPLE_RECORDS))) for name in largest]
            reader = self.reader(survey.source)
            before = reader.usage.egress_bytes
            self._sample = [(name, record) for name, ids in chosen for record in reader.records(name, ids)]
            self._answered = reader.usage.egress_bytes - before
        return self._sample

    def shape(self, survey: Survey) -> Shape:
        """Return the mean sizes of the sampled records."""
        sample = self.sample(survey)
        if not sample:
            flat = 4.0 * (survey.source.dimension or 0)
            return Shape(record=flat, request=flat, answer=flat)
        return shape_of(sample, self.reader(survey.source).index.request_bytes, answered=self._answered)

    def namespaces(self, info: IndexInfo, ids: IdSources | None = None) -> dict[str, HeldNamespace]:
        """Return the namespaces of an index that can list, or those that an id source names."""
        if ids is not None:
            return {name: HeldNamespace(count, exact=True) for name, count in ids.counts.items()}
        reader = self.reader(info)
        listed = patiently(lambda: list(reader.index.namespaces()))
        exact = sum(namespace.count for namespace in listed) <= COUNT_EXACTLY_UP_TO
        if not exact:
            return {info.name: HeldNamespace(info.count, schema=info.schema) for info in listed}
        return {info.name: _counted(reader, info) for info in listed}

    def aliases(self, info: IndexInfo) -> dict[str, str]:
        """Return each alias of an index with its target; none if the store has no aliases. One request for each 100."""
        index = self.reader(info).index
        return patiently(index.aliases) if isinstance(index, Aliased) else {}

    def _describe_or_none(self, index: str) -> IndexInfo | None:
        try:
            return self.describe(index)
        except NotFound:
            return None


def _counted(reader: Reader, info: NamespaceInfo) -> HeldNamespace:
    """Return a namespace as its listed ids tell."""
    count = beyond = 0
    for record_id in reader.ids(info.name):
        count += 1
        beyond += not record_id.isascii()
    return HeldNamespace(count, exact=True, schema=info.schema, beyond_ascii=beyond)


def common_ids(streams: Sequence[Iterable[str]]) -> CommonIds:
    """Return the ids that several streams hold. Each stream is in byte order, with no id twice; memory stays small."""
    common = (id for id, holders in groupby(heapq.merge(*streams)) if len(list(holders)) > 1)
    examples = tuple(islice(common, COMMON_EXAMPLES))
    return CommonIds(len(examples) + sum(1 for _ in common), examples)
