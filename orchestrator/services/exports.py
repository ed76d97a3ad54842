"""Compare an export with its index by the content of every record, not by counts."""

from collections.abc import Sequence

from vecfleet.digests import Tally, record_digest
from vecfleet.stores.base import Index
from vecfleet.tenancy.finding import TenantPlace, records


def unlike(index: Index, export: Index, places: Sequence[TenantPlace]) -> list[str]:
    """Return the namespaces whose export differs from their present content. Reads both sides in full."""
    return [
        place.name for place in places if _content(index, place.name, export) != _content(export, place.name, export)
    ]


def _content(index: Index, namespace: str, kept_as: Index) -> Tally:
    return Tally.of_digests(record_digest(kept_as.normalise(record)) for record in records(index, namespace))
