"""Vectors without a model, for rehearsals and tests."""

import hashlib
import re
from collections.abc import Sequence

import numpy as np

_DIMENSION = 1_536


class HashEmbedder:
    """Vectors from the words of a text, the same for the same words: no meaning, but near texts are near."""

    model = "words-by-hash"

    def embed(self, texts: Sequence[str], dimension: int | None) -> list[list[float]]:
        return [self._one(text, dimension or _DIMENSION) for text in texts]

    @staticmethod
    def _one(text: str, dimension: int) -> list[float]:
        total = np.zeros(dimension)
        for word in re.findall(r"\w+", text.lower()) or [""]:
            seed = int.from_bytes(hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()[:8])
            total += np.random.default_rng(seed).standard_normal(dimension)
        unit: list[float] = (total / np.linalg.norm(total)).astype("<f4").tolist()
        return unit
