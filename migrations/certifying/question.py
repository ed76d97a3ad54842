"""A question to the service, our belief, and the scratch index in which it is asked."""

import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from migrations.certifying.metering import Meter
from migrations.certifying.wire import Reply, Wire
from vecfleet.patience import patiently
from vecfleet.stores.base import Index, IndexInfo, Kind, Usage

DIMENSION = 4
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0


class Scratch(StrEnum):
    """The scratch indexes, in the order in which they are made; the service converts the last but one into the last."""

    VECTORS = "vectors"
    DOTPRODUCT = "dotproduct"
    HYBRID = "hybrid"
    SPARSE = "sparse"
    DOCUMENTS = "documents"
    CONVERTIBLE = "convertible"
    CONVERTED = "converted"


_DENSE = {"type": "dense_vector", "dimension": DIMENSION, "metric": "dotproduct"}
_COSINE = {**_DENSE, "metric": "cosine"}
_SPARSE = {"type": "sparse_vector"}
EMBEDDING = "embedding"
"""The field for vectors of the scratch index of documents."""

_SHAPES: Mapping[Scratch, tuple[Kind, Mapping[str, Any]]] = {
    Scratch.VECTORS: (Kind.DENSE, {"_values": _COSINE}),
    Scratch.DOTPRODUCT: (Kind.DENSE, {"_values": _DENSE}),
    Scratch.HYBRID: (Kind.HYBRID, {"_values": _DENSE, "_sparse_values": _SPARSE}),
    Scratch.SPARSE: (Kind.SPARSE, {"_sparse_values": _SPARSE}),
    Scratch.DOCUMENTS: (Kind.DENSE, {EMBEDDING: _COSINE}),
    Scratch.CONVERTIBLE: (Kind.HYBRID, {"_values": _DENSE, "_sparse_values": _SPARSE}),
    Scratch.CONVERTED: (Kind.DENSE, {EMBEDDING: _DENSE}),
}


def kind_of(scratch: Scratch) -> Kind:
    """Return the kind that the scratch index is created as; the service may describe it as another."""
    return _SHAPES[scratch][0]


def described(scratch: Scratch, tags: Mapping[str, str]) -> IndexInfo:
    """Return the description of an index like which the scratch index is created."""
    kind, fields = _SHAPES[scratch]
    dimension = None if kind is Kind.SPARSE else DIMENSION
    return IndexInfo(scratch, kind, dimension, None, host="", tags=tags, schema={"fields": fields})


class NotShown(Exception):
    """A write showed in no read within the freshness wait."""


@dataclass(frozen=True, slots=True)
class Asker:
    """One scratch index, and the ways to ask it. `lanes`: our own client, by transport."""

    info: IndexInfo
    wire: Wire
    lanes: Mapping[str, Index]
    meter: Meter
    freshness_s: float

    def eventually(self, shows: Callable[[], bool]) -> bool:
        """Say whether it shows within the freshness wait."""
        until, pause = time.monotonic() + self.freshness_s, _FIRST_PAUSE_S
        while not shows():
            if time.monotonic() >= until:
                return False
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        return True

    def written(self, namespace: str, *vectors: Mapping[str, Any]) -> Reply:
        """Write vectors, and return the answer once a fetch shows them all. Raises NotShown."""
        reply = self.wire.upsert(namespace, vectors)
        ids = {vector["id"] for vector in vectors}
        if reply.ok and not self.eventually(lambda: ids <= self.fetched(namespace, *ids).keys()):
            raise NotShown
        return reply

    def fetched(self, namespace: str, *ids: str) -> Mapping[str, Any]:
        """Return the records that a fetch gives, by id, as they stand in its answer."""
        vectors: Mapping[str, Any] = self.wire.fetch(namespace, ids).body.get("vectors") or {}
        return vectors

    def paid(self, most: Usage, call: Callable[[], Any]) -> Any:
        """Call our own client, whose answer tells its cost; again, while the service cannot answer."""

        def charged() -> tuple[Any, Usage]:
            answer = call()
            return answer, answer if isinstance(answer, Usage) else answer.usage

        return patiently(lambda: self.meter.paid(most, charged))


@dataclass(frozen=True, slots=True)
class Question:
    """`belief`: what the emulator answers, word for word. `because`: what of ours rests on it.

    `switch`: the switch of the emulator that decides it, where sources about the service disagree.
    """

    id: str
    asks: str
    belief: str
    because: str
    of: Scratch
    ask: Callable[[Asker], str]
    switch: str | None = None


def vector(id: str, *values: float, **metadata: Any) -> dict[str, Any]:
    """Return a dense vector as it is sent; without values, those that follow from its id."""
    body: dict[str, Any] = {"id": id, "values": list(values) or [float(len(id)), 1.0, 0.5, -0.25]}
    return {**body, "metadata": metadata} if metadata else body


def bits(values: Sequence[float]) -> bytes:
    """Return numbers as float32 bytes."""
    return struct.pack(f"<{len(values)}f", *values)


def compared(sent: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """Say whether metadata came back as our digests compare them: key by key, numbers as float64, never as a bool."""
    differing = sorted(key for key in sent.keys() | given.keys() if not _equal(sent.get(key), given.get(key)))
    return f"other at {', '.join(map(repr, differing))}" if differing else "as written"


def _equal(sent: object, given: object) -> bool:
    if isinstance(sent, bool) or isinstance(given, bool):
        return sent is given
    return sent == given
