"""Place a record: give its target and its enriched form, or why it is parked. Pure: the same answer on every read."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from migrations.enriching import Conflict, change
from migrations.mapping import MARK
from migrations.plan import Policies
from migrations.reversing import Backward
from migrations.routing import Fixed, Owner, Router, Unrouted
from orchestrator.core.model import ParkedRecord
from vecfleet.digests import record_digest
from vecfleet.errors import BadRequest
from vecfleet.records import FLOAT32_BYTES, Metadata, Record
from vecfleet.stores import rules
from vecfleet.stores.base import Index, Kind
from vecfleet.structs import Struct

# Integers up to here are exact as float64, which is how the service keeps every number.
_EXACT_INTEGER = 2**53


@dataclass(frozen=True, slots=True)
class Placed:
    """A record on its way: its target, its owner, the form to send, and the digest of what the target will return.

    `record.id` is its id at the target, `source_id` its id at the source. They differ if ids are prefixed.
    """

    source_id: str
    target: str
    owner: Owner | None
    record: Record
    digest: int


@dataclass(frozen=True, slots=True)
class Placer:
    """The rules of one move."""

    source: str
    move: Fixed
    router: Router
    policies: Policies
    target: Index
    prefix: str = ""
    backward: Backward | None = None

    def place(self, record: Record) -> Placed | ParkedRecord:
        """Place a record with the vector it has; where the plan embeds, `with_values` gives it its own."""
        problem = self._unsendable(record)
        if problem is not None:
            return ParkedRecord(record.id, problem)
        if self.backward is not None:
            answer = self.backward.take_back(record, self.source)
            if isinstance(answer, Unrouted):
                return ParkedRecord(record.id, answer.reason)
            return self._placed(record, answer[0], None, answer[1])
        routed = self.router.route(record, self.move)
        if isinstance(routed, Unrouted):
            return ParkedRecord(record.id, routed.reason)
        enriched = change(record, self.source, routed, self.policies)
        if isinstance(enriched, Conflict):
            return ParkedRecord(record.id, enriched.reason)
        return self._placed(record, routed.target, routed.owner, enriched)

    def _placed(self, record: Record, target: str, owner: Owner | None, enriched: Record) -> Placed | ParkedRecord:
        try:
            metadata_bytes = rules.metadata_bytes(enriched.metadata)
        except BadRequest as error:
            return ParkedRecord(record.id, f"its {error.message}")
        limit = self.target.limits.metadata_bytes
        if metadata_bytes > limit:
            travelling = len(str(enriched.metadata.get(MARK, "")).encode())
            why = f"; {travelling:,} of them record how to undo its metadata map" if travelling else ""
            return ParkedRecord(record.id, f"its metadata would be over {limit:,} bytes{why}")
        if self.prefix:
            enriched = replace(enriched, id=self.target_id(record.id))
            if len(enriched.id) > self.target.limits.id_chars:
                return ParkedRecord(
                    record.id, f"its prefixed id would be over {self.target.limits.id_chars} characters"
                )
        digest = record_digest(self.target.normalise(enriched))
        return Placed(record.id, target, owner, enriched, digest)

    def with_values(self, placed: Placed, values: bytes) -> Placed:
        """Return a placed record with the vector of its text."""
        record = replace(placed.record, values=values)
        return replace(placed, record=record, digest=record_digest(self.target.normalise(record)))

    @property
    def leads_back(self) -> bool:
        """Say whether a record at a target carries what is needed to restore its form in the source."""
        metadata_map = self.policies.metadata_map
        known = metadata_map is None or metadata_map.travels
        return self.policies.enrich and known and self.backward is None

    def origin(self, record: Record, namespace: str) -> Record | None:
        """Return what a record at a target was in this move's source; None if it does not lead back there."""
        if not self.leads_back:
            return None
        policies = self.policies
        owners = self.move.creator is not None or self.move.to is None
        backward = Backward((self.source,), policies.review, policies.metadata_map, owners=owners)
        answer = backward.take_back(record, namespace)
        if isinstance(answer, Unrouted):
            return None
        return replace(answer[1], id=record.id.removeprefix(self.prefix))

    def target_id(self, source_id: str) -> str:
        return self.prefix + source_id

    def _unsendable(self, record: Record) -> str | None:
        info = self.target.info
        dense = info.kind is not Kind.SPARSE and self.policies.embedding is None
        if dense and info.dimension and len(record.values) != info.dimension * FLOAT32_BYTES:
            return f"it has {record.dimension} dimensions, the target has {info.dimension}"
        if info.kind is Kind.SPARSE and not record.sparse:
            return "it has no sparse values, and the target holds nothing else"
        if self.policies.numbers == "park" and _has_inexact_number(record.metadata):
            return "a number in its metadata cannot be kept exactly"
        return None


def _has_inexact_number(metadata: Metadata) -> bool:
    if isinstance(metadata, Struct):  # finite floats, all of them
        return False
    for value in metadata.values():
        if isinstance(value, float):
            if not math.isfinite(value):
                return True
        elif isinstance(value, int) and abs(value) > _EXACT_INTEGER:  # true and false are 1 and 0
            return True
    return False


def place_all(placer: Placer, records: Mapping[str, Record]) -> tuple[dict[str, Placed], list[ParkedRecord]]:
    """Return every record placed or parked, the placed ones by their id at the source."""
    placed: dict[str, Placed] = {}
    parked: list[ParkedRecord] = []
    for record_id, record in records.items():
        answer = placer.place(record)
        if isinstance(answer, Placed):
            placed[record_id] = answer
        else:
            parked.append(answer)
    return placed, parked
