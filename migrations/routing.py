"""Where a record goes: pure functions of (record, plan, ownership). No I/O, so the answer is the same on every read.

The first rule that answers wins: the move's fixed target, the record's own `creator_id` and `twin_id`, the ownership
snapshot (by the record's `twin_id`, by its source, by its id), then the plan's rule for orphans.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from vecfleet import names
from vecfleet.errors import BadName
from vecfleet.records import Record


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose something is: the creator, and the twin as it appears in namespace names (None: creator-wide)."""

    creator: str
    twin: str | None = None


@dataclass(frozen=True, slots=True)
class Ownership:
    """The look-up's answers, read once. Keys are twin ids, and source ids or record ids."""

    twins: Mapping[str, Owner] = field(default_factory=dict)
    sources: Mapping[str, Owner] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Routed:
    """The target namespace and the owner to enrich with (None: nothing to add but where it came from)."""

    target: str
    owner: Owner | None
    needs_review: bool = False


@dataclass(frozen=True, slots=True)
class Unrouted:
    """No rule may place this record: it is parked with this reason, for a person."""

    reason: str


class Fixed(Protocol):
    """What routing needs of a move; `migrations.plan.PlannedMove` and the job table's moves both fit."""

    @property
    def to(self) -> str | None: ...
    @property
    def creator(self) -> str | None: ...
    @property
    def twin(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Router:
    """The routing rules of one job. `review_namespace` is None where orphans are parked."""

    ownership: Ownership = Ownership()
    lookup_key: str = "source_id"
    review_namespace: str | None = None

    def route(self, record: Record, move: Fixed) -> Routed | Unrouted:
        if move.to is not None:
            return Routed(move.to, Owner(move.creator, move.twin) if move.creator else None)
        owner = self._owner(record)
        if owner is not None:
            try:
                return Routed(names.build(owner.creator, owner.twin), owner)
            except BadName as error:
                return Unrouted(f"its owner's name cannot be a namespace: {error.message}")
        if self.review_namespace is not None:
            return Routed(self.review_namespace, None, needs_review=True)
        return Unrouted("no owner: neither its metadata nor the ownership look-up names one")

    def _owner(self, record: Record) -> Owner | None:
        creator, twin = _text(record, "creator_id"), _text(record, "twin_id")
        if creator is not None:
            return Owner(creator, twin)
        if twin is not None and twin in self.ownership.twins:
            return self.ownership.twins[twin]
        source = _text(record, self.lookup_key)
        if source is not None and source in self.ownership.sources:
            return self.ownership.sources[source]
        return self.ownership.sources.get(record.id)


def _text(record: Record, key: str) -> str | None:
    value = record.metadata.get(key)
    return value if isinstance(value, str) and value else None
