"""The target of a record: pure functions of (record, plan, ownership). No I/O, so every read gets the same answer.

The first rule that answers wins: the move's fixed target; if the move has a template, the record's value of the plan's
key, then the rule for records without it; the record's own `creator_id` and `twin_id`, the ownership snapshot (by the
record's `twin_id`, by its source, by its id), then the plan's rule for orphans.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, Protocol

from migrations.plan import Plan, PlannedMove, Split
from migrations.renaming import Template, parsed
from vecfleet import names
from vecfleet.errors import BadName
from vecfleet.owners import LOOKUP_KEY, Owner, Ownership, owner_of
from vecfleet.records import MetadataValue, Record

__all__ = ["ByKey", "Fixed", "Owner", "Ownership", "Routed", "Router", "Rule", "Unrouted"]

Rule = Literal["move", "metadata", "twin", "source", "record", "review", "value", "otherwise"]


@dataclass(frozen=True, slots=True)
class Routed:
    """The target namespace and the owner to enrich with (None: only the origin is added).

    `rule` names the rule that answered: the move's fixed target, the record's own `creator_id`, the look-up by its
    `twin_id`, by its source or by its id, the rule for orphans, the record's value of the plan's key, or the rule for
    records without this key.
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
    """The fields of a move that routing needs. `migrations.plan.PlannedMove` and the job table's moves have them."""

    @property
    def source(self) -> str: ...
    @property
    def to(self) -> str | None: ...
    @property
    def creator(self) -> str | None: ...
    @property
    def twin(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class ByKey:
    """Route records by their value of one metadata key: a template for each source that is split."""

    key: str
    templates: Mapping[str, Template]
    otherwise: str | None = None

    @classmethod
    def of(cls, split: Split | None, moves: Iterable[PlannedMove]) -> "ByKey | None":
        if split is None:
            return None
        templates = {move.source: parsed(move.template) for move in moves if move.template is not None}
        return cls(split.key, templates, split.otherwise)

    def route(self, record: Record, template: Template) -> Routed | Unrouted:
        value = record.metadata.get(self.key)
        if value is None or value == "":
            if self.otherwise is None:
                return Unrouted(f"it has no {self.key!r} in its metadata")
            return Routed(self.otherwise, owner_named(self.otherwise), "otherwise")
        text = _as_text(value)
        if text is None:
            return Unrouted(f"its {self.key!r} is neither a text nor a number nor true or false")
        target = template.of(text)
        if names.objection(target) is not None:
            return Unrouted(
                f"its {self.key!r} makes a name that no namespace has: 1 to {names.MAX_CHARS} ASCII characters"
            )
        return Routed(target, owner_named(target), "value")


def _as_text(value: MetadataValue) -> str | None:
    """Write a value as part of a name, the same whether a store keeps it as an integer or as float64."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        if not math.isfinite(value):
            return None
        return str(int(value)) if value == int(value) else repr(value)
    return value if isinstance(value, str) else None


def owner_named(namespace: str) -> Owner | None:
    """Return the owner of a namespace that has a tenant's name."""
    tenant = names.parse(namespace)
    return Owner(tenant.creator, tenant.twin) if tenant is not None else None


@dataclass(frozen=True, slots=True)
class Router:
    """The routing rules of one job. `review_namespace` None: orphans are parked."""

    ownership: Ownership = field(default_factory=Ownership)
    lookup_key: str = LOOKUP_KEY
    review_namespace: str | None = None
    by_key: ByKey | None = None

    @classmethod
    def of(cls, plan: Plan, ownership: Ownership) -> "Router":
        return cls(ownership, plan.lookup_key, plan.policies.review, ByKey.of(plan.split, plan.moves))

    def route(self, record: Record, move: Fixed) -> Routed | Unrouted:
        if move.to is not None:
            return _fixed(move.to, move.creator, move.twin)
        if self.by_key is not None and move.source in self.by_key.templates:
            return self.by_key.route(record, self.by_key.templates[move.source])
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
