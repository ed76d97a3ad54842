"""The target of a record: pure functions of (record, plan, ownership). No I/O, so the answer is the same on every read.

The first rule that answers wins: the move's fixed target, the record's own `creator_id` and `twin_id`, the ownership
snapshot (by the record's `twin_id`, by its source, by its id), then the plan's rule for orphans.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, Protocol

from vecfleet import names
from vecfleet.errors import BadName
from vecfleet.owners import LOOKUP_KEY, Owner, Ownership, owner_of
from vecfleet.records import Record

__all__ = ["Fixed", "Owner", "Ownership", "Routed", "Router", "Rule", "Unrouted"]

Rule = Literal["move", "metadata", "twin", "source", "record", "review"]


@dataclass(frozen=True, slots=True)
class Routed:
    """The target namespace and the owner to enrich with (None: only the origin is added).

    `rule` names what answered: the move's fixed target, the record's own `creator_id`, the look-up by its `twin_id`,
    by its source or by its id, or the rule for orphans.
    """

    target: str
    owner: Owner | None
    rule: Rule = "move"

    @property
    def needs_review(self) -> bool:
        return self.rule == "review"


@dataclass(frozen=True, slots=True)
class Unrouted:
    """A record that no rule may place: it is parked with this reason, for a person."""

    reason: str


class Fixed(Protocol):
    """The part of a move that routing needs; `migrations.plan.PlannedMove` and the job table's moves both fit."""

    @property
    def to(self) -> str | None: ...
    @property
    def creator(self) -> str | None: ...
    @property
    def twin(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Router:
    """The routing rules of one job. `review_namespace` is None where orphans are parked."""

    ownership: Ownership = field(default_factory=Ownership)
    lookup_key: str = LOOKUP_KEY
    review_namespace: str | None = None

    def route(self, record: Record, move: Fixed) -> Routed | Unrouted:
        if move.to is not None:
            return _fixed(move.to, move.creator, move.twin)
        answer = owner_of(record, self.ownership, self.lookup_key)
        if answer is not None:
            owner, rule = answer
            try:
                return Routed(names.build(owner.creator, owner.twin), owner, rule)
            except BadName as error:
                return Unrouted(f"its owner's name cannot be a namespace: {error.message}")
        if self.review_namespace is not None:
            return Routed(self.review_namespace, None, "review")
        return Unrouted("no owner: neither its metadata nor the ownership look-up names one")


@lru_cache(maxsize=1_024)  # the same answer for every record of a move
def _fixed(to: str, creator: str | None, twin: str | None) -> Routed:
    return Routed(to, Owner(creator, twin) if creator else None)
