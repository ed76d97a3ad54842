"""Whether an export holds what the index it was made of holds: by the content of every record, not by its count."""

from collections.abc import Sequence

from vecfleet.digests import Tally, record_digest
from vecfleet.stores.base import Index
from vecfleet.tenancy.finding import Found, records


def unlike(index: Index, export: Index, places: Sequence[Found]) -> list[str]:
    """Which of these namespaces are not in the export as they are now. Reads both sides whole."""
    return [one.name for one in places if _content(index, one.name, export) != _content(export, one.name, export)]


def _content(index: Index, namespace: str, kept_as: Index) -> Tally:
    return Tally.of_digests(record_digest(kept_as.normalise(record)) for record in records(index, namespace))
