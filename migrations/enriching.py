"""The change a plan makes to a record: from a record and its route to the record that the target should hold. Pure.

First the plan's map changes the metadata, then the plan's own keys are added. The way back removes these keys first.
"""

from collections.abc import Mapping

from migrations.plan import Policies
from migrations.routing import Routed
from vecfleet.enriching import PREVIOUS, SOURCE, Conflict, ConflictPolicy, additions, enriched, restored
from vecfleet.records import Record

__all__ = ["PREVIOUS", "SOURCE", "Conflict", "ConflictPolicy", "change", "enrich", "restore"]


def change(record: Record, source: str, routed: Routed, policies: Policies) -> Record | Conflict:
    """Return the record of `source` as its target should hold it, or the key that stands in the way."""
    if policies.metadata_map is not None:
        metadata = policies.metadata_map.applied(record.metadata, policies.conflicts)
        if isinstance(metadata, Conflict):
            return metadata
        record = record.with_metadata(metadata)
    return enrich(record, source, routed, policies.conflicts) if policies.enrich else record


def enrich(record: Record, source: str, routed: Routed, policy: ConflictPolicy) -> Record | Conflict:
    """Return the record as the target should hold it, or the key that stands in the way."""
    metadata = enriched(record.metadata, _added(source, routed), policy)
    return metadata if isinstance(metadata, Conflict) else record.with_metadata(metadata)


def restore(record: Record, source: str, routed: Routed) -> Record:
    """Return the record as it was. Only keys that still hold the value from `enrich` are changed."""
    return record.with_metadata(restored(record.metadata, _added(source, routed)))


def _added(source: str, routed: Routed) -> Mapping[str, str | bool]:
    return additions(source, routed.owner, needs_review=routed.needs_review)
