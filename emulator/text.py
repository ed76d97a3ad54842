"""Stand-ins for hosted models: deterministic, and good enough that texts which share words score higher."""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from emulator.records import Sparse

_WORD = re.compile(r"\w+")
# model -> dimensions; None: a sparse model
MODELS: Mapping[str, int | None] = {
    "multilingual-e5-large": 1024,
    "llama-text-embed-v2": 1024,
    "pinecone-sparse-english-v0": None,
}
RERANKERS = ("bge-reranker-v2-m3", "cohere-rerank-3.5", "pinecone-rerank-v0")


def words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def has_phrase(text: list[str], phrase: list[str]) -> bool:
    return count_phrase(text, phrase) > 0


def count_phrase(text: list[str], phrase: list[str]) -> int:
    """Return how often the words stand in the text side by side, in this order."""
    return sum(text[start : start + len(phrase)] == phrase for start in range(len(text) - len(phrase) + 1))


def embed_dense(text: str, dimension: int) -> bytes:
    """Return the normalised sum of one fixed random direction a word; an empty text has a direction of its own."""
    total = np.sum([_direction(word, dimension) for word in words(text) or [""]], axis=0, dtype="<f8")
    return bytes((total / np.linalg.norm(total)).astype("<f4").tobytes())


def embed_sparse(text: str) -> Sparse:
    """Return one index a word, weighted by how often it occurs."""
    counts = sorted((_hash(word), count) for word, count in Counter(words(text) or [""]).items())
    indices, weights = zip(*dict(counts).items(), strict=True)
    return Sparse(np.array(indices, "<u4").tobytes(), np.array(weights, "<f4").tobytes())


def relevance(query: str, text: str) -> float:
    """Score a text for a query from 0 to 1: the share of the query's words in it, less a little for length."""
    query_words, text_words = set(words(query)), words(text)
    if not query_words or not text_words:
        return 0.0
    return len(query_words & set(text_words)) / len(query_words) * (1 - 1 / (2 + 100 / len(text_words)))


def _hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=4).digest(), "little")


@lru_cache(maxsize=4096)
def _direction(word: str, dimension: int) -> NDArray[np.float32]:
    return np.random.default_rng(_hash(word)).standard_normal(dimension, dtype="<f4")
