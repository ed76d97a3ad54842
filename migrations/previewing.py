"""Preview a plan's metadata map: ten records before and after it, for the person who reviews the plan. Read-only.

The records are shown and not kept: neither a plan nor the job table holds any metadata.
"""

from dataclasses import dataclass
from itertools import islice
from math import ceil
from pathlib import Path

from migrations.idsources import count_ids
from migrations.mapping import MetadataMap
from migrations.plan import Plan
from migrations.reversing import Backward
from migrations.routing import Unrouted
from migrations.survey import Surveyor
from vecfleet.enriching import Conflict
from vecfleet.records import Metadata, Record
from vecfleet.stores.base import Store

RECORDS = 10


@dataclass(frozen=True, slots=True)
class MappedRecord:
    """A record before and after the map. Without `after` the record would be parked for the reason `parked`."""

    namespace: str
    id: str
    before: Metadata
    after: Metadata | None
    parked: str | None = None


def preview(store: Store, plan: Plan, root: Path) -> list[MappedRecord]:
    """Return up to ten records of the plan's sources in `store`; none if the plan has no map.

    `root`: the folder of the id sources, for a store that cannot list. Costs some ten read units.
    """
    metadata_map = plan.policies.metadata_map
    if metadata_map is None:
        return []
    return [_mapped(plan, metadata_map, namespace, record) for namespace, record in _sample(store, plan, root)]


def _sample(store: Store, plan: Plan, root: Path) -> list[tuple[str, Record]]:
    """Return records of as many namespaces as possible, in the plan's order: the largest namespace first."""
    surveyor = Surveyor(store)
    reader = surveyor.reader(plan.source.named(surveyor.describe(plan.source.index)))
    files = plan.ids_files
    source = count_ids(root, files) if files else None
    moves = plan.moves[:RECORDS]
    sample: list[tuple[str, Record]] = []
    for left, move in zip(range(len(moves), 0, -1), reversed(moves), strict=True):  # the small ones leave room for more
        ids = source.ids(move.source) if source is not None else reader.ids(move.source)
        records = reader.records(move.source, islice(ids, ceil((RECORDS - len(sample)) / left)))
        sample = [*((move.source, record) for record in records), *sample]
    return sample


def _mapped(plan: Plan, metadata_map: MetadataMap, namespace: str, record: Record) -> MappedRecord:
    before = record.metadata
    if plan.takes_back:
        review, owners = plan.policies.review, plan.takes_back_owners
        backward = Backward(plan.old_namespaces, review, metadata_map, owners=owners)
        answer = backward.take_back(record, namespace)
        if isinstance(answer, Unrouted):
            return MappedRecord(namespace, record.id, before, None, answer.reason)
        return MappedRecord(namespace, record.id, before, answer[1].metadata)
    after = metadata_map.applied(before, plan.policies.conflicts)
    if isinstance(after, Conflict):
        return MappedRecord(namespace, record.id, before, None, after.reason)
    return MappedRecord(namespace, record.id, before, after)
