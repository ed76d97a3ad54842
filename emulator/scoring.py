"""Nearest neighbours by exact search in float32: dense, sparse and hybrid."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emulator.records import Record, Sparse

BLOCK = 4096  # records scored at once: limits the copy of their vectors

Floats = NDArray[np.float32]


class Wanted(NamedTuple):
    """The goal of a query: a dense vector, a sparse one, or both (hybrid: the scores add)."""

    values: bytes
    sparse: Sparse | None


class Match(NamedTuple):
    record: Record
    score: float


def best(records: Sequence[Record], wanted: Wanted, metric: str, top_k: int) -> list[Match]:
    """Return the `top_k` best matches, best first; equal scores in the order of their ids."""
    scored = [record for record in records if _comparable(record, wanted)]
    if not scored:
        return []
    scores = np.concatenate([_scores(block, wanted, metric) for block in _blocks(scored)])
    rank = scores if metric == "euclidean" and wanted.values else -scores
    candidates = np.arange(len(scored))
    if top_k < len(scored):
        threshold = np.partition(rank, top_k - 1)[top_k - 1]
        candidates = candidates[rank <= threshold]
    order = sorted(candidates.tolist(), key=lambda i: (float(rank[i]), scored[i].id))
    return [Match(scored[i], float(scores[i])) for i in order[:top_k]]


def _comparable(record: Record, wanted: Wanted) -> bool:
    if wanted.values:
        return len(record.values) == len(wanted.values)
    return record.sparse is not None


def _blocks(records: Sequence[Record]) -> Iterator[list[Record]]:
    rest = iter(records)
    while block := list(islice(rest, BLOCK)):
        yield block


def _scores(records: Sequence[Record], wanted: Wanted, metric: str) -> Floats:
    scores = np.zeros(len(records), "<f4")
    if wanted.values:
        query = np.frombuffer(wanted.values, "<f4")
        matrix = np.frombuffer(b"".join(record.values for record in records), "<f4").reshape(len(records), -1)
        scores = _dense(matrix, query, metric)
    if wanted.sparse:
        scores = scores + np.array([_overlap(record.sparse, wanted.sparse) for record in records], "<f4")
    return scores


def _dense(matrix: Floats, query: Floats, metric: str) -> Floats:
    if metric == "euclidean":
        difference = matrix - query
        return np.asarray(np.einsum("ij,ij->i", difference, difference), "<f4")
    dots = matrix @ query
    if metric == "dotproduct":
        return np.asarray(dots, "<f4")
    lengths = np.sqrt(np.einsum("ij,ij->i", matrix, matrix)) * np.sqrt(query @ query)
    return np.asarray(np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 0), "<f4")


def _overlap(left: Sparse | None, right: Sparse) -> float:
    """Return the dot product of two sparse vectors; indices are sorted and unique."""
    if left is None:
        return 0.0
    _, here, there = np.intersect1d(
        np.frombuffer(left.indices, "<u4"), np.frombuffer(right.indices, "<u4"), assume_unique=True, return_indices=True
    )
    return float(np.frombuffer(left.weights, "<f4")[here] @ np.frombuffer(right.weights, "<f4")[there])
