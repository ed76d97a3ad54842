"""Rehearsing an erasure: seeds 001 ("Day 2") and 002 ask for this before a structure is trusted, measured.

A twin goes and its neighbours stay; its creator goes and everybody else stays. Every printed result was looked at, not
assumed: the namespaces of others are listed, with their ids, before and after.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vecfleet import names
from vecfleet.errors import Refused
from vecfleet.names import Tenant
from vecfleet.patience import patiently
from vecfleet.records import Record
from vecfleet.stores.base import Index
from vecfleet.tenancy import erasing, finding
from vecfleet.tenancy.fences import Books
from vecfleet.tenancy.query_metrics import ERASURE_TARGET_S, P95_WARN_MS

QUERIES = 100


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the rehearsal: its verdict, and its measurement."""

    name: str
    passed: bool
    said: str
    measured: str

    def __str__(self) -> str:
        return f"{self.name + ':':<18} {self.said}  ({self.measured})"


def rehearse(index: Index, creator: str, twin: str, books: Books, who: str, lands_s: float) -> tuple[Result, ...]:
    """Measure queries, erase the twin, then the creator, and look each time at what had to stay. For good.

    Raises Refused if the twin, or a second place of its creator, is missing: nothing would be rehearsed.
    """
    own = finding.namespaces_of(index, creator, twin)
    if not own or len(finding.namespaces_of(index, creator)) < 2:
        raise Refused(
            f"a rehearsal needs the twin {twin!r} and one more namespace of {creator!r}",
            code="namespace-missing",
            next_step="write some records for a test creator with two twins",
        )
    asked = _query(index, own[0].name)
    twin_stays = _census(index, lambda name: not names.belongs_to(name, creator, twin))
    of_twin = erasing.erase([index], Tenant(creator, twin), books=books, who=who, lands_s=lands_s)
    twin_kept = _census(index, lambda name: not names.belongs_to(name, creator, twin)) == twin_stays
    creator_stays = _census(index, lambda name: _is_others(name, creator))
    of_creator = erasing.erase([index], Tenant(creator), books=books, who=who, lands_s=lands_s)
    creator_kept = _census(index, lambda name: _is_others(name, creator)) == creator_stays
    return (
        _deletion("Twin Deletion", of_twin, twin_kept),
        _deletion("Creator Deletion", of_creator, creator_kept),
        asked,
        _gdpr((of_twin, of_creator)),
    )


def _deletion(name: str, erased: erasing.Erased, kept: bool) -> Result:
    passed = erased.confirmed and bool(erased.deleted) and kept
    beside = "nobody else's touched" if kept else "OTHERS' RECORDS CHANGED"
    return Result(name, passed, _said(passed), f"{erased.records:,} records in {erased.seconds:.2f} s, {beside}")


def _gdpr(erasures: Sequence[erasing.Erased]) -> Result:
    slowest = max(erased.seconds for erased in erasures)
    certified = sum(bool(erased.certificate) for erased in erasures)
    passed = certified == len(erasures) and slowest <= ERASURE_TARGET_S
    return Result("GDPR Compliance", passed, _said(passed), f"{certified} certificates, {slowest:.2f} s at most")


def _query(index: Index, namespace: str) -> Result:
    like = next(finding.records(index, namespace), None)
    took = [_timed(index, namespace, like) for _ in range(QUERIES)] if like is not None else []
    if not took:
        return Result("Query Performance", False, "NOT MEASURED", "the twin has no records")
    p95 = float(np.percentile(took, 95)) * 1_000
    return Result(
        "Query Performance", p95 <= P95_WARN_MS, "PASS" if p95 <= P95_WARN_MS else "SLOW", f"p95 {p95:.0f} ms"
    )


def _timed(index: Index, namespace: str, like: Record) -> float:
    started = time.perf_counter()
    index.query(namespace, like, 10)
    return time.perf_counter() - started


def _census(index: Index, stays: Callable[[str], bool]) -> dict[str, tuple[int, int]]:
    """Return the content of each namespace that has to stay, by its ids."""
    there = [info.name for info in patiently(lambda: list(index.namespaces())) if stays(info.name)]
    return {
        place.name: (place.count, place.digest)
        for place in finding.in_parallel(lambda name: finding.entire(index, name), there)
    }


def _is_others(name: str, creator: str) -> bool:
    """Say whether a namespace is another's by name; shared ones rightly lose this creator's records."""
    named = names.parse(name)
    return named is not None and named.creator != creator


def _said(passed: bool) -> str:
    return "PASS" if passed else "FAIL"
