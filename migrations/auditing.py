"""The present state of the indexes; of one index its namespaces, their names and metadata, and the room left."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from migrations.analysis import MetadataKeys
from migrations.checks import NAMESPACE_QUOTA
from migrations.reading import Reader, patiently
from migrations.survey import Surveyor
from vecfleet import names
from vecfleet.records import Record
from vecfleet.stores.base import IndexInfo, Kind, Store, Usage

SAMPLED_NAMESPACES = 50
SAMPLED_RECORDS = 20


@dataclass(frozen=True, slots=True)
class NamespaceAudit:
    """A namespace: its records (`exact`: as listed), its share of the index from 0 to 1, and the tenant in its name.

    `tenant` is None if the name is no tenant's. `keys` are the metadata keys of a few records; none are read if the
    index has many namespaces.
    """

    name: str
    records: int
    exact: bool
    share: float
    tenant: names.Tenant | None
    keys: MetadataKeys


@dataclass(frozen=True, slots=True)
class IndexAudit:
    """One index. `unparsed`: names that are neither a tenant's, nor `public`, nor the default namespace's."""

    info: IndexInfo
    namespaces: tuple[NamespaceAudit, ...]
    quota: int
    usage: Usage

    @property
    def records(self) -> int:
        return sum(namespace.records for namespace in self.namespaces)

    @property
    def unparsed(self) -> tuple[str, ...]:
        known = {names.DEFAULT, names.PUBLIC}
        return tuple(
            namespace.name for namespace in self.namespaces if namespace.tenant is None and namespace.name not in known
        )

    @property
    def room(self) -> int:
        """Return how many more namespaces the index may hold."""
        return max(0, self.quota - len(self.namespaces))


def audit_indexes(store: Store) -> list[IndexInfo]:
    """Return every index of the project: name, kind, dimension, metric, host."""
    return patiently(store.indexes)


def audit_index(store: Store, index: str, *, quota: int = NAMESPACE_QUOTA) -> IndexAudit:
    """Audit one index. An index that cannot list ids shows no namespaces. Raises NotFound if there is no such index."""
    surveyor = Surveyor(store)
    info = surveyor.describe(index)
    if info.kind in (Kind.DOCUMENT, Kind.POD):
        return IndexAudit(info, (), quota, Usage())
    namespaces = surveyor.namespaces(info)
    total = sum(namespace.records for namespace in namespaces.values())
    reader = surveyor.reader(info)
    largest = set(sorted(namespaces, key=lambda name: namespaces[name].records, reverse=True)[:SAMPLED_NAMESPACES])
    audits = tuple(
        NamespaceAudit(
            name=name,
            records=namespace.records,
            exact=namespace.exact,
            share=namespace.records / total if total else 0.0,
            tenant=names.parse(name),
            keys=_keys(reader, name) if name in largest else MetadataKeys(),
        )
        for name, namespace in namespaces.items()
    )
    return IndexAudit(info, audits, quota, reader.usage)


def sample_records(reader: Reader, number: int) -> Iterator[tuple[str, Record]]:
    """Yield up to `number` records with their namespaces, taken in turn from each namespace, largest first."""
    listed = patiently(lambda: list(reader.index.namespaces()))
    streams = {
        namespace.name: reader.records(namespace.name, islice(reader.ids(namespace.name), number))
        for namespace in sorted(listed, key=lambda namespace: namespace.count, reverse=True)
    }
    taken = 0
    while streams and taken < number:
        for name in list(streams)[: number - taken]:
            record = next(streams[name], None)
            if record is None:
                del streams[name]
            else:
                taken += 1
                yield name, record


def _keys(reader: Reader, namespace: str) -> MetadataKeys:
    keys = MetadataKeys()
    for record in reader.records(namespace, islice(reader.ids(namespace), SAMPLED_RECORDS)):
        keys.add(record)
    return keys
