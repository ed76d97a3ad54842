"""Shadow reads: both sides' answers to the same queries, added up as evidence for the next step of a roll-out."""

import random
import threading
from bisect import bisect_left
from collections.abc import Callable
from typing import Any

import msgspec

# Upper edges in ms; the last bucket has none. 100, 150 and 200 are the thresholds of `query_metrics`.
EDGES_MS = (5.0, 10.0, 20.0, 35.0, 50.0, 75.0, 100.0, 150.0, 200.0, 500.0, 1_000.0)


class Evidence(msgspec.Struct, forbid_unknown_fields=True):
    """Sums over queries of the new side: they can be added up over processes.

    `compared` counts the queries that the old side answered with something; `overlap` is the sum of the shares that the
    new side found too. `buckets` count the new side's latencies by EDGES_MS, one more for those beyond.
    """

    queries: int = 0
    errors: int = 0
    compared: int = 0
    overlap: float = 0.0
    buckets: list[int] = msgspec.field(default_factory=lambda: [0] * (len(EDGES_MS) + 1))

    def add(self, new_ms: float, error: bool, overlap: float | None) -> None:
        self.queries += 1
        self.errors += error
        self.buckets[bisect_left(EDGES_MS, new_ms)] += 1
        if overlap is not None:
            self.compared += 1
            self.overlap += overlap

    def plus(self, other: "Evidence") -> "Evidence":
        return Evidence(
            self.queries + other.queries,
            self.errors + other.errors,
            self.compared + other.compared,
            self.overlap + other.overlap,
            [mine + its for mine, its in zip(self.buckets, other.buckets, strict=True)],
        )

    @property
    def error_rate(self) -> float:
        return self.errors / self.queries if self.queries else 0.0

    @property
    def mean_overlap(self) -> float | None:
        return self.overlap / self.compared if self.compared else None

    @property
    def p95_ms(self) -> float:
        """The upper edge of the bucket that the 95th percentile falls into; infinite in the last one."""
        wanted, seen = 0.95 * self.queries, 0
        for edge, count in zip((*EDGES_MS, float("inf")), self.buckets, strict=True):
            seen += count
            if seen >= wanted:
                return edge if self.queries else 0.0
        return 0.0


_DECODER = msgspec.json.Decoder(Evidence)


def read_evidence(body: bytes) -> Evidence:
    """Return the evidence. Raises ValueError saying what is wrong with it."""
    evidence = _DECODER.decode(body)
    if len(evidence.buckets) != len(EDGES_MS) + 1:
        raise ValueError(f"evidence has {len(EDGES_MS) + 1} buckets")
    if min(evidence.queries, evidence.errors, evidence.compared, *evidence.buckets) < 0 or evidence.queries != sum(
        evidence.buckets
    ):
        raise ValueError("its counts do not add up")
    return evidence


def evidence_of(body: Any) -> Evidence:
    """Return the evidence in the mapping that a database gives back."""
    return msgspec.convert(body, Evidence)


class ShadowLog:
    """Collects evidence, by job (None: routes of no job), until somebody takes it. Shared by threads."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._lock = threading.Lock()
        self._by_job: dict[int | None, Evidence] = {}

    def drawn(self, share: float) -> bool:
        """Say whether this query is one of the share that is asked of both sides."""
        return share > 0 and self._chance() < share

    def record(self, job: int | None, new_ms: float, error: bool, overlap: float | None) -> None:
        with self._lock:
            self._by_job.setdefault(job, Evidence()).add(new_ms, error, overlap)

    def seen(self) -> dict[int | None, Evidence]:
        with self._lock:
            return {job: evidence.plus(Evidence()) for job, evidence in self._by_job.items()}

    def take(self) -> dict[int | None, Evidence]:
        """Return the evidence collected since the last time."""
        with self._lock:
            taken, self._by_job = self._by_job, {}
        return taken

    def give_back(self, job: int | None, evidence: Evidence) -> None:
        """Put back evidence that was taken and could not be handed on."""
        with self._lock:
            self._by_job[job] = self._by_job.get(job, Evidence()).plus(evidence)
